"""A table as the screen shows it, for paper: the same columns in the same order with the same texts at the same width. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiwm_tui.live.columns import FLEX_ROOM, Column, Slot, arrange, heading
from aiwm_tui.live.text import Line, Span, fit, width
from engine.contract.query import SortKey


def sort_marks(keys: Sequence[SortKey]) -> dict[str, str]:
    """What the header adds to the columns that are sorted by: `1▲`, `2▼`."""
    return {key.field: f"{place}{'▼' if key.descending else '▲'}" for place, key in enumerate(keys, 1)}


def table_lines(
    columns: Sequence[Column], rows: Sequence[Any], keys: Sequence[SortKey], now_ms: int, cells: int | None
) -> list[Line]:
    """The heading and a line for each row in at most `cells`; None: whole texts and every column, as wide as need be."""
    drawn = [[column.cell(row, now_ms) for column in columns] for row in rows]
    marks = sort_marks(keys)
    slots = _whole(columns, drawn, marks) if cells is None else arrange(columns, _content(columns, drawn), cells, marks)
    titles = [(heading(slot, marks), "head") for slot in slots]
    return [_line(slots, titles), *(_line(slots, _cells(slots, spans)) for spans in drawn)]


def _content(columns: Sequence[Column], drawn: Sequence[Sequence[Span]]) -> dict[str, int]:
    """The widest cell of each column, as far as it counts: what the live table has grown to when it shows these rows."""
    return {
        column.title: max((min(width(spans[place][0]), _most(column)) for spans in drawn), default=0)
        for place, column in enumerate(columns)
    }


def _most(column: Column) -> int:
    return FLEX_ROOM if column.flex else column.most


def _whole(columns: Sequence[Column], drawn: Sequence[Sequence[Span]], marks: dict[str, str]) -> list[Slot]:
    slots: list[Slot] = []
    at = 0
    for place, column in enumerate(columns):
        title = width(column.title) + width(marks.get(column.key, ""))
        cells = max([title, *(width(spans[place][0]) for spans in drawn)])
        slots.append(Slot(column, place, at, cells))
        at += cells + 2
    return slots


def _cells(slots: Sequence[Slot], spans: Sequence[Span]) -> list[Span]:
    return [(fit(spans[slot.place][0], slot.cells, right=slot.column.right), spans[slot.place][1]) for slot in slots]


def _line(slots: Sequence[Slot], texts: Sequence[Span]) -> Line:
    line: list[Span] = []
    at = 0
    for slot, (text, style) in zip(slots, texts, strict=True):
        if slot.start > at:
            line.append((" " * (slot.start - at), ""))
        line.append((text, style))
        at = slot.start + slot.cells
    return tuple(line)
