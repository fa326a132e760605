"""A small aligned printer for tables: a cell is one line and moves no cursor, whatever a task put in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiwm_tui.cli.columns import Column
from aiwm_tui.live.text import cut, fit, width
from aiwm_tui.states import GLYPHS, look

Write = Callable[[str], None]

# The theme's words as the sixteen colours that every terminal has.
_COLOURS = {
    "works": "32",
    "coming": "36",
    "held": "33",
    "later": "36",
    "paused": "33",
    "asks": "35",
    "wrong": "33",
    "broken": "31",
    "done": "32",
    "cancelled": "2",
}


_NOTHING = frozenset({"", "–", "0"})
_LEAST_LAST = 16
"""Cells that the last column, the reason, needs to say something."""


def print_table(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], write: Write, *, width: int | None, styled: bool
) -> None:
    """Aligned columns, two spaces apart. `width` is the terminal's (None: no terminal, nothing is cut, no glyphs, no colour): columns for
    which it has no room are left out, first those that say nothing, then from the right; the first two and the last stay."""
    cells = [[_cell(column, row, glyphs=width is not None) for column in columns] for row in rows]
    wides = [_width_of(column.title, index, cells) for index, column in enumerate(columns)]
    if width is not None:
        shown = _with_room(cells, wides, width)
        columns, wides = [columns[index] for index in shown], [wides[index] for index in shown]
        cells = [[texts[index] for index in shown] for texts in cells]
        before = sum(wide + 2 for wide in wides[:-1])
        wides[-1] = min(wides[-1], max(width - before, 10))
    write(_line([column.title for column in columns], columns, wides, bold=styled))
    for row, texts in zip(rows, cells, strict=True):
        write(_line(texts, columns, wides, row=row if styled else None))


def _with_room(cells: Sequence[Sequence[str]], wides: Sequence[int], width: int) -> list[int]:
    """The columns that a terminal has room for."""
    shown = list(range(len(wides)))
    least_last = min(wides[-1], _LEAST_LAST)
    middle = shown[2:-1][::-1]
    empty = [index for index in middle if all(texts[index] in _NOTHING for texts in cells)]
    going = [*empty, *(index for index in middle if index not in empty)]
    while going and sum(wides[index] + 2 for index in shown[:-1]) + least_last > width:
        shown.remove(going.pop(0))
    return shown


def _cell(column: Column, row: Mapping[str, Any], *, glyphs: bool) -> str:
    text = column.cell(row)
    if glyphs and column.state_of not in (None, "events"):
        return f"{GLYPHS.get(look(str(column.state_of), text), '·')} {text}"
    return text


def _width_of(title: str, index: int, cells: Sequence[Sequence[str]]) -> int:
    return max(width(title), max((width(texts[index]) for texts in cells), default=0))


def _line(
    texts: Sequence[str],
    columns: Sequence[Column],
    wides: Sequence[int],
    *,
    bold: bool = False,
    row: Mapping[str, Any] | None = None,
) -> str:
    last = len(columns) - 1
    parts = []
    for index, (text, column, wide) in enumerate(zip(texts, columns, wides, strict=True)):
        part = cut(text, wide) if index == last and not column.right else fit(text, wide, right=column.right)
        if row is not None and column.state_of is not None:
            colour = _COLOURS.get(look(column.state_of, column.cell(row)))
            part = f"\x1b[{colour}m{part}\x1b[0m" if colour else part
        parts.append(part)
    line = "  ".join(parts).rstrip()
    return f"\x1b[1m{line}\x1b[0m" if bold else line
