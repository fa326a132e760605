"""One step of the guided way to a first worker: a form, where one is on the way, and the commands that do the same."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.containers import Vertical
from textual.widget import Widget

from aiwm_tui.forms.values import read
from aiwm_tui.live.text import Line, clean
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.screens.dialogs.base import block
from aiwm_tui.screens.dialogs.form import FormDialog
from aiwm_tui.widgets.lines import TextBlock
from engine.contract.errors import AiwmError

if TYPE_CHECKING:
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.guide import Plan

_SHELL_LINES = 8
_LEAST_HEIGHT = 30
"""On a lower screen the commands give way to the form."""


class StepDialog(FormDialog):
    """`typed` is what stood in the fields when the step was left, either way."""

    DEFAULT_CSS = "StepDialog #shell { margin-top: 1; }"

    def __init__(self, plan: Plan, at: int, send: Any, now_ms: Callable[[], int]) -> None:
        from aiwm_tui.guide import STEPS

        step = STEPS[at]
        last = at == len(STEPS) - 1
        super().__init__(
            f"5  YOUR FIRST WORKER   step {at + 1} of {len(STEPS)}: {step.name}",
            plan.fields(at),
            plan.begins(at),
            send,
            head=(_way(at), *(((line, "dim"),) for line in textwrap.wrap(step.says, 66))),
            verb="make it all and run it" if last else "next step",
            leave="a step back" if at else "leave: nothing is made",
            now_ms=now_ms,
        )
        self._plan = plan
        self._at = at
        self.typed = plan.begins(at)

    def panel(self) -> ComposeResult:
        yield from super().panel()
        yield block((), "shell")

    def on_mount(self) -> None:
        super().on_mount()
        self._show_commands()

    def dismiss(self, result: Line | None = None) -> AwaitComplete:
        """Another step follows, or the page: what is typed meanwhile is meant for that."""
        if not self._decided:
            cast("ConsoleApp", self.app).ahead.expect()
        return super().dismiss(result)

    def on_resize(self) -> None:
        super().on_resize()
        self._show_commands()

    def _check(self, editor: Widget) -> None:
        super()._check(editor)
        self.typed = {key: self.row(key).text for key in self.typed if key in {field.key for field in self.fields}}
        self._show_commands()

    def _show_commands(self) -> None:
        """The commands of what is said so far; a field that is wrong is left out of them."""
        values: dict[str, Any] = {}
        for field in self.fields:
            try:
                values[field.key] = read(field, self.row(field.key).text, self._now_ms())
            except AiwmError:
                continue
        before = self._plan.values[self._at]
        self._plan.values[self._at] = values
        try:
            commands = self._plan.commands(self._at) if values.get("name") or (self._at == 3 and values) else []
        finally:
            self._plan.values[self._at] = before
        shell = self.query_one("#shell", TextBlock)
        cells = max(20, self.query_one(Vertical).size.width - 4)
        lines: list[Line] = [(("Same from the shell:", "dim"),)] if commands else []
        for command in commands:
            lines += wrapped(((" " + clean(command, 600), "key"),), cells)
        lines = lines[:_SHELL_LINES] if self.app.size.height >= _LEAST_HEIGHT else []
        shell.display = bool(lines)
        shell.styles.height = len(lines)
        shell.show(lines)


def _way(at: int) -> Line:
    """`✓ worker  › pool    queue    first task`."""
    from aiwm_tui.guide import STEPS

    line: list[tuple[str, str]] = []
    for place, step in enumerate(STEPS):
        mark, style = ("✓ ", "done") if place < at else ("› ", "mark") if place == at else ("  ", "faint")
        line.append((f"{mark}{step.name}   ", "strong" if place == at else style))
    return tuple(line)
