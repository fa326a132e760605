"""The strip: why the row under the cursor is as it is."""

from __future__ import annotations

from enum import Enum

from textual.strip import Strip

from aiwm_tui.live.text import Line, clean, line_width
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.widgets.lines import TextBlock
from aiwm_tui.widgets.paint import palette_of, strip_of


class StripSize(Enum):
    normal = "normal"
    closed = "closed"
    grown = "grown"

    def after(self) -> StripSize:
        """`w` closes, `w w` grows, a third brings it back."""
        return {StripSize.normal: StripSize.closed, StripSize.closed: StripSize.grown}.get(self, StripSize.normal)


class WhyStrip(TextBlock):
    """A rule with the row's id, then lines; long ones wrap, so that the reason is never cut."""

    DEFAULT_CSS = "WhyStrip { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__(id="strip")
        self._content: tuple[str, str, tuple[Line, ...]] = ("", "", ())

    def explain(self, identifier: str, title: str, lines: tuple[Line, ...]) -> None:
        if (identifier, title, lines) != self._content:
            self._content = (identifier, title, lines)
            self._lay_out()

    def on_resize(self) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        identifier, title, lines = self._content
        cells = self.size.width
        if not identifier or not cells:
            self.show(())
            return
        head: Line = (("── ", "rule"), (clean(identifier, 60) + " ", "title"), (clean(title, 100) + " ", "dim"))
        rule = "─" * max(0, cells - line_width(head))
        out: list[Line] = [(*head, (rule, "rule"))]
        for line in lines:
            out += wrapped(line, cells)
        self.show(out)

    def render_line(self, y: int) -> Strip:
        line = self.lines[y] if y < len(self.lines) else ()
        if y == self.size.height - 1 and y + 1 < len(self.lines):
            more = len(self.lines) - y
            line = ((f" … {more} more lines: ", "dim"), ("w w", "key"), (" grows the strip", "dim"))
        return strip_of(line, palette_of(self), self.size.width)
