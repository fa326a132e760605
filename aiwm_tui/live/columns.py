"""Columns of a live table: what a cell says, and how the columns share a width. Pure.

Columns are as wide as what they show, within their bounds, and grow only; a flexible column (the reason) takes what is left and
gives way last. When even the narrow widths do not fit, columns go by priority, the highest number first; 0 stays always."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from aiwm_tui.live.text import Span, cut, width

FLEX_LEAST = 8
FLEX_ROOM = 34
"""A flexible column keeps what it shows up to this many cells (or two fifths of a narrow terminal) before others go."""


class Column(msgspec.Struct, frozen=True):
    """One column. `key` is its field in the filter language ("" for none), `cell` makes (text, style) of a record and the time in Unix
    ms, `value` what `f` filters by (default: the cell's text), `most` bounds the width in cells. `shape`:
    a drawing, no word or number; a thin line goes without it."""

    key: str
    title: str
    cell: Callable[[Any, int], Span]
    right: bool = False
    flex: bool = False
    priority: int = 0
    most: int = 20
    least: int = 0
    shape: bool = False
    value: Callable[[Any], str] | None = None


class Slot(msgspec.Struct, frozen=True):
    """A column as it is shown: its place among all of them, from which cell on, how wide."""

    column: Column
    place: int
    start: int
    cells: int


def arrange(
    columns: Sequence[Column], content: Mapping[str, int], total: int, marks: Mapping[str, str], *, lean: bool = False
) -> list[Slot]:
    """Share `total` cells. `content` has the widest cell of each column by title, `marks` what the header adds (`1▲`) by key. `lean`
    leaves out columns that are drawings."""
    wanted = {column.title: _natural(column, content, total, marks) for column in columns}
    shown = [column for column in columns if not (lean and column.shape)]
    while (need := _sum(shown, wanted, 1)) > total and any(column.priority for column in shown):
        shown.remove(max(shown, key=lambda column: (column.priority, shown.index(column))))
    if need > total:
        wanted |= _squeezed(shown, wanted, need - total)
    placed = _placed(shown, wanted, total, 2 if _sum(shown, wanted, 2) <= total else 1)
    places = {column.title: place for place, column in enumerate(columns)}
    return [Slot(column, places[column.title], start, cells) for column, start, cells in placed]


def _sum(shown: Sequence[Column], wanted: Mapping[str, int], gap: int) -> int:
    return sum(wanted[column.title] for column in shown) + gap * (len(shown) - 1)


def _natural(column: Column, content: Mapping[str, int], total: int, marks: Mapping[str, str]) -> int:
    heading = width(column.title) + width(marks.get(column.key, ""))
    if column.flex:
        return max(FLEX_LEAST, min(max(heading, content.get(column.title, 0)), FLEX_ROOM, total * 2 // 5))
    return max(heading, column.least, min(content.get(column.title, 0), column.most))


def _squeezed(shown: Sequence[Column], wanted: Mapping[str, int], excess: int) -> dict[str, int]:
    """Narrow the widest columns when nothing more may go: a terminal of 40 columns."""
    cells = {column.title: wanted[column.title] for column in shown}
    while excess > 0 and cells:
        widest = max(cells, key=lambda title: cells[title])
        if cells[widest] <= 4:
            break
        cells[widest] -= 1
        excess -= 1
    return cells


def _placed(shown: Sequence[Column], wanted: Mapping[str, int], total: int, gap: int) -> list[tuple[Column, int, int]]:
    spare = max(0, total - _sum(shown, wanted, gap))
    flexible = sum(1 for column in shown if column.flex)
    slots: list[tuple[Column, int, int]] = []
    at = 0
    for column in shown:
        cells = wanted[column.title]
        if column.flex:
            share = spare // flexible
            cells, spare, flexible = cells + share, spare - share, flexible - 1
        cells = min(cells, total - at)
        if cells <= 0:
            break
        slots.append((column, at, cells))
        at += cells + gap
    return slots


def heading(slot: Slot, marks: Mapping[str, str]) -> str:
    """A column's title with its sort mark, cut to its width, aligned as its cells are."""
    text = cut(slot.column.title + marks.get(slot.column.key, ""), slot.cells)
    space = " " * (slot.cells - width(text))
    return space + text if slot.column.right else text + space
