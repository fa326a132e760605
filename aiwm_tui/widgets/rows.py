"""What the lines of a live table say, as styled text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiwm_tui.live.columns import Slot, heading
from aiwm_tui.live.text import Line, Span, fit

GUTTER = 2
"""Cells at the left of every row: the cursor, and a place for marks."""


class Drawn(NamedTuple):
    """What one visible line says: equal values look equal. `cursor` is the style that lies over it, "" for none; `note` stands in
    place of cells."""

    cells: tuple[Span, ...]
    cursor: str
    stale: bool
    note: Line = ()
    marked: bool = False


def heading_line(slots: Sequence[Slot], marks: Mapping[str, str], chosen: int | None) -> Line:
    """The titles of the columns; the chosen one is what `f` and `s` work on."""
    line: list[Span] = [(" " * GUTTER, "")]
    at = 0
    for place, slot in enumerate(slots):
        line.append((" " * (slot.start - at), ""))
        line.append((heading(slot, marks), "head_on" if place == chosen else "head"))
        at = slot.start + slot.cells
    return tuple(line)


def row_line(slots: Sequence[Slot], drawn: Drawn) -> Line:
    """One row in its columns."""
    if not drawn.cells:
        return ((("› " if drawn.cursor else "  "), "mark"), *drawn.note) if drawn.note else ()
    line: list[Span] = [(("›" if drawn.cursor == "cursor" else " ") + ("▪" if drawn.marked else " "), "mark")]
    at = 0
    for slot in slots:
        text, style = drawn.cells[slot.place]
        line.append((" " * (slot.start - at), ""))
        line.append((fit(text, slot.cells, right=slot.column.right), style))
        at = slot.start + slot.cells
    return tuple(line)
