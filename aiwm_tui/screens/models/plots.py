"""A model process over time: how fast it wrote, how many requests it had, how many waited in front of it, its memory."""

from __future__ import annotations

from aiwm_tui.live import charts
from aiwm_tui.live import format as form
from aiwm_tui.live.charts import Zoom
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line
from aiwm_tui.screens.plots import heading, series
from engine.contract.records import ModelRow

_NEVER_UP = frozenset({"absent", "refused"})
_SERIES = ("tokens_per_s", "running", "waiting", "rss_bytes")


async def plots(link: Link, row: ModelRow, now: int, zoom: Zoom, cells: int, rows: int) -> list[Line]:
    """The chart in lines of `cells`, its area `rows` high; nothing for a model without a process."""
    if row.state in _NEVER_UP:
        return []
    found = await series(link, [f"model.{row.id}.{name}" for name in _SERIES], now, zoom)
    wide, since = charts.room(cells), now - zoom.span_ms

    def over_time(name: str) -> charts.Values:
        points = [*found.get(f"model.{row.id}.{name}", ()), (now, float(getattr(row, name)))]
        return charts.over_time(points, since, now, wide)

    speed = over_time("tokens_per_s")
    lines = [
        heading("tokens a second, and requests", zoom),
        *charts.area(speed, rows, charts.largest(speed), form.speed, now=form.speed(row.tokens_per_s)),
        charts.spark("run", over_time("running"), f"{row.running}/{row.slots}" if row.slots else str(row.running)),
        charts.spark("wait", over_time("waiting"), form.short(row.waiting)),
    ]
    if row.rss_bytes:
        lines.append(charts.spark("memory", over_time("rss_bytes"), form.size(row.rss_bytes), style="dim"))
    return [*lines, charts.axis(since, now, wide)]
