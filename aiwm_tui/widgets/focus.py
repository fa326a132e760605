"""Screens that do not lose the focus: a click or a pointer beyond every part would take it away, and then no key would reach anything."""

from __future__ import annotations

from typing import TypeVar

from textual.reactive import Reactive
from textual.screen import Screen
from textual.widget import Widget

Result = TypeVar("Result")


class FocusKeeper(Screen[Result]):
    """What had the focus has it again, unless something else took it or it is gone."""

    # Parts draw their own focus: the rest of the screen need not be painted again for it, as a screen does by itself.
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)

    def set_focus(self, widget: Widget | None, scroll_visible: bool = True, from_app_focus: bool = False) -> None:
        before = self.focused
        super().set_focus(widget, scroll_visible, from_app_focus)
        if widget is None and before is not None:
            self.call_later(self.regain, before)

    def regain(self, widget: Widget) -> None:
        """Nothing has the focus; this had it."""
        if self.focused is None and widget.is_attached and widget.focusable and widget.display:
            self.set_focus(widget, scroll_visible=False)
