"""The screen of all live instances."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line
from aiwm_tui.screens.cells import alarming, number, since, state_column, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, gates, para
from engine.contract.records import InstanceRow
from engine.contract.requests.tasks import TaskExplain


async def explain(link: Link, row: InstanceRow, now: int) -> Explained:
    lines: list[Line] = [para(f"{row.state} {form.since(row.since_ms, now)}." + (f" {row.note}" if row.note else ""))]
    lines.append(
        facts(
            [
                ("pool", row.pool),
                ("definition", row.definition),
                ("kind", row.kind),
                ("done", form.count(row.done)),
                ("failed", form.count(row.failed)),
                ("tokens", form.count(row.tokens)),
            ]
        )
    )
    if row.task:
        lines += gates(await link.call(TaskExplain(id=row.task)), now)
        lines.append(((" ↵", "key"), (f" {row.task}, its text as it is written", "dim")))
    return Explained("why", tuple(lines))


COLUMNS: tuple[Column, ...] = (
    state_column("instances"),
    Column("id", "id", text("id", "strong"), most=10),
    Column("pool", "pool", text("pool"), most=20, priority=2),
    Column("definition", "definition", text("definition"), most=24, priority=3),
    Column("kind", "kind", text("kind", "dim"), most=14, priority=6),
    Column("task", "task", text("task"), least=7, most=12),
    Column("age", "for", since("since_ms", "text"), right=True, least=5),
    Column("done", "done", number("done"), right=True, most=9, priority=4),
    Column("failed", "failed", alarming("failed"), right=True, most=8, priority=1),
    Column("tokens", "tokens", number("tokens", form.short), right=True, most=7, priority=5),
    Column("note", "next or last error", text("note", "dim"), flex=True),
)

SCREEN = TableScreen(
    table="instances",
    columns=COLUMNS,
    empty=(
        (("no instances: pools start them when work waits", "dim"),),
        (
            ("4", "key"),
            (" pools   ", "dim"),
            ("3", "key"),
            (" queues, ", "dim"),
            ("N", "key"),
            (" there submits a task", "dim"),
        ),
    ),
    opens=lambda row: f":tasks/{row.task}" if row.task else f":instances/{row.id}",
    explain=explain,
)
