"""The screen of all pools."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, clean, fit
from aiwm_tui.screens.cells import number, state_column, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import counts_down, facts, gates, hints
from engine.contract.records import PoolRow
from engine.contract.records.definitions import ScaleStep
from engine.contract.requests.definitions import PoolHistory
from engine.contract.requests.fleet import PoolExplain

_STEPS = 20


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
    steps = await link.call(PoolHistory(name=row.id, limit=_STEPS))
    return Explained("why", (*gates(why, now), limits, *_history(steps, now)), counts_down(why))


def _history(steps: list[ScaleStep], now: int) -> list[Line]:
    """How it was scaled: each step with its reason, the latest first."""
    if not steps:
        return []
    lines: list[Line] = [(("  at        step   because", "head"),)]
    for step in steps:
        change = f"{step.total - step.change} → {step.total}" if step.change else "failed"
        at = fit(form.moment(step.at_ms, now), 8)
        style = "text" if step.change else "broken"
        waited = f"  {form.plural(step.waiting, 'task')} waited" if step.waiting else ""
        lines.append(
            (
                ("  " + at + "  ", "dim"),
                (fit(change, 6) + " ", style),
                (clean(step.reason, 300), "text"),
                (waited, "dim"),
            )
        )
    return lines


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
)
