"""The screen of performance records: what every task that ended took, cost and came to."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span
from aiwm_tui.screens.cells import number, since, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, para
from aiwm_tui.states import state_span
from engine.contract.records import RecordRow


async def explain(link: Link, row: RecordRow, now: int) -> Explained:  # noqa: ARG001
    lines: list[Line] = [para(row.summary or row.error or "nothing is said of it")]
    lines.append(
        facts(
            [
                ("took", form.span(row.duration_ms)),
                ("earlier attempts", form.span(row.spent_ms)),
                ("model", row.model or form.NONE),
                ("adapters", row.adapter or "none"),
                ("calls", form.count(row.calls)),
                ("ended by", row.finish_reason or form.NONE),
                ("given", f"{form.count(row.input_chars)} characters"),
            ]
        )
    )
    if row.rating is not None:
        lines.append(para(f"rated {row.rating * 100:.0f} %: {row.comments or 'no words'}"))
    return Explained(f"{row.task} on {row.instance or 'no instance'}", tuple(lines))


def _cost(row: RecordRow, _: int) -> Span:
    return (form.NONE, "faint") if row.cost_usd is None else (f"{row.cost_usd:.4f}", "text")


def _rating(row: RecordRow, _: int) -> Span:
    return (form.NONE, "faint") if row.rating is None else (f"{row.rating * 100:.0f}%", "text")


COLUMNS: tuple[Column, ...] = (
    Column("state", "state", lambda row, _: state_span("tasks", row.state), most=14, value=lambda row: str(row.state)),
    Column("task", "task", text("task", "strong"), most=12),
    Column("queue", "queue", text("queue"), most=16, priority=2),
    Column("definition", "worker", text("definition"), most=20, priority=3),
    Column("instance", "on", text("instance", "dim"), most=10, priority=8),
    Column("duration", "took", lambda row, _: (form.span(row.duration_ms), "text"), right=True, least=5, most=7),
    Column("tokens_in", "in", number("tokens_in", form.short, "dim"), right=True, least=4, most=6, priority=6),
    Column("tokens_out", "out", number("tokens_out", form.short), right=True, least=4, most=6, priority=5),
    Column("cost_usd", "$", _cost, right=True, most=9, priority=4),
    Column("rating", "rated", _rating, right=True, most=5, priority=7),
    Column("age", "ended", since("ended_ms"), right=True, least=5, most=6, priority=1),
    Column("summary", "what came out", text("summary", "dim"), flex=True),
)

SCREEN = TableScreen(
    table="records",
    columns=COLUMNS,
    empty=(
        (("no task has ended yet", "dim"),),
        (("2", "key"), (" tasks, ", "dim"), ("N", "key"), (" there submits one", "dim")),
    ),
    opens=lambda row: f":tasks/{row.task}",
    explain=explain,
    events=lambda row: f"task:{row.task}",
)
