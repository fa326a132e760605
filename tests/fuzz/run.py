"""`make fuzz`: every target for a time, under atheris (coverage-guided) where it is installed, else with hypothesis alone, which says so.

    python -m tests.fuzz.run [--seconds 180] [--only request,line] [--keep .fuzz]

An input that breaks something is shown with its traceback, and kept for atheris in the folder of `--keep` with what it has learned."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _test_of(name: str, examples: int) -> Callable[[], None]:
    from hypothesis import HealthCheck, given, settings

    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(target.values)
    def each(value: Any) -> None:
        target.check(value)

    return each


def _with_atheris(name: str, seconds: int, keep: Path) -> None:
    """Does not return: libFuzzer ends the process, with 0 when the time is over and nothing was found."""
    import atheris

    with atheris.instrument_imports(include=["engine"]):
        import tests.fuzz.targets  # noqa: F401 (instrumented as it is imported)
    corpus = keep / name
    corpus.mkdir(parents=True, exist_ok=True)
    run = _test_of(name, 1)
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={keep}/{name}-",
        "-max_len=4096",
        "-timeout=30",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], run.hypothesis.fuzz_one_input)  # type: ignore[attr-defined]
    atheris.Fuzz()


def _with_hypothesis(name: str, seconds: int) -> None:
    deadline = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < deadline:
        _test_of(name, 300)()
        rounds += 1
    print(f"{name}: {rounds * 300} examples without coverage guidance", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="fuzz")
    parser.add_argument("--seconds", type=int, default=180, help="for each target")
    parser.add_argument("--only", default="", help="targets, separated by commas")
    parser.add_argument("--keep", type=Path, default=Path(".fuzz"))
    parser.add_argument("--target", help=argparse.SUPPRESS)
    options = parser.parse_args()
    guided = importlib.util.find_spec("atheris") is not None
    if options.target:
        if guided:
            _with_atheris(options.target, options.seconds, options.keep)
        _with_hypothesis(options.target, options.seconds)
        return 0
    from tests.fuzz.targets import TARGETS

    print(
        "with atheris" if guided else "atheris is not installed: hypothesis alone, without coverage guidance",
        flush=True,
    )
    broken = []
    for name in options.only.split(",") if options.only else TARGETS:
        print(f"-- {name}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz.run", "--target", name, "--seconds", str(options.seconds)]
        if subprocess.run([*command, "--keep", str(options.keep)], check=False).returncode:
            broken.append(name)
    print(f"broken: {', '.join(broken)}" if broken else "nothing found")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
