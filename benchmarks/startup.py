"""What the quick commands cost: CPU ms of `aiwm --version`, `--help` and `engine status` above a bare Python, in one run.

    python -m benchmarks.startup [--runs N]

Each round runs every case once, so that a busy machine hits all alike; medians of the CPU time (user + system) of the child.
Bars (DESIGN §7): `--version` at most 20 ms and `engine status` at most 40 ms above `python -c pass`. The status is asked of a
real engine on a home of its own; `task list` and an import of typer stand beside them for scale."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._report import write

ROOT = Path(__file__).parents[1]
BARE = "python -c pass"
BARS_MS = {"--version": 20.0, "--help": 20.0, "engine status": 40.0}


def cpu_ms(command: list[str], environment: dict[str, str]) -> float:
    """User and system time of one run of a command, in ms."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def cases(home: Path) -> dict[str, list[str]]:
    python = [sys.executable, "-P"]
    aiwm = [*python, "-m", "aiwm_tui.main"]
    script = Path(sys.executable).with_name("aiwm")
    found = {
        BARE: [*python, "-c", "pass"],
        "--version": [*aiwm, "--version"],
        "--help": [*aiwm, "--help"],
        "engine status": [*aiwm, "engine", "status", "--home", str(home)],
        "task list": [*aiwm, "task", "list", "--home", str(home), "--json"],
        "import typer": [*python, "-c", "import typer"],
    }
    if script.exists():
        found["--version, installed script"] = [str(script), "--version"]
    return found


def measure(runs: int) -> dict[str, list[float]]:
    """CPU ms of every run of every case, after a first round that reads files and writes byte code for all later ones."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory(prefix="aiwm-bench-") as folder:
        home = Path(folder) / "home"
        command = [sys.executable, "-P", "-m", "engine", "run", "--home", str(home)]
        engine = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            _until_it_answers(home, environment)
            all_cases = cases(home)
            times: dict[str, list[float]] = {name: [] for name in all_cases}
            for _ in range(runs + 1):
                for name, line in all_cases.items():
                    times[name].append(cpu_ms(line, environment))
        finally:
            engine.terminate()
            engine.wait(30)
    return {name: values[1:] for name, values in times.items()}


def row(name: str, values: list[float], bare: float) -> dict[str, Any]:
    """One case as it is reported; `bare` is the median of a Python that does nothing, in the same run."""
    above = median(values) - bare
    found: dict[str, Any] = {
        "case": name,
        "n": len(values),
        "cpu_ms": round(median(values), 1),
        "min_ms": round(min(values), 1),
        "above_python_ms": round(above, 1),
        "ratio": round(median(values) / bare, 2),
    }
    if name in BARS_MS:
        found |= {"bar_ms": BARS_MS[name], "reached": above <= BARS_MS[name]}
    return found


def _until_it_answers(home: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-P", "-m", "aiwm_tui.main", "engine", "status", "--home", str(home)]
    deadline = time.monotonic() + 30
    while subprocess.run(command, env=environment, capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            raise SystemExit("the engine did not start")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time of the quick commands above a bare Python")
    parser.add_argument("--runs", type=int, default=21)
    times = measure(parser.parse_args().runs)
    bare = median(times[BARE])
    write(
        "startup",
        [row(name, values, bare) for name, values in times.items()],
        ("typer",),
        "CPU ms of the child process",
    )


if __name__ == "__main__":
    main()
