"""Leaving while work runs: leave it running (default), drain, stop."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.binding import Binding

from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, clean
from aiwm_tui.screens.dialogs.base import Dialog, block
from aiwm_tui.screens.wording import hints
from aiwm_tui.widgets.lines import TextBlock

CHOICES = (
    ("leave", "leave it running", "the engine works on; `aiwm` finds it again"),
    ("drain", "drain, then stop", "running tasks end; waiting ones stay"),
    ("now", "stop now", "running tasks go back and wait; nothing is lost"),
)


class QuitDialog(Dialog[str]):
    BINDINGS = [
        Binding("up,k", "move(-1)", "up", id="quit.up", priority=True),
        Binding("down,j,tab", "move(1)", "down", id="quit.down", priority=True),
        Binding("1", "pick(0)", "leave it running", id="quit.leave", priority=True),
        Binding("2", "pick(1)", "drain", id="quit.drain", priority=True),
        Binding("3", "pick(2)", "stop now", id="quit.stop", priority=True),
        Binding("enter,q", "decide", "go on", id="quit.go", priority=True),
    ]

    def __init__(self, running: int, waiting: int, goes_on_by: Sequence[str] = ()) -> None:
        """`goes_on_by` are commands that go on with what the console itself was doing."""
        super().__init__()
        self._goes_on_by = goes_on_by
        self._tasks_running = running
        self._tasks_waiting = waiting
        self._at = 0

    def panel(self) -> ComposeResult:
        yield block(self._lines(), "choices")

    def _lines(self) -> list[Line]:
        verb = "runs" if self._tasks_running == 1 else "run"
        lines: list[Line] = [
            ((f"q  LEAVE: {form.plural(self._tasks_running, 'task')} {verb}, {self._tasks_waiting:,} wait", "title"),),
            (),
        ]
        for place, (_, word, effect) in enumerate(CHOICES):
            chosen = place == self._at
            lines.append(
                (
                    (("› " if chosen else "  ") + f"{place + 1} ", "key"),
                    (f"{word:<18}", "strong" if chosen else "text"),
                    (effect, "dim"),
                )
            )
        if self._goes_on_by:
            lines += [(), (("Answers are written to files from this console. What goes on with that:", "text"),)]
            lines += [((f"  {clean(command, 200)}", "key"),) for command in self._goes_on_by[:4]]
        lines += [(), hints(("↵", "do it"), ("esc", "stay here"))]
        return lines

    def action_move(self, by: int) -> None:
        self._at = (self._at + by) % len(CHOICES)
        self.query_one("#choices", TextBlock).show(self._lines())

    def action_pick(self, at: int) -> None:
        self.dismiss(CHOICES[at][0])

    def action_decide(self) -> None:
        self.dismiss(CHOICES[self._at][0])
