"""`aiwm usage`, `aiwm report` and `aiwm samples`: who used what, what happened, and how it went up and down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.output import write
from aiwm_tui.cli.times import past_ms
from aiwm_tui.live.text import clean
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.usage import Report, ReportLine, ReportRead, SamplesRead, UsageRead

_STEPS = {"1s": 1_000, "10s": 10_000, "5m": 300_000}


def add(app: typer.Typer) -> None:
    command(app, "usage", UsageRead, omit=("since_ms",))(_usage)
    command(app, "report")(_report)
    command(app, "samples")(_samples)


Since = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="from then on: 22:00, 1h, yesterday", show_default=False)
]


def _usage(
    cli: Cli,
    request: UsageRead,
    *,
    since: Since = None,
) -> None:
    """Who used what: ended tasks, tokens, cost and time, most tokens first.

    JSON: kind usages."""
    import msgspec

    if since is not None:
        request = msgspec.structs.replace(request, since_ms=past_ms(since, "--since"))
    rows = cli.call(request)
    cli.output.many(
        "usage", "usages", [msgspec.structs.asdict(row) for row in rows], len(rows), empty="nothing was used"
    )


def _report(cli: Cli, *, since: Since = "today") -> None:
    """What happened since then, on one page: done, failed by cause, healed, asked, used, and what operators did.

    JSON: kind report."""
    report = cli.call(ReportRead(since_ms=past_ms(since or "today", "--since") or 0))
    cli.output.one("report", report, lambda: "\n".join(_page(report)))


def _page(report: Report) -> Iterator[str]:
    from aiwm_tui.live.format import moment

    yield f"from {moment(report.since_ms, report.until_ms)} to {moment(report.until_ms, report.until_ms)}"
    yield f"done     {report.completed:,} completed, {report.failed:,} failed, {report.cancelled:,} cancelled"
    yield f"healed   {report.healed:,} completed after a failed attempt"
    yield f"now      {report.running:,} running, {report.waiting:,} waiting; {report.errors:,} error events"
    yield f"used     {report.tokens_in:,} tokens in, {report.tokens_out:,} out, ${report.cost_usd:,.4f}"
    if report.queues:
        yield "queues"
    for row in report.queues:
        yield clean(f"  {row.name}  {row.completed:,} completed, {row.failed:,} failed, {row.tokens_out:,} tokens out")
    if report.failures:
        yield "failed by cause"
    for failure in report.failures:
        yield clean(f"  {failure.count:>6,}  {failure.id}  {failure.code}: {failure.message}")
    yield from _lines("asked", report.asked, report.until_ms)
    yield from _lines("operators did", report.did, report.until_ms)


def _lines(title: str, lines: Sequence[ReportLine], now_ms: int) -> Iterator[str]:
    from aiwm_tui.live.format import moment

    if lines:
        yield title
    for line in lines:
        yield clean(f"  {moment(line.at_ms, now_ms)}  {line.who}  {line.what}  {line.about}  {line.text}".rstrip())


def _samples(
    cli: Cli,
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAMES", help="such as queue.etl.waiting or queue.*", show_default=False),
    ] = None,
    since: Since = "1h",
    step: Annotated[str, typer.Option("--step", metavar="STEP", help="1s, 10s or 5m")] = "10s",
) -> None:
    """Points of the series that the screens draw: waiting, running, in, out, tokens per second.

    For people one line a series with its least, mean and last value. JSON: kind series."""
    if step not in _STEPS:
        raise AiwmError(Code.bad_request, f'--step "{step[:20]}": 1s, 10s or 5m', field="step", fix="--step 10s")
    series = cli.call(SamplesRead(names=tuple(names or ()), since_ms=past_ms(since, "--since"), step_ms=_STEPS[step]))
    if cli.output.for_people:
        for one in series:
            values = [value for _, value in one.points]
            sums = f"least {min(values):g}  mean {sum(values) / len(values):.3g}  most {max(values):g}  last {values[-1]:g}"
            write(clean(f"{one.name}  {len(values)} points  {sums}"))
        if not series:
            cli.output.talk("no samples: they are taken while something moves")
        return
    cli.output.many("series", "series", series, len(series))
