"""The last tasks of an instance as lines: when, how it ended, how long it took, what came out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, clean, fit
from aiwm_tui.states import state_span
from engine.contract.records import RecordRow


def lately_lines(records: Sequence[dict[str, Any]], now: int) -> list[Line]:
    """One line a task that ended, the latest first."""
    if not records:
        return [((" no task of it has ended yet", "dim"),)]
    titles = (("ended", 13, False), ("task", 9, False), ("state", 13, False), ("took", 6, True), ("out", 6, True))
    head = "".join(" " + fit(title, cells, right=right) for title, cells, right in titles) + "  what came out"
    return [((head, "head"),), *(_line(msgspec.convert(row, RecordRow), now) for row in records)]


def _line(row: RecordRow, now: int) -> Line:
    state, style = state_span("tasks", row.state)
    said = row.error or row.summary if row.state == "failed" else row.summary
    return (
        (f" {fit(form.moment(row.ended_ms, now), 13)} ", "dim"),
        (fit(clean(row.task, 20), 9) + " ", "text"),
        (fit(state, 13) + " ", style),
        (fit(form.span(row.duration_ms), 6, right=True) + " ", "text"),
        (fit(form.short(row.tokens_out), 6, right=True) + "  ", "text"),
        (clean(said or "", 300), "text"),
    )
