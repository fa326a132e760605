"""What the dialogs share: a panel over the page, fields with their errors below them, esc that changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from aiwm_tui.live.text import Line, clean
from aiwm_tui.widgets.entry import Entry
from aiwm_tui.widgets.lines import TextBlock, TextLine
from engine.contract.errors import AiwmError

Answer = TypeVar("Answer")


class Dialog(ModalScreen[Answer | None], Generic[Answer]):
    """A dialog that answers with what was decided, None for nothing."""

    DEFAULT_CSS = """
    Dialog { align: center middle; }
    Dialog > Vertical { width: 90; max-width: 96%; height: auto; max-height: 90%; padding: 1 2; background: $surface; }
    Dialog TextBlock, Dialog TextLine { background: $surface; }
    Dialog Input, Dialog Input:focus { height: 1; border: none; padding: 0 1; background: $panel; color: $foreground; }
    Dialog Input:focus { text-style: none; }
    """
    BINDINGS = [Binding("escape", "dismiss", "leave: nothing changes", id="dialog.leave")]

    def panel(self) -> ComposeResult:
        """The dialog's widgets."""
        yield from ()

    def compose(self) -> ComposeResult:
        with Vertical():
            yield from self.panel()


def block(lines: Sequence[Line], name: str | None = None) -> TextBlock:
    """A text as high as it has lines."""
    widget = TextBlock(id=name)
    widget.styles.height = len(lines)
    widget.lines = tuple(lines)
    return widget


class Field(Vertical):
    """A label, a field, and its error."""

    DEFAULT_CSS = "Field { height: auto; }"

    def __init__(self, name: str, label: str, value: str = "", placeholder: str = "") -> None:
        super().__init__(id=f"field-{name}")
        self.key = name
        self._label = label
        self._value = value
        self._placeholder = placeholder

    def compose(self) -> ComposeResult:
        yield block([((self._label, "dim"),)])
        yield Entry(self._value, placeholder=self._placeholder, select_on_focus=False)
        yield TextLine(id="error")

    @property
    def line(self) -> Input:
        return self.query_one(Input)

    @property
    def value(self) -> str:
        return self.line.value

    def fault(self, error: AiwmError | None) -> None:
        line: Line = ()
        if error is not None:
            fix = f"  {error.info.fix}" if error.info.fix else ""
            line = (("✗ ", "broken"), (clean(error.info.message, 300), "text"), (clean(fix, 200), "key"))
        self.query_one("#error", TextLine).show(line)
