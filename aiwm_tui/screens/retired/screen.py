"""The screen of instances that are no more: how they ended, why, and what they took."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, clean_lines
from aiwm_tui.screens.cells import alarming, number, since, state_column, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, para
from engine.contract.records import RetiredRow
from engine.contract.requests.instances import InstanceShow

_TURNS = 20


async def explain(link: Link, row: RetiredRow, now: int) -> Explained:
    detail = await link.call(InstanceShow(id=row.id))
    lines: list[Line] = [para(f"{row.state} {form.since(row.retired_ms, now)} ago: {row.reason}")]
    lived = form.age(row.retired_ms - row.spawned_ms)
    cost = f"${row.cost_usd:.4f}" if row.cost_usd else "none"
    lines.append(
        facts(
            [("lived", lived), ("in", form.count(row.tokens_in)), ("out", form.count(row.tokens_out)), ("cost", cost)]
        )
    )
    for turn in detail.turns[-_TURNS:]:
        lines += [((" › " + said, "dim"),) for said in clean_lines(turn.message[:2000])]
        lines += [((" " + said, "text"),) for said in clean_lines(turn.text[:2000])]
    return Explained("how it ended", tuple(lines))


COLUMNS: tuple[Column, ...] = (
    state_column("retired"),
    Column("id", "id", text("id", "strong"), most=10),
    Column("pool", "pool", text("pool"), most=20, priority=2),
    Column("definition", "definition", text("definition"), most=24, priority=3),
    Column("done", "done", number("done"), right=True, most=9, priority=4),
    Column("failed", "failed", alarming("failed"), right=True, most=8, priority=1),
    Column("tokens_in", "in", number("tokens_in", form.short), right=True, most=7, priority=6),
    Column("tokens_out", "out", number("tokens_out", form.short), right=True, most=7, priority=5),
    Column("age", "gone", since("retired_ms"), right=True, least=5),
    Column("reason", "why", text("reason", "dim"), flex=True),
)

SCREEN = TableScreen(
    table="retired",
    columns=COLUMNS,
    empty=(
        (("no instance was retired yet", "dim"),),
        (
            ("pools retire theirs when they have served enough; ", "dim"),
            ("5", "key"),
            (" shows those that live", "dim"),
        ),
    ),
    opens=lambda row: f":retired/{row.id}",
    explain=explain,
)
