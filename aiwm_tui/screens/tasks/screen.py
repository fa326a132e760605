"""The screen of all tasks."""

from __future__ import annotations

from typing import Any

from aiwm_tui.live import format as form
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, clean, clean_lines
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.tasks.table import COLUMNS
from aiwm_tui.screens.wording import counts_down, facts, failure, gates, para
from engine.contract.records import TaskDetail, TaskRow
from engine.contract.requests.tasks import TaskExplain, TaskShow


async def explain(link: Link, row: TaskRow, now: int) -> Explained:
    """Why this task is where it is: its gates while it waits, its error when it failed, its answer when it is done."""
    if row.state in ("pending", "scheduled", "retrying"):
        why = await link.call(TaskExplain(id=row.id))
        lines = gates(why, now)
        if row.error:
            lines.append(para(f"last attempt: {row.error} {row.reason}", "dim"))
        return Explained("why", (*lines, _origin(row, now)), counts_down(why))
    if row.state == "processing":
        why = await link.call(TaskExplain(id=row.id))
        return Explained("why", (*_running(row, now), *(para(note, "dim") for note in why.notes)))
    detail = await link.call(TaskShow(id=row.id))
    if detail.error is not None:
        fate = "Will not be tried again by itself." if row.state == "failed" else ""
        tried = para(f"Tried {row.attempt} of {row.max_attempts}. {fate}", "dim")
        todo: Line = ((" To do: ", "dim"), ("R", "key"), (" retry   ", "dim"), ("↵", "key"), (" its page", "dim"))
        return Explained("why", (*failure(detail.error), tried, _origin(row, now), todo))
    return Explained("answer", (*_answer(detail), _origin(row, now)))


def _running(row: TaskRow, now: int) -> tuple[Line, ...]:
    since = form.since(row.started_ms, now)
    where = " · ".join(part for part in (row.instance, row.definition, row.pool) if part)
    return (
        para(
            f"runs {since} on {where}, try {row.attempt} of {row.max_attempts}; {form.count(row.tokens_out)} tokens so far"
        ),
        _origin(row, now),
        ((" ↵", "key"), (" its text as it is written", "dim")),
    )


def _answer(detail: TaskDetail) -> list[Line]:
    text = result_text(detail.result)
    shown = [line for line in clean_lines(text[:4000]) if line.strip()][:12]
    return [((" " + line, "text"),) for line in shown] or [para("no output", "dim")]


def result_text(result: Any) -> str:
    """What a result says: its text if it has one, else the whole of it as JSON."""
    if isinstance(result, dict) and isinstance(result.get("text"), str):
        return str(result["text"])
    if result is None:
        return ""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(result), indent=2).decode()


def _origin(row: TaskRow, now: int) -> Line:
    pairs = [("submitted", f"{form.moment(row.submitted_ms, now)} by {clean(row.by, 60)}"), ("prio", str(row.priority))]
    if row.batch:
        pairs.append(("batch", row.batch))
    if row.tenant:
        pairs.append(("tenant", row.tenant))
    return facts(pairs)


SCREEN = TableScreen(
    table="tasks",
    columns=COLUMNS,
    empty=(
        (("no tasks here", "dim"),),
        (
            ("N", "key"),
            (" submits one; from a shell: ", "dim"),
            ('aiwm task submit demo --payload \'{"prompt": "…"}\'', "text"),
        ),
    ),
    opens=lambda row: f":tasks/{row.id}",
    explain=explain,
    events=lambda row: f"task:{row.id}",
)
