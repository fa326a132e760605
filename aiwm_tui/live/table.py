"""A live window on a table as immutable data: what `view.open`, `view.move` and `view.changed` make of it.

Pure. `changed` returns None when a notification does not follow from what is known (a gap): then the view must be reopened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.contract.notifications import ViewChanged
from engine.contract.records import TABLES, Record
from engine.contract.requests.session import ViewRows


class TableState(msgspec.Struct, frozen=True):
    """The rows `ids` in order, the first of them at index `top` of `matched` rows; `exact` False: there are at least that many."""

    table: str
    location: str = ""
    view: str = ""
    seq: int = 0
    ids: tuple[str, ...] = ()
    rows: Mapping[str, Record] = msgspec.field(default_factory=dict)
    top: int = 0
    matched: int = 0
    total: int = 0
    exact: bool = True
    faults: int | None = None

    def at(self, index: int) -> Record | None:
        """The row at an index of all matching rows, None when it is outside the window."""
        place = index - self.top
        return self.rows[self.ids[place]] if 0 <= place < len(self.ids) else None

    def find(self, identifier: str) -> int | None:
        """The index of a row by its id, None when it is outside the window."""
        return self.top + self.ids.index(identifier) if identifier in self.rows else None

    def records(self) -> list[Record]:
        return [self.rows[identifier] for identifier in self.ids]


def _record(table: str, row: dict[str, Any]) -> Record:
    return msgspec.convert(row, TABLES[table])


def opened(answer: ViewRows) -> TableState:
    """The state after `view.open`, `view.move` or `view.read`."""
    records = [_record(answer.table, row) for row in answer.rows]
    return TableState(
        table=answer.table,
        location=answer.location,
        view=answer.view,
        seq=answer.seq,
        ids=tuple(record.id for record in records),
        rows={record.id: record for record in records},
        top=answer.top,
        matched=answer.matched,
        total=answer.total,
        exact=answer.matched_exact,
        faults=answer.faults,
    )


def changed(state: TableState, change: ViewChanged) -> TableState | None:
    """The state after a notification; None for a gap. A notification that is older than the state changes nothing."""
    if change.seq <= state.seq:
        return state
    if change.seq != state.seq + 1:
        return None
    rows = dict(state.rows)
    for identifier in change.removed:
        rows.pop(identifier, None)
    for row in change.rows:
        record = _record(state.table, row)
        rows[record.id] = record
    ids = tuple(change.order) if change.order is not None else tuple(each for each in state.ids if each in rows)
    if len(ids) != len(rows) or any(identifier not in rows for identifier in ids):
        return None
    return TableState(
        table=state.table,
        location=state.location,
        view=state.view,
        seq=change.seq,
        ids=ids,
        rows=rows,
        top=change.top,
        matched=change.matched,
        total=change.total,
        exact=change.matched_exact,
        faults=change.faults,
    )


def differences(old: TableState, new: TableState) -> int:
    """How many rows came, went or changed between two states of one view: what a held view counts."""
    gone = sum(1 for identifier in old.ids if identifier not in new.rows)
    return gone + sum(1 for identifier in new.ids if old.rows.get(identifier) is not new.rows[identifier])
