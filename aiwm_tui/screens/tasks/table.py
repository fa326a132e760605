"""The columns of tasks. The last one changes with the state: the answer's start, the gate, the next attempt, the error."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.text import Span, clean
from aiwm_tui.screens.cells import number, state_column, text
from aiwm_tui.states import look
from engine.contract.records import TaskRow


def _wait(row: TaskRow, now: int) -> Span:
    """How long it waited, or has waited; a later attempt's wait is not told apart."""
    if row.started_ms is not None:
        return form.age(row.started_ms - row.submitted_ms), "dim"
    return (form.age((row.ended_ms or now) - row.submitted_ms), "text" if row.ended_ms is None else "dim")


def _run(row: TaskRow, now: int) -> Span:
    if row.started_ms is None or row.state in ("pending", "scheduled", "retrying"):
        return form.NONE, "faint"
    return form.age((row.ended_ms or now) - row.started_ms), "dim" if row.ended_ms else "text"


def _reason(row: TaskRow, now: int) -> Span:
    reason = clean(row.reason, 400)
    style = {"failed": look("tasks", "failed"), "processing": "text", "completed": "text"}.get(row.state, "dim")
    if row.state == "failed" and row.error and not reason:
        reason = clean(row.error, 60)
    if row.state in ("scheduled", "retrying") and row.due_ms is not None:
        due = form.moment(row.due_ms, now)
        reason = f"due {due}" if row.state == "scheduled" else f"again {due}" + (f": {reason}" if reason else "")
    return reason, style


COLUMNS: tuple[Column, ...] = (
    state_column("tasks"),
    Column("id", "id", text("id", "strong"), most=12),
    Column("queue", "queue", text("queue"), most=16, priority=1),
    Column("definition", "worker", text("definition", "dim"), most=18, priority=6),
    Column("priority", "prio", number("priority", str), right=True, most=6, priority=8),
    Column(
        "attempt", "try", lambda row, _: (f"{row.attempt}/{row.max_attempts}", "dim"), right=True, most=7, priority=5
    ),
    Column("tokens_in", "in", number("tokens_in", form.short, "dim"), right=True, least=4, most=6, priority=7),
    Column("tokens_out", "out", number("tokens_out", form.short), right=True, least=4, most=6, priority=4),
    Column("age", "wait", _wait, right=True, least=5, most=6, priority=3),
    Column("started", "run", _run, right=True, least=5, most=6, priority=2),
    Column("reason", "now: output, reason or error", _reason, flex=True),
)
