"""What the dialogs share: a panel over the page, and esc that changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen

from aiwm_tui.live.text import Line
from aiwm_tui.widgets.focus import FocusKeeper
from aiwm_tui.widgets.lines import TextBlock

Answer = TypeVar("Answer")
LOW = 18
"""A screen of fewer lines gives all of them to the dialog."""
PANEL = "panel"
"""The style that everything in a dialog stands on."""


class DecidesOnce(Screen[Answer]):
    """A screen that is left once: an answer that comes when it has been left decides nothing, and takes no other screen away."""

    _decided = False

    def dismiss(self, result: Answer | None = None) -> AwaitComplete:
        if self._decided:
            return AwaitComplete()
        self._decided = True
        if self.is_mounted:
            return super().dismiss(result)

        def leave() -> None:
            super(DecidesOnce, self).dismiss(result)

        # It is left before it stands: what it does when it is mounted finds its parts first.
        self.call_later(leave)
        return AwaitComplete()


class Dialog(ModalScreen[Answer | None], DecidesOnce[Answer | None], FocusKeeper[Answer | None], Generic[Answer]):
    """A dialog that answers with what was decided, None for nothing."""

    DEFAULT_CSS = """
    Dialog { align: center middle; }
    Dialog > Vertical { width: 90; max-width: 96%; height: auto; max-height: 90%; padding: 1 2; background: $surface; }
    Dialog.-low > Vertical { width: 100%; max-width: 100%; max-height: 100%; padding: 0 1; }
    Dialog TextBlock, Dialog TextLine { background: $surface; }
    Dialog Input, Dialog Input:focus { height: 1; border: none; padding: 0 1; background: $panel; color: $foreground; }
    Dialog Input:focus { text-style: none; }
    """
    BINDINGS = [Binding("escape", "dismiss", "leave: nothing changes", id="dialog.leave", priority=True)]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (LOW, "-high")]

    def panel(self) -> ComposeResult:
        """The dialog's widgets."""
        yield from ()

    def compose(self) -> ComposeResult:
        with Vertical():
            yield from self.panel()


def block(lines: Sequence[Line], name: str | None = None) -> TextBlock:
    """A text as high as it has lines."""
    widget = TextBlock(id=name)
    widget.ground = PANEL
    widget.styles.height = len(lines)
    widget.lines = tuple(lines)
    return widget
