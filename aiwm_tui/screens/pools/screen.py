"""The screen of all pools."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Span
from aiwm_tui.screens.cells import number, since, state_column, text
from aiwm_tui.screens.pools.plots import plots
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import counts_down, facts, gates, hints
from engine.contract.records import PoolRow
from engine.contract.requests.fleet import PoolExplain


async def explain(link: Link, row: PoolRow, now: int) -> Explained:
    why = await link.call(PoolExplain(name=row.id))
    limits = facts(
        [
            ("serves", ", ".join(row.queues) or "no queue"),
            ("definition", row.definition),
            ("keeps idle at least", str(row.min_idle)),
            ("at most", str(row.max_total)),
        ]
    )
    return Explained("why", (*gates(why, now), limits), counts_down(why))


def _steps(row: PoolRow, _: int) -> Span:
    """`5/0`: how many instances came and went during the last hour."""
    return f"{row.up_1h}/{row.down_1h}", "text" if row.up_1h or row.down_1h else "faint"


COLUMNS: tuple[Column, ...] = (
    state_column("pools"),
    Column("id", "name", text("id", "strong"), most=24),
    Column("definition", "definition", text("definition"), most=20, priority=3),
    Column("queues", "serves", text("queues", "dim"), most=24, priority=5, value=lambda row: ",".join(row.queues)),
    Column("busy", "busy", number("busy"), right=True, most=6),
    Column("idle", "idle", number("idle"), right=True, most=6, priority=2),
    Column("starting", "start", number("starting"), right=True, most=6, priority=6),
    Column("min_idle", "min", number("min_idle", style="dim"), right=True, most=6, priority=7),
    Column("max_total", "max", number("max_total", style="dim"), right=True, most=6, priority=1),
    Column("waiting", "wait", number("waiting"), right=True, least=5, most=9, priority=1),
    Column("head", "head", since("head_ms", "text"), right=True, least=5, priority=3),
    Column("p50", "p50", number("p50_ms", form.span, "dim"), right=True, least=5, most=6, priority=6),
    Column("up_1h", "±1h", _steps, right=True, most=7, priority=8),
    Column("model", "model", text("model", "dim"), most=20, priority=4),
    Column("held_by", "held back by", text("held_by", "held"), flex=True),
)

SCREEN = TableScreen(
    table="pools",
    columns=COLUMNS,
    empty=(
        (("no pools here", "dim"),),
        hints(("N", "makes one by form")),
    ),
    opens=lambda row: f":instances pool:{row.id}",
    explain=explain,
    plots=plots,
)
