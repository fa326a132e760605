"""Styled lines broken to a width. Pure."""

from __future__ import annotations

from aiwm_tui.live.text import Line, Span, break_at, line_width, width

INDENT = 3
"""Cells by which the continued lines of a wrapped one are indented."""


class TableLine(tuple[Span, ...]):
    """A line of a small table: where the table's `cells` do not fit, `narrow` stands in its place, for all its lines alike."""

    cells: int
    narrow: tuple[Line, ...]

    def __new__(cls, line: Line, cells: int, narrow: tuple[Line, ...]) -> TableLine:
        made = super().__new__(cls, line)
        made.cells, made.narrow = cells, narrow
        return made


def wrapped(line: Line, cells: int, indent: int = INDENT) -> list[Line]:
    """A styled line as lines of at most `cells`; the continued ones begin with a small indent."""
    if isinstance(line, TableLine) and line.cells > cells:
        return [part for other in line.narrow for part in wrapped(other, cells, indent)]
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
