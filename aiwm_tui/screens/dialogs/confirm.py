"""The one dialog for every change that cannot be taken back: the fixed ids, the effect, the same command for the shell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding

from aiwm_tui.actions import Action
from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, clean, fit
from aiwm_tui.screens.dialogs.base import Dialog, block
from aiwm_tui.screens.wording import hints
from aiwm_tui.states import state_span
from engine.contract.records import Record

SHOWN = 8


class ConfirmDialog(Dialog[bool]):
    BINDINGS = [Binding("enter", "decide", "go on", id="confirm.go")]

    def __init__(self, action: Action, rows: Sequence[Record]) -> None:
        super().__init__()
        self._action = action
        self._rows = tuple(rows)

    def panel(self) -> ComposeResult:
        yield block(confirm_lines(self._action, self._rows))

    def action_decide(self) -> None:
        self.dismiss(True)


def confirm_lines(action: Action, rows: Sequence[Any]) -> list[Line]:
    """The dialog's text, from the rows it was opened with and nothing else."""
    what = form.plural(len(rows), "task")
    lines: list[Line] = [
        ((f"{action.shown}  {action.label.upper()} {what.upper()}", "title"),),
        (),
        (("These and no others:" if len(rows) > 1 else "This one and no other:", "dim"),),
    ]
    for row in rows[:SHOWN]:
        lines.append(
            (("  " + fit(row.id, 12), "strong"), state_span("tasks", row.state), ("  " + clean(row.queue, 40), "dim"))
        )
    if len(rows) > SHOWN:
        lines.append(((f"  … {len(rows) - SHOWN} more", "dim"),))
    running = sum(1 for row in rows if row.state == "processing")
    if running:
        lines += [
            (),
            (
                (
                    f"{form.plural(running, 'task')} of these run now and will be told to stop; what they wrote is kept.",
                    "text",
                ),
            ),
        ]
    ids = " ".join(row.id for row in rows[:SHOWN]) + (" …" if len(rows) > SHOWN else "")
    lines += [
        (),
        (("Same from the shell:  ", "dim"), (f"aiwm task {action.label} {ids}", "text")),
        (),
        hints(("↵", "go on"), ("esc", "leave: nothing changes")),
    ]
    return lines
