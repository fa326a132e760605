"""Text that grows: wrapped as it arrives, drawn line by line."""

from __future__ import annotations

from textual import events
from textual.css.scalar import Unit
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from aiwm_tui.live.text import Line, Wrapped
from aiwm_tui.widgets.paint import palette_of, strip_of


class StreamText(Widget, can_focus=True):
    """Follows the end until somebody scrolls up, and again when they return to it. `writing` shows where the next text comes."""

    DEFAULT_CSS = "StreamText { height: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.text = ""
        self.follows = True
        self._stands_at = 0
        self._drawn_from = 0
        self.writing = False
        self._wrapped = Wrapped(1)
        self._stale = False

    @property
    def lines(self) -> list[str]:
        return self._wrapped.lines

    def show(self, text: str, *, writing: bool, stale: bool = False) -> None:
        """Show a text. When it begins with what is shown, only the rest is laid out."""
        if (text, writing, stale) == (self.text, self.writing, self._stale):
            return
        repaint = stale != self._stale
        self._stale, self.writing = stale, writing
        if not text.startswith(self.text):
            self._wrapped, self.text, repaint = Wrapped(self._cells), "", True
        changed = self._wrapped.add(text[len(self.text) :])
        self.text = text
        self._settle(changed, repaint)

    @property
    def _cells(self) -> int:
        return max(1, self.size.width - 2)

    @property
    def _rows(self) -> int:
        """How many lines it shows, or will when what was set is laid out: a key must not meet a height that is gone in a moment."""
        height = self.styles.height
        return int(height.value) if height is not None and height.unit is Unit.CELLS else self.size.height

    @property
    def _last(self) -> int:
        return max(0, len(self.lines) - self._rows)

    @property
    def first(self) -> int:
        """The first line shown: while it follows, the one from which the end is in sight, however high it is just now."""
        return self._last if self.follows else min(self._stands_at, self._last)

    def _settle(self, changed: int, repaint: bool) -> None:
        first, before = self.first, self._drawn_from
        self._drawn_from = first
        if repaint or first != before:
            self.refresh()
        elif changed - first < self.size.height:
            top = max(0, changed - first)
            self.refresh(Region(0, top, self.size.width, self.size.height - top))

    def on_resize(self) -> None:
        self._wrapped = Wrapped(self._cells)
        self._wrapped.add(self.text)
        self._settle(0, True)

    def render_line(self, y: int) -> Strip:
        index = self.first + y
        line: Line = ()
        if index < len(self.lines):
            line = ((" " + self.lines[index], "text"),)
            if self.writing and index == len(self.lines) - 1:
                line = (*line, ("▌", "works"))
        return strip_of(line, palette_of(self), self.size.width, instead="stale" if self._stale else None)

    def move(self, rows: int) -> None:
        first = max(0, min(self.first + rows, self._last))
        self.follows, self._stands_at = first >= self._last, first
        self._settle(0, False)

    def page(self, pages: float) -> None:
        self.move(int(pages * self._rows) or (1 if pages > 0 else -1))

    def to_edge(self, direction: int) -> None:
        self.move(direction * len(self.lines))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.move(3)
        event.stop()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.move(-3)
        event.stop()
