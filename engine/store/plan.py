"""How a window is read: which index is walked, what the counters know already, what must be counted.

Rows of tasks are grouped by (queue, state), rows of events by level, performance records by state; how many rows a group has is known
without reading any. Terms on these fields pick groups in memory; what is left of a filter is the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.fields import FAULT_STATES, Kind, field_of
from engine.contract.query import Location, Term, holds, is_descending
from engine.store.compile import NEVER, TABLES, Condition, Table, compile_term, conjunction

COUNT_LIMIT: Final = 10_000
"""Counting stops here, and sort orders without an index are refused beyond it."""
MERGE_GROUPS: Final = 40
"""So many groups are read as sorted streams and merged; of more, rows are picked out of all rows."""

Group = tuple[str, ...]


class _GroupRecord:
    """A group as the filter's evaluator sees it: the attributes that all its rows share."""

    def __init__(self, names: tuple[str, ...], group: Group) -> None:
        for name, value in zip(names, group, strict=True):
            setattr(self, name, value)


def is_group_term(table: str, term: Term) -> bool:
    """Whether a term speaks of a group's fields only."""
    if term.field == "is":
        return True
    return term.field is not None and field_of(table, term.field).attribute in TABLES[table].groups


def picks(table: str, terms: tuple[Term, ...], group: Group) -> bool:
    """Whether rows of a group can match these terms on its fields."""
    if not terms:
        return True
    record = _GroupRecord(TABLES[table].groups, group)
    return all(holds(table, term, record, 0) for term in terms)


class Filter(msgspec.Struct, frozen=True):
    """A location's filter applied to the groups there are. `rows` is how many rows the chosen groups have together, `faults` how many
    of these are broken, `total` the table's; `rest` is the condition that must be tested row by row, bound to one moment."""

    table: Table
    groups: tuple[Group, ...]
    rest: Condition | None
    rows: int
    faults: int
    total: int

    @property
    def merges(self) -> bool:
        """Ranges of single groups beat a walk over all rows when most rows are others'; without a rest they need the index only."""
        if not self.groups or len(self.groups) > MERGE_GROUPS or self.rows == self.total:
            return False
        if any(group[-1] in self.table.group_index[1] for group in self.groups):
            return False
        return self.rest is None or self.rows * 2 < self.total


def split(location: Location) -> tuple[tuple[Term, ...], tuple[Term, ...]]:
    """Terms that pick groups, and the rest."""
    terms = location.conditions()
    picking = tuple(term for term in terms if is_group_term(location.table, term))
    return picking, tuple(term for term in terms if term not in picking)


def filter_of(location: Location, counts: Mapping[Any, int], now_ms: int) -> Filter:
    table = TABLES[location.table]
    picking, rest = split(location)
    groups: list[Group] = []
    rows = faults = total = 0
    for group, count in counts.items():
        if count <= 0:
            continue
        total += count
        if picks(table.name, picking, group):
            groups.append(group)
            rows += count
            faults += count if group[-1] in FAULT_STATES[table.name] else 0
    condition = conjunction(compile_term(table, term, now_ms) for term in rest) if rest else None
    return Filter(table, tuple(sorted(groups)), condition, rows, faults, total)


class Order(msgspec.Struct, frozen=True):
    """The order of rows. `key` is the indexed column that makes it, None when rows must be sorted: by `clause`, or (`natural`) in
    Python, because numbers inside text compare as numbers."""

    key: str | None
    descending: bool
    clause: str = ""
    natural: bool = False

    def walk(self, *, reverse: bool = False) -> str:
        """ORDER BY along the key's index, or along numbers when there is none."""
        down = "DESC" if self.descending != reverse else "ASC"
        if self.key == "ended_ms":
            return f"ended_ms {down} NULLS {'FIRST' if reverse else 'LAST'}, seq {down}"
        return f"seq {down}"


def order_of(location: Location) -> Order:
    """The order a location asks for. Its first key decides whether there is an index."""
    table = TABLES[location.table]
    keys = [(field_of(table.name, key.field), is_descending(table.name, key)) for key in location.sort_keys()]
    descending = keys[0][1]
    first = table.ordered.get(keys[0][0].attribute)
    if first == "seq" or (first is not None and len(keys) == 1):
        return Order(first, descending)
    parts: list[str] = []
    natural = False
    for field, down in keys:
        column = (
            "seq"
            if table.ordered.get(field.attribute) == "seq"
            else table.expressions.get(field.attribute, field.attribute)
        )
        parts.append(f"{column} {'DESC' if down else 'ASC'} NULLS LAST")
        natural = natural or (field.kind is Kind.text and column != "seq")
    return Order(None, descending, ", ".join([*parts, f"seq {'DESC' if descending else 'ASC'}"]), natural)


def too_many_rows(table: Table) -> AiwmError:
    keys = ", ".join(sorted(name.removesuffix("_ms") for name in table.ordered))
    return AiwmError(
        Code.too_many_rows,
        f"more than {COUNT_LIMIT:,} {table.name} match: too many for this sort order",
        field="location",
        fix=f"sort by one of {keys}, or filter further",
    )


# The statements ----------------------------------------------------------------


class Query(msgspec.Struct, frozen=True):
    sql: str
    parameters: tuple[Any, ...] = ()


def _of_groups(filter_: Filter) -> Condition:
    """Membership in the chosen groups, as a condition on any row."""
    names = filter_.table.groups
    lasts: dict[Group, list[str]] = {}
    for group in filter_.groups:
        lasts.setdefault(group[:-1], []).append(group[-1])
    parts: list[str] = []
    parameters: list[str] = []
    for first, last in lasts.items():
        tests = [*(f"{name} = ?" for name in names[:-1]), f"{names[-1]} IN ({','.join('?' * len(last))})"]
        parts.append(f"({' AND '.join(tests)})")
        parameters += [*first, *last]
    return Condition(" OR ".join(parts) or NEVER.sql, tuple(parameters))


def _walked(filter_: Filter, columns: str, index: str, tail: str, extra: Condition | None) -> Query:
    """All rows in the order of an index, with those that do not match left out."""
    conditions = [] if filter_.rows == filter_.total else [_of_groups(filter_)]
    conditions += [condition for condition in (filter_.rest, extra) if condition is not None]
    where = conjunction(conditions)
    return Query(f"SELECT {columns} FROM {filter_.table.name} {index} WHERE {where.sql} {tail}", where.parameters)


def _merged(filter_: Filter, columns: str, tail: str, extra: Condition | None) -> Query:
    """The groups' rows, each group from its own range of the index; SQLite merges them lazily when they shall be in order."""
    table = filter_.table
    index, left_out = table.group_index
    tests = [f"{name} = ?" for name in table.groups] + [f"{table.groups[-1]} <> '{value}'" for value in left_out]
    more = conjunction(condition for condition in (filter_.rest, extra) if condition is not None)
    part = f"SELECT {columns} FROM {table.name} INDEXED BY {index} WHERE {' AND '.join(tests)} AND {more.sql}"
    parameters = tuple(value for group in filter_.groups for value in (*group, *more.parameters))
    return Query(f"{' UNION ALL '.join([part] * len(filter_.groups))} {tail}", parameters)


def numbers(filter_: Filter, order: Order, top: int, size: int, *, reverse: bool = False) -> Query:
    """The numbers of matching rows along the order's index: `size` of them from index `top`, or from the other end."""
    tail = f"ORDER BY {order.walk(reverse=reverse)} LIMIT ? OFFSET ?"
    if order.key == "ended_ms":
        inner = _walked(filter_, "seq, ended_ms", "INDEXED BY tasks_ended", tail, None)
        inner = Query(f"SELECT seq FROM ({inner.sql})", inner.parameters)
    elif filter_.merges:
        inner = _merged(filter_, "seq", tail, None)
    else:
        # NOT INDEXED keeps to the order of numbers, where the walk can stop at the window's end.
        inner = _walked(filter_, "seq", "NOT INDEXED", tail, None)
    return Query(inner.sql, (*inner.parameters, size, top))


def earlier(order: Order, seq: int) -> Condition:
    """Rows that come before a number in the order of numbers."""
    return Condition(f"seq {'>' if order.descending else '<'} ?", (seq,))


def count(filter_: Filter, extra: Condition | None = None) -> Query:
    """One row, one number: how many rows match. Reads all of them."""
    inner = _merged(filter_, "seq", "", extra) if filter_.merges else _walked(filter_, "seq", "NOT INDEXED", "", extra)
    return Query(f"SELECT count(*) FROM ({inner.sql})", inner.parameters)


def matching(filter_: Filter, seq: int) -> Query:
    """One row if the row with this number matches."""
    return _walked(filter_, "seq", "NOT INDEXED", "", Condition("seq = ?", (seq,)))


_AMONG = "seq IN (SELECT value FROM json_each(?))"


def sorted_among(filter_: Filter, order: Order, candidates: str, top: int, size: int) -> Query:
    """Of candidates (numbers as a JSON array), the window in an order without index."""
    clause = order.clause or order.walk()
    sql = f"SELECT seq FROM {filter_.table.name} WHERE {_AMONG} ORDER BY {clause} LIMIT ? OFFSET ?"
    return Query(sql, (candidates, size, top))


def rows_among(table: Table, candidates: str) -> Query:
    """The rows with these numbers (JSON array), in no order."""
    return Query(f"SELECT {table.columns} FROM {table.name} WHERE {_AMONG}", (candidates,))


def among(table: Table, candidates: str) -> Query:
    """The numbers of these (JSON array) that are there, in no order."""
    return Query(f"SELECT seq FROM {table.name} WHERE {_AMONG}", (candidates,))


def faults_among(table: Table, candidates: str) -> Query:
    states = ",".join(f"'{state}'" for state in sorted(FAULT_STATES[table.name]))
    return Query(
        f"SELECT count(*) FROM {table.name} WHERE {_AMONG} AND {table.groups[-1]} IN ({states})", (candidates,)
    )


def dense(table: Table) -> Query:
    """First number, last number, and how many rows there are, in one snapshot: without gaps, a row's number tells its index."""
    first, last = (f"(SELECT {end}(seq) FROM {table.name})" for end in ("min", "max"))
    return Query(f"SELECT {first}, {last}, (SELECT sum(n) FROM {table.counters})")
