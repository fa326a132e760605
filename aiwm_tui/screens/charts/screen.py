"""All series: `:charts queue.* since:24h`. ↵ draws the one under the cursor; z looks further back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from aiwm_tui.live import charts
from aiwm_tui.live import format as form
from aiwm_tui.live.bars import sparkline
from aiwm_tui.live.charts import HOUR, ZOOMS, Points, Zoom
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span, clean
from aiwm_tui.screens.asking import AskedScreen, Zoomed
from aiwm_tui.screens.cells import text
from aiwm_tui.screens.plots import heading
from aiwm_tui.screens.wording import para
from engine.contract.query import Location, Op, SortKey
from engine.contract.records import Record
from engine.contract.requests.usage import SamplesRead, Series

SINCE = Zoomed(ZOOMS, HOUR)
_CELLS = 30
_COARSE_MS = 10_000
_COUNTERS = ("hits", "misses", "evictions")
"""Series that only grow: what is drawn of them is how fast."""
_WRITTEN: dict[str, Callable[[float], str]] = {
    "bytes": lambda value: form.size(round(value)),
    "head": lambda value: form.age(value * 1000),
    "p50": form.span,
    "p95": form.span,
}


class SeriesLine(Record, frozen=True, kw_only=True):
    """One series over the time looked at: `values` a cell, its least, mean, most and last; None where nothing was sampled."""

    unit: str
    least: float | None
    mean: float | None
    most: float | None
    last: float | None
    values: tuple[float, ...]


def drawn(series: Series) -> tuple[str, Points]:
    """What is drawn of a series, and its unit: of a counter how fast it grew."""
    last = series.name.rpartition(".")[2]
    if last in _COUNTERS:
        return "/min", charts.per_minute(series.points, series.step_ms)
    return ("/min" if last in ("in", "out") else ""), series.points


def writer(name: str) -> Callable[[float], str]:
    """How values of a series are written."""
    last = name.rpartition(".")[2]
    return _WRITTEN.get(last.rpartition("_")[2], form.rate)


def patterns(location: Location) -> tuple[str, ...]:
    """The names that a location asks for; a word without a star is looked for anywhere in a name."""
    words = [term.values[0] for term in location.terms if term.op is Op.word and not term.negated]
    return tuple(word if "*" in word else f"*{word}*" for word in words) or ("*",)


async def read(link: Link, names: tuple[str, ...], now: int, zoom: Zoom) -> list[Series]:
    """The series with these names, as far back as the zoom looks."""
    return await link.call(SamplesRead(names=names, since_ms=now - zoom.span_ms, step_ms=zoom.step_ms, before=True))


def series_line(series: Series, now: int, zoom: Zoom) -> SeriesLine:
    unit, points = drawn(series)
    since = now - zoom.span_ms
    values = charts.over_time(points, since, now, _CELLS, held=True)
    here = [value for at_ms, value in points if at_ms >= since]
    return SeriesLine(
        id=series.name,
        unit=unit,
        least=min(here, default=None),
        mean=sum(here) / len(here) if here else None,
        most=max(here, default=None),
        last=points[-1][1] if points else None,
        values=tuple(value or 0.0 for value in values),
    )


async def _ask(link: Link, location: Location, now: int) -> list[Record]:
    zoom = SINCE.of(location)
    # Lines of blocks have no use for every second: so many series would be a lot of them.
    coarse = msgspec.structs.replace(zoom, step_ms=max(zoom.step_ms, _COARSE_MS))
    return [series_line(one, now, zoom) for one in await read(link, patterns(location), now, coarse)]


def _head(location: Location, now: int) -> list[Line]:  # noqa: ARG001 (the time is what others write)
    return [heading(" ".join(patterns(location)), SINCE.of(location)), ()]


def _opens(location: Location, row: SeriesLine, now: int) -> str | None:  # noqa: ARG001 (a chart is always as of now)
    since = SINCE.of(location)
    return f":charts/{row.id}" + (f" since:{since.name}" if since is not HOUR else "")


def _value(attribute: str) -> Callable[[Any, int], Span]:
    def cell(row: SeriesLine, _: int) -> Span:
        value = getattr(row, attribute)
        return (form.NONE, "faint") if value is None else (writer(row.id)(value), "text" if value else "faint")

    return cell


def _spark(row: SeriesLine, _: int) -> Span:
    return (sparkline(row.values, _CELLS), "text") if any(row.values) else (form.NONE, "faint")


COLUMNS: tuple[Column, ...] = (
    Column("id", "series", lambda row, _: (clean(row.id, 120), "strong"), flex=True, most=48),
    Column("values", "over time", _spark, most=_CELLS, priority=2, shape=True),
    Column("unit", "", text("unit", "faint"), most=4, priority=5),
    Column("least", "least", _value("least"), right=True, most=9, priority=3),
    Column("mean", "mean", _value("mean"), right=True, most=9, priority=4),
    Column("most", "most", _value("most"), right=True, most=9, priority=1),
    Column("last", "last", _value("last"), right=True, most=9),
)

SCREEN = AskedScreen(
    columns=COLUMNS,
    ask=_ask,
    head=_head,
    empty=(
        para("no samples: they are taken while something moves", "dim"),
        (("z", "key"), (" looks further back", "dim")),
    ),
    opens=_opens,
    further=SINCE.further,
    order=(SortKey("id"),),
    again_s=5.0,
)
