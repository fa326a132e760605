"""`engine simulate`: run seeds through the world and say which promise broke, if one did, and how to see it again."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from engine.scheduling.simulation.run import Report, simulate


def replay_command(report: Report) -> str:
    """The command that runs exactly this history again."""
    return f"python -P -m engine simulate --seed {report.seed} --tasks {report.tasks} --workers {report.workers}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; 0 when every promise held in every seed, 1 at the first that broke."""
    try:
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    return code


def _run(argv: Sequence[str] | None) -> int:
    options = _parser().parse_args(argv)
    totals: Counter[str] = Counter()
    simulated_s = 0.0
    for seed in range(options.seed, options.seed + options.seeds):
        report = simulate(seed, options.tasks, options.workers)
        totals.update(report.counts)
        simulated_s += report.simulated_s
        if report.broken is not None:
            return _broken(report, as_json=options.json)
        if options.verbose and not options.json:
            print(
                f"seed {seed}: {report.simulated_s:.1f} s simulated, {report.counts.get('starts', 0)} starts, {report.digest}"
            )
    data = {
        "seed": options.seed,
        "seeds": options.seeds,
        "tasks": options.tasks,
        "workers": options.workers,
        "broken": None,
        "simulated_s": round(simulated_s, 3),
        "counts": dict(sorted(totals.items())),
        "digest": report.digest,
    }
    if options.json:
        _print_json(data)
    else:
        _print_text(data)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aiwm simulate",
        description="Drive the real scheduler through a simulated world and check what it promises.",
    )
    parser.add_argument("--seed", type=_at_least(0), default=1, help="the first seed (default 1)")
    parser.add_argument("--seeds", type=_at_least(1), default=1, help="how many seeds in a row (default 1)")
    parser.add_argument("--tasks", type=_at_least(1), default=5000, help="tasks in each (default 5000)")
    parser.add_argument("--workers", type=_at_least(1), default=8, help="instances over all pools at most (default 8)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--verbose", action="store_true", help="print a line for each seed")
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return number


def _broken(report: Report, *, as_json: bool) -> int:
    if as_json:
        _print_json({**msgspec.to_builtins(report), "replay": replay_command(report)})
    else:
        print(f"seed {report.seed} broke the promise: {report.broken}")
        print(f"  {report.what}")
        print(f"  again: {replay_command(report)}")
    return 1


def _print_json(data: dict[str, object]) -> None:
    print(msgspec.json.encode({"v": 1, "kind": "simulation", "data": data}).decode())


def _print_text(data: dict[str, object]) -> None:
    counts = data["counts"]
    assert isinstance(counts, dict)
    print(
        f"every promise held: {data['seeds']} seeds from {data['seed']}, {data['tasks']} tasks, {data['workers']} workers each"
    )
    print(f"{data['simulated_s']} s simulated; digest of the last {data['digest']}")
    width = max(len(name) for name in counts)
    for name, count in counts.items():
        print(f"  {name:<{width}}  {count:>10,}")


if __name__ == "__main__":
    sys.exit(main())
