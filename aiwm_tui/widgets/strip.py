"""The strip: why the row under the cursor is as it is."""

from __future__ import annotations

from enum import Enum

from textual.strip import Strip

from aiwm_tui.live.text import Line, Span, break_at, clean, line_width, width
from aiwm_tui.widgets.lines import TextBlock
from aiwm_tui.widgets.paint import palette_of, strip_of

INDENT = 3


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


def wrapped(line: Line, cells: int, indent: int = INDENT) -> list[Line]:
    """A styled line as lines of at most `cells`; the continued ones begin with a small indent."""
    if line_width(line) <= cells:
        return [line]
    indent = min(indent, cells // 4)
    out: list[Line] = []
    current: list[Span] = []
    used = 0
    for text, style in line:
        at = 0
        while at < len(text):
            room = max(1, cells - used)
            end = break_at(text, at, room)
            # A short rest of the row is left empty rather than filled with half a word.
            if end < len(text) and room < INDENT + 5 and used > indent:
                end = at
            if end > at:
                # The space at which a line breaks hangs over its end.
                piece = text[at:end] if end == len(text) else text[at:end].rstrip(" ")
                current.append((piece, style))
                used += width(piece)
                at = end
            if at < len(text):
                out.append(tuple(current))
                current, used = [(" " * indent, "")], indent
    if used > indent or not out:
        out.append(tuple(current))
    return out
