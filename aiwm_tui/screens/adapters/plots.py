"""The caches of a base's processes over time: adapters that were not there when they were asked for, and those that had to go."""

from __future__ import annotations

from aiwm_tui.live import charts
from aiwm_tui.live import format as form
from aiwm_tui.live.charts import Zoom
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, clean
from aiwm_tui.screens.plots import heading, series
from engine.contract.records import AdapterRow
from engine.contract.requests.adapters import AdapterStats

_MOST = 4


async def plots(link: Link, row: AdapterRow, now: int, zoom: Zoom, cells: int, rows: int) -> list[Line]:
    """Per process the misses a minute, the area `rows` high in all, with hits and evictions below; nothing where no process has one."""
    caches = [it.id for it in await link.call(AdapterStats()) if it.model == row.base][:_MOST]
    if not caches:
        return []
    names = [f"model.{process}.{what}" for process in caches for what in ("misses", "hits", "evictions")]
    found = await series(link, names, now, zoom)
    wide, since = charts.room(cells), now - zoom.span_ms
    lines = [heading("adapters that were not there, a minute", zoom)]
    for process in caches:
        lines += _cache(found, process, (since, now, zoom.step_ms), wide, max(1, rows // len(caches)))
    return [*lines, charts.axis(since, now, wide)]


def _cache(
    found: dict[str, charts.Points], process: str, time: tuple[int, int, int], wide: int, rows: int
) -> list[Line]:
    """One process; `time` is since when, until when, and the step of its samples."""
    since, now, step_ms = time

    def rates(what: str) -> charts.Values:
        points = charts.per_minute(found.get(f"model.{process}.{what}", ()), step_ms)
        return charts.over_time(points, since, now, wide)

    misses = rates("misses")
    last = next((value for value in reversed(misses) if value is not None), None)
    return [
        ((f" {clean(process, 40)}", "strong"),),
        *charts.area(misses, rows, max(1.0, charts.largest(misses)), form.rate, now=form.rate(last)),
        charts.numbers("hits", rates("hits"), wide, form.rate, style="dim"),
        charts.numbers("evicted", rates("evictions"), wide, form.rate, style="dim"),
    ]
