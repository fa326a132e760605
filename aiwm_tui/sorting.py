"""How `s`, `f` and `!` change a location. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from engine.contract.errors import AiwmError, Code
from engine.contract.fields import Kind, field_of
from engine.contract.query import Location, Op, SortKey, Term

MAX_KEYS = 3


def cycled(location: Location, name: str) -> Location:
    """The next order by a column: none → ascending → descending → none. A further column is added behind the others."""
    keys = list(location.sort)
    for place, key in enumerate(keys):
        if key.field == name:
            keys[place : place + 1] = [] if key.descending else [SortKey(name, True)]
            return msgspec.structs.replace(location, sort=tuple(keys))
    return msgspec.structs.replace(location, sort=(*keys[: MAX_KEYS - 1], SortKey(name)))


def without_faults(location: Location) -> Location:
    """Only what is broken, or all of it again."""
    fault = Term(Op.any_of, ("fault",), "is")
    others = tuple(term for term in location.terms if term.field != "is")
    terms = others if len(others) < len(location.terms) else (*others, fault)
    return msgspec.structs.replace(location, terms=terms)


def filter_by_cell(location: Location, column: Column, row: Any, now: int) -> Location:
    """The location with the condition that this cell's column has this cell's value."""
    if not column.key:
        raise AiwmError(Code.bad_request, f"{column.title} cannot be filtered by")
    field = field_of(location.table, column.key)
    value = getattr(row, field.attribute)
    if column.value is not None:
        term = Term(Op.any_of, (column.value(row),), column.key)
    elif value is None or value == "":
        raise AiwmError(Code.bad_request, f"{row.id} has no {column.title} to filter by")
    elif field.kind is Kind.age:
        term = Term(Op.at_least, (f"{max(0, now - value) // 1000}s",), column.key)
    elif field.kind is Kind.time:
        term = Term(Op.at_least, (form.clock(value),), column.key)
    elif field.kind in (Kind.number, Kind.size, Kind.span):
        term = Term(Op.at_least, (f"{value:g}" if isinstance(value, float) else str(value),), column.key)
    else:
        term = Term(Op.any_of, (str(value).replace('"', "?"),), column.key)
    others = tuple(each for each in location.terms if each.field != column.key)
    return msgspec.structs.replace(location, terms=(*others, term))
