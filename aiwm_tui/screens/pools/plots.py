"""A pool over time: its instances and what waited for them, each scaling step with reason and effect, and what another limit would do."""

from __future__ import annotations

from aiwm_tui.live import charts
from aiwm_tui.live import format as form
from aiwm_tui.live.charts import Points, Zoom
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, clean
from aiwm_tui.screens.plots import heading, series, step_lines, step_marks, whole
from engine.contract.records import ModelRow, PoolRow
from engine.contract.requests.definitions import PoolHistory
from engine.contract.requests.fleet import ModelList

_STEPS = 50
_LIMITS = ("   max  empty at   how fast", "head")


async def plots(link: Link, row: PoolRow, now: int, zoom: Zoom, cells: int, rows: int) -> list[Line]:
    """The chart in lines of `cells`, its area `rows` high, the steps under it, and the table of limits while tasks wait."""
    known = ("instances", "busy", "waiting", "out")
    names = [f"pool.{row.id}.{name}" for name in known] + [f"queue.{queue}.in" for queue in row.queues]
    found = await series(link, names, now, zoom)
    steps = await link.call(PoolHistory(name=row.id, limit=_STEPS))
    wide, since = charts.room(cells), now - zoom.span_ms
    total = row.busy + row.idle

    def over_time(name: str, value: float, *, peak: bool = True) -> charts.Values:
        points = [*found.get(f"pool.{row.id}.{name}", ()), (now, value)]
        return charts.over_time(points, since, now, wide, peak=peak)

    out = _last(found.get(f"pool.{row.id}.out", ()))
    instances = over_time("instances", total)
    most = max(float(row.max_total), charts.largest(instances))
    lines = [
        heading("instances, and what waits", zoom),
        *charts.area(instances, rows, most, whole, now=f"max {row.max_total}"),
        charts.spark("busy", over_time("busy", row.busy), str(row.busy)),
        charts.spark("wait", over_time("waiting", row.waiting), form.short(row.waiting)),
        charts.numbers("out/m", over_time("out", out, peak=False), wide, form.rate),
        charts.marks("steps", step_marks(steps), since, now, wide),
        charts.axis(since, now, wide),
    ]
    if row.waiting and row.busy and out:
        came = sum(_last(found.get(f"queue.{queue}.in", ())) for queue in row.queues)
        models = [it for it in await link.call(ModelList()) if it.model == row.model] if row.model else []
        lines += what_if(row, out, came, models, now)
    return [*lines, *step_lines(steps, now)]


def what_if(row: PoolRow, out: float, came: float, models: list[ModelRow], now: int) -> list[Line]:
    """When its queues would be empty with this limit and with higher ones, if an instance goes on as fast as it does now. Rates are tasks
    a minute."""
    each = out / row.busy
    slots = sum(model.slots for model in models)
    lines: list[Line] = [((" ── ", "rule"), ("S: what if max is …", "title")), (_LIMITS,)]
    for limit in sorted({row.max_total, row.max_total * 3 // 2, row.max_total * 2}):
        working = min(limit, slots) if slots else limit
        rate = each * working
        empty = form.moment(now + round(row.waiting * 60_000 / (rate - came)), now) if rate > came else "never"
        said = f"out/m {form.rate(rate)} against in/m {form.rate(came)}"
        held = f"; {clean(row.model, 40)} has {slots} slots" if slots and limit > slots else ""
        here = " (now)" if limit == row.max_total else ""
        style = "text" if limit == row.max_total else "dim"
        lines.append(((f" {limit:>5}  {empty:<9}  {said}{held}{here}", style),))
    return lines


def _last(points: Points) -> float:
    return points[-1][1] if points else 0.0
