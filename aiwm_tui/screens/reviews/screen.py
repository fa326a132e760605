"""The screen of reviews that supervisors still owe."""

from __future__ import annotations

from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.screens.cells import number, since, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, para
from engine.contract.records.knowledge import ReviewRow


async def explain(link: Link, row: ReviewRow, now: int) -> Explained:  # noqa: ARG001
    lines = [para(row.note or f"waits for {row.supervisor}")]
    return Explained(
        "review", (*lines, facts([("bound by", row.level), ("attempt", str(row.attempt)), ("tries", str(row.tries))]))
    )


COLUMNS: tuple[Column, ...] = (
    Column("id", "id", text("id", "strong"), most=12),
    Column("task", "task", text("task"), most=12),
    Column("supervisor", "waits for", text("supervisor"), most=24),
    Column("level", "bound by", text("level", "dim"), most=16, priority=2),
    Column("due", "since", since("due_ms"), right=True, least=5),
    Column("tries", "tries", number("tries"), right=True, most=6, priority=1),
    Column("note", "note", text("note", "dim"), flex=True),
)

SCREEN = TableScreen(
    table="reviews",
    columns=COLUMNS,
    empty=((("no task waits for its review", "done"),),),
    opens=lambda row: f":tasks/{row.task}",
    explain=explain,
)
