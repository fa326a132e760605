"""Windows on tables that are small enough to be looked at whole each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.contract.fields import FAULT_STATES
from engine.contract.query import Location, Op, Term, holds, matches, sort_records
from engine.views.diff import Shown, shown

_FAULT = Term(Op.any_of, ("fault",), "is")


def memory_window(location: Location, records: Sequence[Any], top: int, size: int, now_ms: int) -> Shown:
    """The window of a table's records; `top` moves back when there are too few rows."""
    found = sort_records(location, [record for record in records if matches(location, record, now_ms)])
    top = max(0, min(top, len(found) - size))
    faults = None
    if location.table in FAULT_STATES:
        faults = sum(holds(location.table, _FAULT, record, now_ms) for record in found)
    return shown(found[top : top + size], top=top, matched=len(found), total=len(records), faults=faults)


def memory_index(location: Location, records: Sequence[Any], identifier: str, now_ms: int) -> int | None:
    """Where a row stands in the location's order; None if it does not match."""
    found = sort_records(location, [record for record in records if matches(location, record, now_ms)])
    return next((index for index, record in enumerate(found) if record.id == identifier), None)
