"""Untrusted text made harmless, and styled text as plain data.

A `Line` is a tuple of (text, style name): nothing is ever parsed as markup. What a task, a model or an event says may contain
anything; `clean` turns it into text that moves no cursor, changes no colour, reverses no order and is as wide as it is counted."""

from __future__ import annotations

import re
import unicodedata

from rich.cells import cell_len

Span = tuple[str, str]
Line = tuple[Span, ...]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Bidirectional controls reorder a whole row; joiners, variation selectors and tags make widths differ between terminals.
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e01ef]"
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code in (0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029):
        return " "
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    return _REPLACEMENT


def clean(text: str, limit: int = 0) -> str:
    """One harmless line: controls become their pictures, line ends and tabs a space. `limit` > 0 looks at that many characters only."""
    if limit and len(text) > limit:
        text = text[:limit]
    if text.isascii() and text.isprintable():
        return text
    text = _CONTROL.sub(_visible, _INVISIBLE.sub("", text))
    # A combining mark at the start would join the cell on its left.
    if text and unicodedata.combining(text[0]):
        text = " " + text
    return text


def clean_lines(text: str) -> list[str]:
    """Text of several lines, each harmless. Tabs become four spaces; the usual line ends separate lines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ")
    return [clean(line) for line in text.split("\n")]


def width(text: str) -> int:
    """Terminal cells that a clean text takes."""
    return len(text) if text.isascii() else cell_len(text)


def cut(text: str, cells: int, ellipsis: str = "…") -> str:
    """The text in at most that many cells; what does not fit is replaced by one `…`."""
    if cells <= 0:
        return ""
    if (len(text) if text.isascii() else cell_len(text)) <= cells:
        return text
    if text.isascii():
        return text[: cells - 1] + ellipsis
    used = 0
    for index, character in enumerate(text):
        used += cell_len(character)
        if used > cells - 1:
            return text[:index] + ellipsis
    return text


def fit(text: str, cells: int, *, right: bool = False) -> str:
    """The text in exactly that many cells, padded on the side that its alignment leaves."""
    text = cut(text, cells)
    space = " " * (cells - width(text))
    return space + text if right else text + space


def line_width(line: Line) -> int:
    return sum(width(text) for text, _ in line)


def plain(line: Line) -> str:
    return "".join(text for text, _ in line)


def cut_line(line: Line, cells: int) -> Line:
    """The line in at most that many cells."""
    out: list[Span] = []
    left = cells
    for text, style in line:
        wide = width(text)
        if wide > left:
            out.append((cut(text, left), style))
            break
        out.append((text, style))
        left -= wide
    return tuple(out)


def wrap(text: str, cells: int) -> list[str]:
    """One clean logical line as visual lines of at most `cells`; breaks after spaces where it can, within words where it must.

    Greedy, so adding to the end changes no line but the last."""
    if cells <= 0:
        return []
    out: list[str] = []
    start = 0
    while start < len(text):
        end = break_at(text, start, cells)
        out.append(text[start:end])
        start = end
    return out or [""]


def break_at(text: str, start: int, cells: int) -> int:
    """Where the visual line that begins at `start` ends."""
    if text.isascii():
        end = start + cells
    else:
        used, end = 0, start
        # Combining marks take no cell; a bounded number of them is looked at so that one line never costs the whole text.
        for character in text[start : start + cells * 8]:
            used += cell_len(character)
            if used > cells:
                break
            end += 1
        end = max(end, start + 1)
    if end >= len(text):
        return len(text)
    space = text.rfind(" ", start, end + 1)
    return space + 1 if space - start > cells // 3 else end


class Wrapped:
    """Untrusted text wrapped to a width and added to at its end. Adding costs what the chunk is long, however long the text is."""

    def __init__(self, cells: int) -> None:
        self._cells = max(1, cells)
        self._held = ""
        self.lines: list[str] = [""]

    def add(self, chunk: str) -> int:
        """Add a chunk; the index of the first visual line that changed."""
        text, self._held = self._held + chunk, ""
        if text.endswith("\r"):
            # It may be half of a line end.
            text, self._held = text[:-1], "\r"
        first = len(self.lines) - 1
        for place, piece in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")):
            if place:
                self.lines.append("")
            harmless = clean(piece.replace("\t", "    "))
            if harmless:
                self.lines[-1:] = wrap(self.lines[-1] + harmless, self._cells)
        return first
