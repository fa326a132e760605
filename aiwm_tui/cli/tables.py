"""A small aligned printer for tables: a cell moves no cursor, whatever a task put in it, and is one line but where a column says else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from aiwm_tui.cli.columns import Column
from aiwm_tui.live.format import NONE
from aiwm_tui.live.text import cut, fit, width, wrap
from aiwm_tui.states import GLYPHS, look

Write = Callable[[str], None]

# The theme's words as the sixteen colours that every terminal has.
COLOURS = {
    "strong": "1",
    "title": "1",
    "alert": "1;31",
    "head": "2",
    "dim": "2",
    "faint": "2",
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


_NOTHING = frozenset({"", NONE})
_NOTE = 2
"""The priority of a reason or note: columns up to it stay as long as they can."""
_LEAST = 8
_ROOM = 12
_ROOM_OF_NOTE = 32
"""Cells that a text keeps before less important columns go: a name, and the reason or note (at most three tenths of the terminal)."""


def print_table(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], write: Write, *, width: int | None, styled: bool
) -> list[str]:
    """Aligned columns, two spaces apart. `width` is the terminal's in cells: texts are cut to it and columns for which there is no room are
    left out; the titles of those are returned. None: no terminal, nothing is cut or left out, no glyphs, no colour."""
    cells = [[_cell(column, row, glyphs=width is not None) for column in columns] for row in rows]
    wides = [_width_of(column.title, index, cells) for index, column in enumerate(columns)]
    shown = list(range(len(columns)))
    if width is not None:
        silent = {index for index in shown if all(texts[index] in _NOTHING for texts in cells)}
        shown, wides = fitted(columns, wides, silent, width)
    seen, wides = [columns[index] for index in shown], [wides[index] for index in shown]
    write(_line([cut(column.title, wide) for column, wide in zip(seen, wides, strict=True)], seen, wides, bold=styled))
    for row, texts in zip(rows, cells, strict=True):
        first, *below = _lines([texts[index] for index in shown], seen, wides)
        write(_line(first, seen, wides, row=row if styled else None))
        for more in below:
            write(_line(more, seen, wides))
    return [column.title for index, column in enumerate(columns) if index not in shown]


def fitted(
    columns: Sequence[Column], wides: Sequence[int], silent: Collection[int], width: int
) -> tuple[list[int], list[int]]:
    """Which columns a terminal of `width` cells has room for, and how wide each of all the columns is then. `wides` is what they would
    take, `silent` those that say nothing in any row: they go first, then by priority."""
    shown = list(range(len(columns)))
    least = _least(columns, shown, wides, width)
    while len(shown) > 1 and _sum(shown, least) > width:
        shown.remove(max(shown, key=lambda index: _standing(columns[index], index in silent, index)))
        least = _least(columns, shown, wides, width)
    if len(shown) == 1:
        least[shown[0]] = min(least[shown[0]], width)
    spare = width - _sum(shown, least)
    # What is left goes to the texts that are cut, a cell to each in turn, so that short ones are whole first.
    while spare > 0 and (cut_ones := [index for index in shown if least[index] < wides[index]]):
        for index in cut_ones[:spare]:
            least[index] += 1
        spare -= len(cut_ones[:spare])
    return shown, least


def _standing(column: Column, silent: bool, index: int) -> tuple[bool, int, int]:
    """What goes first is the greatest."""
    return silent and column.priority > 1, column.priority, index


def _sum(shown: Sequence[int], wides: Sequence[int]) -> int:
    return sum(wides[index] + 2 for index in shown) - 2


def _least(columns: Sequence[Column], shown: Sequence[int], wides: Sequence[int], width: int) -> list[int]:
    """What each column takes at least: numbers and names all, a text some room as long as less important columns could go for it."""
    last = max(columns[index].priority for index in shown) <= _NOTE
    least = []
    for column, wide in zip(columns, wides, strict=True):
        if column.right or column.whole:
            least.append(wide)
        elif last:
            least.append(min(wide, _LEAST))
        else:
            least.append(min(wide, min(_ROOM_OF_NOTE, width * 3 // 10) if column.priority <= _NOTE else _ROOM))
    return least


def _cell(column: Column, row: Mapping[str, Any], *, glyphs: bool) -> str:
    text = column.cell(row)
    if glyphs and column.state_of not in (None, "events"):
        return f"{GLYPHS.get(look(str(column.state_of), text), '·')} {text}"
    return text


def _width_of(title: str, index: int, cells: Sequence[Sequence[str]]) -> int:
    return max(width(title), max((width(texts[index]) for texts in cells), default=0))


def _lines(texts: Sequence[str], columns: Sequence[Column], wides: Sequence[int]) -> list[Sequence[str]]:
    """A row's cells, then what goes on below them."""
    if not any(column.below for column in columns):
        return [texts]
    wrapped = [
        [part.rstrip() for part in wrap(text, wide)] if column.below else [text]
        for text, column, wide in zip(texts, columns, wides, strict=True)
    ]
    return list(zip_longest(*wrapped, fillvalue=""))


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
            colour = COLOURS.get(look(column.state_of, column.cell(row)))
            part = f"\x1b[{colour}m{part}\x1b[0m" if colour else part
        parts.append(part)
    line = "  ".join(parts).rstrip()
    return f"\x1b[1m{line}\x1b[0m" if bold else line
