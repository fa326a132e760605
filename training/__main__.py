"""`python -m training`: rebuild model, figures, adapters and card from the seed, then compare with the committed card.

Nothing that ships is touched unless --install is given. Stages can be run one at a time; each reads what the one before wrote.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from training import card
from training.bounds import inbox_bound, inbox_mix
from training.settings import BASE, POLISH, RUNS, SHIPPED, BaseRun

ROOT = Path(__file__).resolve().parents[1]
SHIPPED_AT = ROOT / "engine/inference/shipped"
STAGES = ("base", "polish", "measure", "adapters", "card")

# glibc would give freed pages back between steps and fault them in again. It reads these settings only at process start.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; default: all")
    parser.add_argument("--runs", type=Path, default=ROOT / "training/runs", help="where everything is written")
    parser.add_argument("--seed", type=int, default=BASE.seed)
    parser.add_argument("--install", action="store_true", help="replace the shipped model, adapters and card")
    arguments = parser.parse_args()
    if any(stage not in STAGES for stage in arguments.stages):
        parser.error(f"stages are {', '.join(STAGES)}")
    if any(os.environ.get(key) != value for key, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, "-m", "training", *sys.argv[1:]], {**os.environ, **ALLOCATOR})
    runs: Path = arguments.runs
    if arguments.stages:
        for stage in arguments.stages:
            _run(stage, runs, arguments.seed)
        # A stage alone has nothing to compare: the card is the last one's.
        if "card" not in arguments.stages:
            return 0
    else:
        _run("base", runs, arguments.seed)
        _run("polish", runs, arguments.seed)
        # Both need the finished model and nothing of each other; each keeps to one thread.
        measuring = subprocess.Popen([sys.executable, "-m", "training", "measure", "--runs", str(runs)])
        try:
            _run("adapters", runs, arguments.seed)
        finally:
            measured = measuring.wait()
        if measured:
            return measured
        _run("card", runs, arguments.seed)
    if arguments.install:
        install(runs)
        return 0
    return 0 if card.agrees(SHIPPED_AT / "aiwm-nano/card.json", runs / "card.json") else 1


def _run(stage: str, runs: Path, seed: int) -> None:
    if stage == "base":
        _train(replace(BASE, seed=seed), runs / "base", None)
    elif stage == "polish":
        _train(replace(POLISH, seed=seed), runs / "model", runs / "base")
    elif stage == "measure":
        _measure(runs)
    elif stage == "adapters":
        _train_adapters(runs)
    else:
        _card(runs)


def _train(run: BaseRun, out: Path, begin: Path | None) -> None:
    from training.base import train

    train(run, out, begin)


def _measure(runs: Path) -> None:
    from training.measure import base_figures

    _write(runs / "figures.json", base_figures(runs / "model"))


def _train_adapters(runs: Path) -> None:
    from training.adapters import train
    from training.measure import adapter_figures

    for run in RUNS:
        out = runs / "adapters" / run.skill
        record = train(run, runs / "model", out)
        _write(runs / f"adapter-{run.skill}.json", {"run": record, **adapter_figures(runs / "model", run.skill, out)})


def _card(runs: Path) -> None:
    figures = _read(runs / "figures.json")
    adapters = {run.skill: _read(runs / f"adapter-{run.skill}.json") for run in RUNS}
    bound = inbox_bound(figures["skills"], inbox_mix(ROOT / "examples/inbox.jsonl"))
    data = card.build([_read(runs / part / "run.json") for part in ("base", "model")], figures, adapters, bound, runs)
    _write(runs / "card.json", data)
    (runs / "MODEL_CARD.md").write_text(card.render(data), encoding="utf-8")


def install(runs: Path) -> None:
    """Copy what the package ships: model, two adapters, card."""
    model = SHIPPED_AT / "aiwm-nano"
    model.mkdir(parents=True, exist_ok=True)
    for name in card.MODEL_FILES:
        shutil.copyfile(runs / "model" / name, model / name)
    shutil.copyfile(runs / "card.json", model / "card.json")
    for run in SHIPPED:
        target = SHIPPED_AT / "adapters" / run.skill
        target.mkdir(parents=True, exist_ok=True)
        for name in card.ADAPTER_FILES:
            shutil.copyfile(runs / "adapters" / run.skill / name, target / name)
    for copy in (SHIPPED_AT / "MODEL_CARD.md", ROOT / "docs/model-card.md"):
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(runs / "MODEL_CARD.md", copy)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
