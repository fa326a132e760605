"""The strip: why the row under the cursor is as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from textual.geometry import Region
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
        self.below: Callable[[int], Sequence[Line]] = lambda _: ()
        self._adds = False

    def explain(self, identifier: str, title: str, lines: tuple[Line, ...]) -> None:
        if (identifier, title, lines) != self._content:
            self._content = (identifier, title, lines)
            self._lay_out()

    def look_below(self) -> None:
        """What `below` makes for so many cells may be different now: where the strip stands beside the table, it has room for more."""
        self._lay_out()

    def show(self, lines: Sequence[Line]) -> None:
        """Show lines; the last place says how many there is no room for, so it is painted whatever line would stand there."""
        before = len(self.lines)
        super().show(lines)
        rows = self.size.height
        if rows and max(before, len(self.lines)) > rows:
            self.refresh(Region(0, rows - 1, self.size.width, 1))

    def on_resize(self) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        identifier, title, lines = self._content
        cells = self.size.width
        if not identifier or not cells:
            self.show(())
            return
        out: list[Line] = [ruled(identifier, title, cells)]
        for line in lines:
            out += wrapped(line, cells)
        below = self.below(cells)
        self._adds = bool(below)
        self.show([*out, (), *below] if below else out)

    def render_line(self, y: int) -> Strip:
        line = self.lines[y] if y < len(self.lines) else ()
        if y == self.size.height - 1 and y + 1 < len(self.lines):
            more = len(self.lines) - y
            key, does = ("d", " all of it") if self._adds else ("w w", " grows the strip")
            line = ((f" … {more} more lines: ", "dim"), (key, "key"), (does, "dim"))
        return strip_of(line, palette_of(self), self.size.width)


def ruled(identifier: str, title: str, cells: int) -> Line:
    """The heading of a strip or a pane: `── t-4hk13 why ─────`."""
    head: Line = (("── ", "rule"), (clean(identifier, max(4, min(60, cells - 16))) + " ", "title"))
    head = (*head, (clean(title, 100) + " ", "dim"))
    return (*head, ("─" * max(0, cells - line_width(head)), "rule"))
