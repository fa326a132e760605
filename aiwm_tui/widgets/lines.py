"""Widgets that show lines of styled text: one line, or as many as there is room for."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from aiwm_tui.live.text import Line
from aiwm_tui.widgets.paint import changed_part, palette_of, spread, strip_of


class TextLine(Widget):
    """One line: something at the left, perhaps something at the right end. Repaints only when what it shows changes. `ground` is the
    style that it stands on, None for that of the screen."""

    DEFAULT_CSS = "TextLine { height: 1; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.ground: str | None = None
        self._left: Line = ()
        self._right: Line = ()

    def show(self, left: Line, right: Line = ()) -> None:
        if (left, right) != (self._left, self._right):
            was = self._line
            self._left, self._right = left, right
            start, cells = changed_part(was, self._line)
            self.refresh(Region(start, 0, cells, 1))

    @property
    def _line(self) -> Line:
        return spread(self._left, self._right, self.size.width) if self._right else self._left

    def render_line(self, y: int) -> Strip:
        return strip_of(self._line if y == 0 else (), palette_of(self), self.size.width, over=self.ground)


class TextBlock(Widget):
    """Lines from the top; what does not fit is cut. Repaints only the lines that change."""

    DEFAULT_CSS = "TextBlock { height: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.ground: str | None = None
        self.lines: tuple[Line, ...] = ()

    def show(self, lines: Sequence[Line]) -> None:
        old, self.lines = self.lines, tuple(lines)
        # What is below the edge is not drawn, however much it is.
        for y in range(min(self.size.height, max(len(old), len(self.lines)))):
            was, now = (each[y] if y < len(each) else () for each in (old, self.lines))
            if was != now:
                start, cells = changed_part(was, now)
                self.refresh(Region(start, y, cells, 1))

    def render_line(self, y: int) -> Strip:
        line = self.lines[y] if y < len(self.lines) else ()
        return strip_of(line, palette_of(self), self.size.width, over=self.ground)
