"""A log, drawn line by line: only what is visible is made harmless, wrapped and looked through, however long the log is."""

from __future__ import annotations

from typing import NamedTuple

from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from aiwm_tui.live import format as form
from aiwm_tui.live.log_lines import LogLines
from aiwm_tui.live.log_search import FAULT, WARNING
from aiwm_tui.live.text import Line, Span, clean, cut, width, wrap
from aiwm_tui.widgets.paint import palette_of, strip_of

SIDE = 8
"""Cells that ← and → move by."""
TIME_CELLS = 13


class Drawn(NamedTuple):
    """A line of the screen: what it says, and whether it is part of the match that `n` went to."""

    line: Line
    on: bool = False


class LogText(Widget, can_focus=True):
    """Follows the end until somebody scrolls up, and again when they return to it. `wraps` and `times` are how lines are written."""

    DEFAULT_CSS = "LogText { height: 1fr; }"

    class Moved(Message):
        """Another part is shown; `near_top`: less than a screen lies above."""

        def __init__(self, near_top: bool) -> None:
            super().__init__()
            self.near_top = near_top

    def __init__(self, lines: LogLines) -> None:
        super().__init__(id="log")
        self.lines = lines
        self.follows = True
        self.wraps = True
        self.times = False
        self.current: int | None = None
        self.note: tuple[Line, ...] = ()
        self._top = 0
        self._part = 0
        self._first = False
        self._side = 0
        self._stale = False
        self._drawn: list[Drawn] = []

    # What the page gives

    def show(self, *, note: tuple[Line, ...] = (), stale: bool = False) -> None:
        """The lines changed, or how they are shown. `note` stands in place of lines when there are none."""
        self.note, self._stale = note, stale
        self._settle()

    def stand(self, number: int) -> None:
        """Show the part that begins with this line."""
        self.follows, self._first, self._top, self._part = False, False, number, 0
        self._settle()

    def go_to(self, number: int) -> None:
        """Put a match into the upper third of the screen, and mark it."""
        self.current = number
        self.follows, self._first, self._top, self._part = False, False, number, 0
        self._back(self.size.height // 3)
        self._settle()

    def turn(self, *, wraps: bool | None = None, times: bool | None = None) -> None:
        """Write lines another way, from the line on that stands at the top."""
        self.wraps = self.wraps if wraps is None else wraps
        self.times = self.times if times is None else times
        self._part = self._side = 0
        self._settle()

    # What the page asks

    @property
    def top(self) -> int:
        """The number of the line at the top of the screen."""
        return self._top

    @property
    def below(self) -> int:
        """How many lines lie below the screen."""
        if self.follows or not len(self.lines):
            return 0
        seen = self._lines_from(self.lines.index(self._top), self._part)
        return max(0, len(self.lines) - 1 - seen)

    @property
    def last(self) -> int:
        """The number behind the last line on the screen: searching backwards begins there."""
        if not len(self.lines):
            return 0
        return abs(self.lines.at(self._lines_from(self.lines.index(self._top), self._part))) + 1

    def said(self) -> str:
        """The match that was gone to, or all that is on the screen, as the log has it."""
        if not len(self.lines):
            return ""
        if self.current is not None and self.lines.first <= self.current < self.lines.end:
            numbers = [self.current]
        else:
            first = self.lines.index(self._top)
            numbers = [self.lines.at(index) for index in range(first, self._lines_from(first, self._part) + 1)]
        texts = (_harmless(self.lines.text(each)) for each in numbers if each > 0 and self.lines.own(each) is None)
        return "\n".join(texts)

    # Moving

    def move(self, rows: int) -> None:
        self._first = False
        if rows < 0:
            if self.follows:
                self._to_last()
            self.follows = False
            self._back(-rows)
        else:
            self._on(rows)
        self._settle()

    def page(self, pages: float) -> None:
        self.move(int(pages * max(1, self.size.height - 1)) or (1 if pages > 0 else -1))

    def to_edge(self, direction: int) -> None:
        self.follows = direction > 0
        self._first = direction < 0
        self._settle()

    def sideways(self, steps: int) -> None:
        """Move to the side, where lines are not wrapped."""
        if not self.wraps:
            self._side = max(0, self._side + steps * SIDE)
            self._settle()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.move(3)
        event.stop()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.move(-3)
        event.stop()

    def _back(self, rows: int) -> None:
        index = self.lines.index(self._top)
        while rows > 0:
            if self._part:
                step = min(rows, self._part)
                self._part -= step
                rows -= step
            elif index == 0:
                break
            else:
                index -= 1
                self._part = self._height(index)
        self._top = self.lines.at(index) if len(self.lines) else 0

    def _on(self, rows: int) -> None:
        index, count = self.lines.index(self._top), len(self.lines)
        while rows > 0 and index < count:
            left = self._height(index) - self._part
            if rows < left:
                self._part += rows
                break
            if index + 1 == count:
                break
            rows -= left
            index, self._part = index + 1, 0
        self._top = self.lines.at(index) if count else 0

    def _to_last(self) -> None:
        """Stand so that the last line is the last on the screen."""
        count = len(self.lines)
        if not count:
            self._top = self._part = 0
            return
        self._top, self._part = self.lines.at(count - 1), self._height(count - 1)
        self._back(self.size.height)

    def _lines_from(self, index: int, part: int) -> int:
        """The index of the last line on a screen that begins there."""
        room, count = self.size.height + part, len(self.lines)
        while index < count:
            room -= self._height(index)
            if room <= 0 or index + 1 == count:
                break
            index += 1
        return index

    # Drawing

    def _settle(self) -> None:
        """Where one stands may be gone, or be the end by now; then draw."""
        if not self.size.width:
            return
        count = len(self.lines)
        if count and self._first:
            # Older lines come while one waits: the first one is the first that there is.
            self._top, self._part = self.lines.at(0), 0
        if count and not self.follows:
            index = self.lines.index(self._top)
            if self.lines.at(index) != self._top:
                self._top, self._part = self.lines.at(index), 0
            self._part = min(self._part, self._height(index) - 1)
            at = (index, self._part)
            self._to_last()
            last = (self.lines.index(self._top), self._part)
            if at >= last and not self._first:
                self.follows = True
            else:
                self._top, self._part = self.lines.at(at[0]), at[1]
        if self.follows:
            self._to_last()
        self._redraw()
        self.post_message(self.Moved(self.lines.index(self._top) < self.size.height if count else True))

    def _redraw(self) -> None:
        drawn = self._draw()
        old, self._drawn = self._drawn, drawn
        for y in range(self.size.height):
            if (old[y] if y < len(old) else None) != (drawn[y] if y < len(drawn) else None):
                self.refresh(Region(0, y, self.size.width, 1))

    def _draw(self) -> list[Drawn]:
        room = self.size.height
        if not len(self.lines):
            return [Drawn(line) for line in self.note[:room]]
        index, skip = self.lines.index(self._top), self._part
        drawn: list[Drawn] = []
        while len(drawn) < room and index < len(self.lines):
            drawn += self._visual(index)[skip:]
            index, skip = index + 1, 0
        return drawn[:room]

    @property
    def _cells(self) -> int:
        return max(1, self.size.width - 1 - (TIME_CELLS if self.times else 0))

    def _height(self, index: int) -> int:
        """How many lines of the screen a line takes."""
        number = self.lines.at(index)
        if not self.wraps or number < 0 or self.lines.own(number) is not None:
            return 1
        text = self.lines.text(number)
        if len(text) <= self._cells and text.isascii() and text.isprintable():
            return 1
        return len(wrap(_harmless(text), self._cells))

    def _visual(self, index: int) -> list[Drawn]:
        number = self.lines.at(index)
        if number < 0:
            left = form.plural(self.lines.gap(index), "line")
            return [Drawn((("  ··· ", "rule"), (left, "faint"), (" ···", "rule")))]
        own = self.lines.own(number)
        if own is not None:
            return [Drawn(own)]
        text = _harmless(self.lines.text(number))
        hit = self.lines.hit(number)
        marks = self.lines.search.marks(text) if hit else []
        style = _style(text, beside=self.lines.picks and not hit)
        parts = wrap(text, self._cells) if self.wraps else [text[_column(text, self._side) :]]
        at, out = 0 if self.wraps else len(text) - len(parts[0]), []
        for place, part in enumerate(parts):
            # The space at which a line breaks hangs over its end.
            shown = part.rstrip(" ") if self.wraps and width(part) > self._cells else cut(part, self._cells)
            line = (self._before(number, place), *_marked(shown, at, style, marks))
            out.append(Drawn(line, number == self.current))
            at += len(part)
        return out

    def _before(self, number: int, place: int) -> Span:
        """What stands left of a line: when it came."""
        if not self.times:
            return (" ", "")
        at = self.lines.time(number) if not place else 0
        text = form.clock_ms(at) if at else ("" if place else form.NONE)
        return (f" {text:<{TIME_CELLS}}", "faint")

    def on_resize(self) -> None:
        self._drawn = []
        self._part = 0
        self.refresh()
        self._settle()

    def render_line(self, y: int) -> Strip:
        drawn = self._drawn[y] if y < len(self._drawn) else Drawn(())
        return strip_of(
            drawn.line,
            palette_of(self),
            self.size.width,
            over="cursor" if drawn.on else None,
            instead="stale" if self._stale else None,
        )


def _harmless(text: str) -> str:
    return clean(text.replace("\t", "    "))


def _style(text: str, *, beside: bool) -> str:
    if FAULT.search(text, 0, 2_000):
        return "broken"
    if WARNING.search(text, 0, 2_000):
        return "wrong"
    return "dim" if beside else "text"


def _column(text: str, cells: int) -> int:
    """The index of the character at a cell."""
    if text.isascii():
        return min(cells, len(text))
    used = 0
    for index, character in enumerate(text):
        if used >= cells:
            return index
        used += width(character)
    return len(text)


def _marked(part: str, at: int, style: str, marks: list[tuple[int, int]]) -> list[Span]:
    """A part of a line that begins at character `at` of it, with what was looked for marked."""
    out: list[Span] = []
    done = 0
    for start, end in marks:
        low, high = max(start - at, done), min(end - at, len(part))
        if low < high:
            out += [(part[done:low], style), (part[low:high], "found")]
            done = high
    return [*out, (part[done:], style)]
