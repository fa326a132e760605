"""What happened to a task, line by line: its events, the first token, and what is to come. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, clean
from engine.contract.records import TaskDetail, TaskRow, TimelineStep
from engine.contract.states import ENDED_STATES

_STYLES = {"retry": "wrong", "requeued": "wrong", "released": "wrong", "failed": "broken", "completed": "done"}


class Usual(msgspec.Struct, frozen=True):
    """The medians of the last `count` tasks like this one that completed: tokens written, and how long they ran in ms."""

    count: int
    tokens_out: float | None = None
    duration_ms: float | None = None


def usual(rows: Sequence[dict[str, object]]) -> Usual:
    """What records of tasks come to."""
    return Usual(len(rows), _median(rows, "tokens_out"), _median(rows, "duration_ms"))


def _median(rows: Sequence[dict[str, object]], name: str) -> float | None:
    known = sorted(value for row in rows if isinstance(value := row.get(name), (int, float)))
    return float(known[len(known) // 2]) if known else None


def timeline(detail: TaskDetail, row: TaskRow, known: Usual | None, now_ms: int) -> list[Line]:
    """One line a step with how long it took until the next; behind them what is expected of a task that runs."""
    steps = sorted((*detail.timeline, *_first_token(detail, row)), key=lambda step: step.at_ms)
    lines: list[Line] = []
    for place, step in enumerate(steps):
        until = steps[place + 1].at_ms if place + 1 < len(steps) else (row.ended_ms or now_ms)
        what = step.type.rpartition(".")[2]
        took = form.span(until - step.at_ms) if until - step.at_ms >= 1000 and what not in ENDED_STATES else ""
        lines.append(_line(form.clock_ms(step.at_ms)[:-2], *_said(step), took, _STYLES.get(what, "text")))
    return [*lines, *_to_come(detail, row, known, now_ms)]


def _line(at: str, what: str, text: str, took: str = "", style: str = "text") -> Line:
    return (
        (f" {at:<10}  ", "dim"),
        (f"{clean(what, 20):<11} ", style),
        (clean(text, 200), "dim"),
        (f"  {took}" if took else "", "text"),
    )


def _said(step: TimelineStep) -> tuple[str, str]:
    """What it is in a word, and the rest. Tools say their verdict when it is not that they were called."""
    room, _, what = step.type.rpartition(".")
    if room == "tool":
        return "tool", step.text if what == "allowed" else f"{what}: {step.text}"
    return what, step.text


def _first_token(detail: TaskDetail, row: TaskRow) -> list[TimelineStep]:
    """When the first word of the answer came, as its result says."""
    result = detail.result if isinstance(detail.result, dict) else {}
    took = result.get("first_token_ms")
    if not isinstance(took, (int, float)) or not took or row.started_ms is None or row.state != "completed":
        return []
    read = f", prompt of {form.count(row.tokens_in)} tokens" if row.tokens_in else ""
    return [TimelineStep(at_ms=round(row.started_ms + took), type="first token", text=f"after {form.span(took)}{read}")]


def _to_come(detail: TaskDetail, row: TaskRow, known: Usual | None, now_ms: int) -> list[Line]:
    deadline = (
        _line(form.clock(detail.deadline_ms), "deadline", f"in {form.age(detail.deadline_ms - now_ms)}", "", "held")
        if detail.deadline_ms is not None and row.ended_ms is None
        else None
    )
    lines: list[Line] = []
    if row.state == "processing" and row.started_ms is not None:
        lines.append(
            _line(form.clock(now_ms), "writing", f"{form.count(row.tokens_out or 0)} tokens so far", "", "works")
        )
        if known is not None and known.count and known.duration_ms is not None:
            at_ms = round(row.started_ms + known.duration_ms)
            late = f", {form.age(now_ms - at_ms)} more than usual" if at_ms + 1000 < now_ms else ""
            said = f"expected: {form.span(known.duration_ms)} is the median of {known.count} like it{late}"
            lines.append(_line(f"~{form.clock(at_ms)}", "done", said))
    return [*lines, *([deadline] if deadline is not None else [])]
