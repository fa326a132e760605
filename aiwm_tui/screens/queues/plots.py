"""A queue over time: how many waited and how long, how fast they came and went, how long they ran; and when it will be empty."""

from __future__ import annotations

from aiwm_tui.live import charts
from aiwm_tui.live import format as form
from aiwm_tui.live.charts import Zoom
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, clean
from aiwm_tui.screens.plots import heading, series, whole
from engine.contract.records import QueueRow

_SERIES = ("waiting", "head", "in", "out", "p50", "p95")


async def plots(link: Link, row: QueueRow, now: int, zoom: Zoom, cells: int, rows: int) -> list[Line]:
    """The chart in lines of `cells`, its area `rows` high, and the forecast."""
    found = await series(link, [f"queue.{row.id}.{name}" for name in _SERIES], now, zoom)
    wide, since = charts.room(cells), now - zoom.span_ms

    def over_time(name: str, value: float | None, *, held: bool = True, peak: bool = True) -> charts.Values:
        points = [*found.get(f"queue.{row.id}.{name}", ())]
        if value is not None:
            points.append((now, value))
        return charts.over_time(points, since, now, wide, held=held, peak=peak)

    waiting = over_time("waiting", row.waiting)
    head = None if row.head_ms is None else (now - row.head_ms) / 1000
    return [
        heading("waiting, and how fast", zoom),
        *charts.area(waiting, rows, max(1.0, charts.largest(waiting)), whole, now=form.short(row.waiting)),
        charts.spark("head", over_time("head", head, held=False), form.since(row.head_ms, now), style="dim"),
        charts.numbers("in/m", over_time("in", row.in_per_min, peak=False), wide, form.rate),
        charts.numbers("out/m", over_time("out", row.out_per_min, peak=False), wide, form.rate),
        charts.numbers("p50", over_time("p50", row.p50_ms, held=False, peak=False), wide, form.span, style="dim"),
        charts.numbers("p95", over_time("p95", row.p95_ms, held=False, peak=False), wide, form.span, style="dim"),
        charts.axis(since, now, wide),
        forecast(row, now),
    ]


def forecast(row: QueueRow, now: int) -> Line:
    """One sentence: when it will be empty, or how many will wait in an hour."""
    shell = (("   the same from the shell: ", "faint"), (f"aiwm queue explain {clean(row.id, 60)}", "dim"))
    if not row.waiting:
        return ((" Nothing waits.", "dim"), *shell)
    if not row.in_per_min and not row.out_per_min:
        return ((" Nothing came or went in the last minute: it stays as it is.", "dim"), *shell)
    if row.empty_ms is not None:
        at = form.moment(now + round(row.empty_ms), now)
        return ((f" At this rate: empty {at}, in {form.age(row.empty_ms)}.", "text"), *shell)
    more = row.waiting + (row.in_per_min - row.out_per_min) * 60
    hour = form.moment(now + 3_600_000, now)
    return ((f" At this rate: never empty; {form.count(round(more))} waiting at {hour}.", "wrong"), *shell)
