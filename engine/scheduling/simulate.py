"""`engine simulate`: run seeds through the world and say which promise broke, if one did, and how to see it again.

With `--adapters N` instead: how tasks with N adapters fare with the scheduler and with plain FIFO."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from engine.scheduling.simulation.adapters import Figures, Mix, compare
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
    if options.adapters:
        return _compare(options)
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
    mix = parser.add_argument_group("adapters", "instead, compare with plain FIFO what tasks with adapters wait")
    mix.add_argument("--adapters", type=_at_least(0), default=0, help="so many different ones")
    mix.add_argument(
        "--zipf", type=float, default=Mix.zipf, help="how much more popular some are (default 1.0; 0: all alike)"
    )
    mix.add_argument("--replicas", type=_at_least(1), default=Mix.replicas, help="processes of the model (default 3)")
    mix.add_argument("--slots", type=_at_least(1), default=Mix.slots, help="tasks that each runs at once (default 4)")
    mix.add_argument("--cache", type=_at_least(1), default=Mix.cache, help="adapters that each holds (default 8)")
    mix.add_argument("--work-ms", type=_at_least(1), default=Mix.work_ms, help="a task's mean work (default 400)")
    mix.add_argument(
        "--load-ms", type=_at_least(0), default=Mix.load_ms, help="what an adapter takes to load (default 250)"
    )
    mix.add_argument(
        "--load", type=float, default=Mix.load, help="work that comes, as a share of all slots (default 0.6)"
    )
    return parser


def _compare(options: argparse.Namespace) -> int:
    names = ("seed", "tasks", "adapters", "zipf", "replicas", "slots", "cache", "work_ms", "load_ms", "load")
    mix = Mix(**{name: getattr(options, name) for name in names})
    if mix.load <= 0 or mix.zipf < 0 or mix.cache < mix.slots:
        raise SystemExit("aiwm simulate: --load is above 0, --zipf not below 0, --cache not below --slots")
    figures = compare(mix)
    if options.json:
        _print_json({"mix": msgspec.to_builtins(mix), "figures": [_row(one) for one in figures]})
        return 0
    print(
        f"{mix.tasks:,} tasks, {mix.adapters} adapters; {mix.replicas} replicas of {mix.slots} slots, {mix.cache} adapters in each"
    )
    rows = [_row(one) for one in figures]
    print("  " + "  ".join(f"{name.replace('_', ' '):>7}" for name in rows[0]))
    for row in rows:
        print("  " + "  ".join(f"{value:>{max(len(name), 7)}}" for name, value in row.items()))
    return 0


def _row(figures: Figures) -> dict[str, str | float]:
    return {"policy": figures.policy, "hit_rate": round(figures.hit_rate, 3), **msgspec.to_builtins(figures)}


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
