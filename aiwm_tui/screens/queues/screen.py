"""The screen of all queues. `first gate` says what the head of the queue waits for; the strip has the whole table of gates."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.bars import sparkline
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span
from aiwm_tui.screens.cells import alarming, number, since, state_column, text
from aiwm_tui.screens.queues.plots import plots
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import counts_down, facts, gates, hints
from engine.contract.records import QueueRow
from engine.contract.requests.fleet import QueueExplain


async def explain(link: Link, row: QueueRow, now: int) -> Explained:
    why = await link.call(QueueExplain(name=row.id))
    title = f"what the {form.count(row.waiting)} wait for" if row.waiting else "nothing waits"
    return Explained(title, (*gates(why, now), _ended(row)), counts_down(why))


def _ended(row: QueueRow) -> Line:
    return facts(
        [
            ("served by", ", ".join(row.pools) or "no pool"),
            ("acknowledged when on", row.durability),
            ("completed", form.count(row.completed)),
            ("failed", form.count(row.failed)),
            ("cancelled", form.count(row.cancelled)),
        ]
    )


def _empty(row: QueueRow, _: int) -> Span:
    """In how long nothing will wait at the rates of the last minute; `never` when more come than go."""
    if not row.waiting or not (row.in_per_min or row.out_per_min):
        return form.NONE, "faint"
    return ("never", "wrong") if row.empty_ms is None else (form.age(row.empty_ms), "text")


def _trend(row: QueueRow, _: int) -> Span:
    """How the wait went during the last hour."""
    return (sparkline(row.trend, len(row.trend)), "text") if any(row.trend) else (form.NONE, "faint")


COLUMNS: tuple[Column, ...] = (
    state_column("queues"),
    Column("id", "name", text("id", "strong"), most=24),
    Column("waiting", "wait", number("waiting"), right=True, least=5, most=9),
    Column("head", "head", since("head_ms", "text"), right=True, least=5, priority=2),
    Column("running", "run", number("running"), right=True, most=6, priority=1),
    Column("scheduled", "sched", number("scheduled"), right=True, most=8, priority=9),
    Column("retrying", "retry", number("retrying"), right=True, most=8, priority=8),
    Column("completed", "done", number("completed", form.short, "dim"), right=True, most=6, priority=7),
    Column("failed", "failed", alarming("failed"), right=True, most=7, priority=3),
    Column("in_per_min", "in/m", number("in_per_min", form.rate), right=True, least=5, most=7, priority=5),
    Column("out_per_min", "out/m", number("out_per_min", form.rate), right=True, least=5, most=7, priority=4),
    Column("empty", "empty in", _empty, right=True, most=8, priority=3),
    Column("p50", "p50", number("p50_ms", form.span, "dim"), right=True, least=5, most=6, priority=7),
    Column("p95", "p95", number("p95_ms", form.span, "dim"), right=True, least=5, most=6, priority=6),
    Column("trend", "wait, last hour", _trend, most=20, priority=5, shape=True),
    Column("pools", "pools", text("pools", "dim"), most=16, priority=6, value=lambda row: ",".join(row.pools)),
    Column("durability", "keeps", text("durability", "dim"), most=6, priority=10),
    Column("gate", "first gate", text("gate", "held"), flex=True),
)

SCREEN = TableScreen(
    table="queues",
    columns=COLUMNS,
    empty=(
        (("no queues here", "dim"),),
        hints(("ctrl+n", "makes one by form"), (":start", "5 makes worker, pool and queue")),
    ),
    opens=lambda row: f":tasks queue:{row.id}",
    explain=explain,
    plots=plots,
)
