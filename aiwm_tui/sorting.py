"""How `s`, `f` and `!` change a location. Pure."""

from __future__ import annotations

from datetime import datetime
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


def filter_by_cell(location: Location, column: Column, row: Any, now: int, *, without: bool = False) -> Location:
    """The location with the condition that this cell's column has this cell's value, or `without` that it has not."""
    term = _condition(location.table, column, row, now)
    if without:
        return _without(location, term)
    others = tuple(each for each in location.terms if each.field != column.key)
    return msgspec.structs.replace(location, terms=(*others, term))


def _condition(table: str, column: Column, row: Any, now: int) -> Term:
    if not column.key:
        raise AiwmError(Code.bad_request, f"{column.title} cannot be filtered by")
    field = field_of(table, column.key)
    value = getattr(row, field.attribute)
    if column.value is not None:
        return Term(Op.any_of, (column.value(row),), column.key)
    if value is None or value == "" or value == ():
        raise AiwmError(Code.bad_request, f"{row.id} has no {column.title} to filter by")
    if field.kind is Kind.age:
        return Term(Op.at_least, (f"{max(0, now - value) // 1000}s",), column.key)
    if field.kind is Kind.time:
        return Term(Op.at_least, (_moment(value, now),), column.key)
    if field.kind in (Kind.number, Kind.size, Kind.span):
        written = f"{value:g}" if isinstance(value, float) else str(value)
        return Term(Op.at_least, (written + ("ms" if field.kind is Kind.span else ""),), column.key)
    if field.kind is Kind.texts:
        return Term(Op.any_of, tuple(str(part).replace('"', "?") for part in value), column.key)
    return Term(Op.any_of, (str(value).replace('"', "?"),), column.key)


def _moment(ms: int, now: int) -> str:
    """A point in time as one types it: a time of day means the last one, so that of another day has its date."""
    at = datetime.fromtimestamp(ms / 1000)
    same = at.date() == datetime.fromtimestamp(now / 1000).date() and ms <= now
    return form.clock(ms) if same else at.isoformat(timespec="seconds")


def _without(location: Location, term: Term) -> Location:
    """A value less: out of those that are wanted, else into those that are not."""
    terms = list(location.terms)
    for place, each in enumerate(terms):
        if each.field != term.field or each.op is not term.op or term.op is not Op.any_of:
            continue
        if each.negated:
            values = tuple(dict.fromkeys((*each.values, *term.values)))
            terms[place] = msgspec.structs.replace(each, values=values)
            return msgspec.structs.replace(location, terms=tuple(terms))
        left = tuple(value for value in each.values if value not in term.values)
        if left and left != each.values:
            terms[place] = msgspec.structs.replace(each, values=left)
            return msgspec.structs.replace(location, terms=tuple(terms))
    return msgspec.structs.replace(location, terms=(*terms, msgspec.structs.replace(term, negated=True)))
