"""From styled text to what Textual draws: the only place where style names become styles."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, cast

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.strip import Strip
from textual.widget import Widget

from aiwm_tui.live.text import Line, cut_line, line_width, width
from aiwm_tui.terminal import ascii_text
from aiwm_tui.theme import Palette


class Painted(Protocol):
    """What widgets need of the app."""

    palette: Palette
    lean: bool


def palette_of(widget: Widget) -> Palette:
    return cast(Painted, widget.app).palette


def lean_of(widget: Widget) -> bool:
    """Whether the terminal is at the end of a thin line."""
    return cast(Painted, widget.app).lean


def changed_part(was: Line, now: Line) -> tuple[int, int]:
    """From which cell on and how many cells of a line say something else now."""
    first = 0
    while first < min(len(was), len(now)) and was[first] == now[first]:
        first += 1
    start, old, new = line_width(now[:first]), line_width(was), line_width(now)
    last = 0
    if old == new:
        # What stands behind the difference is where it was.
        while last < min(len(was), len(now)) - first and was[-1 - last] == now[-1 - last]:
            last += 1
    end = new - line_width(now[len(now) - last :]) if last else max(old, new)
    return start, end - start


def strip_of(line: Line, palette: Palette, cells: int, *, over: str | None = None, instead: str | None = None) -> Strip:
    """A line in exactly `cells` cells. `over` lays a style (the cursor) over all of it, `instead` replaces every style (stale rows)."""
    base = palette.base + palette[over] if over else palette.base
    segments: list[Segment] = []
    used = 0
    for text, name in cut_line(_spelled(line) if palette.ascii else line, cells):
        if not text:
            continue
        _append(segments, text, base + _only(palette, instead or name) if (instead or name) else base)
        used += width(text)
    if used < cells:
        _append(segments, " " * (cells - used), base)
    return Strip(segments, cells)


def _append(segments: list[Segment], text: str, style: Style) -> None:
    """Spaces go on in the style before them where they look the same: each change of style is some thirty bytes for the terminal."""
    if segments and text.isspace():
        before, last, _ = segments[-1]
        if last is not None and _same_ground(last, style):
            segments[-1] = Segment(before + text, last)
            return
    segments.append(Segment(text, style))


@lru_cache(maxsize=1024)
def _same_ground(one: Style, other: Style) -> bool:
    """Whether a space looks the same in both."""
    drawn = any(style.reverse or style.underline or style.underline2 or style.strike for style in (one, other))
    return one == other or (not drawn and one.bgcolor == other.bgcolor and one.link == other.link)


def _spelled(line: Line) -> Line:
    """The key ↵ as a word, where it has no glyph: its twin could be anything. Spaces behind it make room."""
    return tuple(
        (_with_enter(text), style) if style == "key" and "↵" in text else (text, style) for text, style in line
    )


def _with_enter(text: str) -> str:
    before, _, behind = text.partition("↵")
    spare = min(len(behind) - len(behind.lstrip(" ")), len("enter") - 1)
    return before + "enter" + behind[spare:]


class AsciiFilter(LineFilter):
    """Everything that is drawn, also by Textual's own widgets, in ASCII."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002
        return [
            each if each.text.isascii() else Segment(ascii_text(each.text), each.style, each.control)
            for each in segments
        ]


def _only(palette: Palette, name: str) -> Style:
    """A style without the background of the base, so that what lies under it stays visible."""
    return palette.styles.get(name) or Style.null()


def spread(left: Line, right: Line, cells: int) -> Line:
    """`left` at the left and `right` at the right end; `left` is cut first, and one space stays between."""
    room = cells - line_width(right)
    if room <= 1:
        return cut_line(right, cells)
    left = cut_line(left, room - 1)
    return (*left, (" " * (room - line_width(left)), ""), *right)
