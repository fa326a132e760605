"""Which columns a table shows: those that its screen comes with, or those that the operator chose, from every field of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.text import Span
from aiwm_tui.screens.cells import number, since, text
from aiwm_tui.screens.spec import TableScreen
from engine.contract.fields import Field, Kind, fields_of
from engine.contract.records import TABLES

_ADDED = 2
"""Priority of a column that no screen comes with: who chose it wants it before most others, but not before the id."""


def name_of(column: Column) -> str:
    """What a column is called in the operator's file: its field, or its title where it is of no field."""
    return column.key or column.title


def every_column(screen: TableScreen) -> tuple[Column, ...]:
    """All columns that a table can have: those that the screen comes with, then one for each other field of its rows."""
    fields = fields_of(screen.table)
    hints = get_type_hints(TABLES[screen.table])
    shown = {fields[column.key].attribute for column in screen.columns if column.key in fields}
    titles = {column.title for column in screen.columns}
    added: list[Column] = []
    for name, field in fields.items():
        # An attribute has one column, under its own name: `age` and `prio` are other words for it.
        if name == field.name and field.attribute in hints and field.attribute not in shown and name not in titles:
            shown.add(field.attribute)
            if _is_plain(hints[field.attribute]):
                added.append(_column(field))
    return (*screen.columns, *added)


def _is_plain(hint: Any) -> bool:
    """Whether one line can say it."""
    return not any(part in str(hint) for part in ("dict", "list", "Any", "Struct"))


_CELLS: Mapping[Kind, Callable[[str], Callable[[Any, int], Span]]] = {
    Kind.size: lambda attribute: number(attribute, form.size),
    Kind.span: lambda attribute: number(attribute, form.span),
    Kind.time: since,
}


def _column(field: Field) -> Column:
    numeric = field.kind not in (Kind.text, Kind.texts)
    cell = _CELLS[field.kind](field.attribute) if field.kind in _CELLS else _plain(field)
    title = field.name.replace("_", " ")
    return Column(field.name, title, cell, right=numeric, priority=_ADDED, most=10 if numeric else 24)


def _plain(field: Field) -> Callable[[Any, int], Span]:
    if field.kind is Kind.number:
        return number(field.attribute, _number)
    return text(field.attribute)


def _number(value: Any) -> str:
    return form.rate(value) if isinstance(value, float) else form.count(value)


def chosen_columns(screen: TableScreen, names: Sequence[str]) -> tuple[Column, ...]:
    """The columns of these names, in their order; the screen's own when there are none of them. Names of no column are passed over: a
    field may have gone with a version."""
    known = {name_of(column): column for column in every_column(screen)} if names else {}
    return tuple(known[name] for name in names if name in known) or screen.columns
