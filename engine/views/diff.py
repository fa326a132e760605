"""What a client has been shown, and what must be said so that it shows something newer. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from engine.contract.notifications import ViewChanged

Row = dict[str, Any]


class Shown(msgspec.Struct, frozen=True):
    """A window as a client has it: rows by id, in order, and the counts beside them."""

    rows: dict[str, Row]
    top: int = 0
    matched: int = 0
    exact: bool = True
    total: int = 0
    faults: int | None = None


def shown(
    records: Iterable[Any], *, top: int, matched: int, total: int, exact: bool = True, faults: int | None = None
) -> Shown:
    """A window from its records in order."""
    rows = {record.id: msgspec.to_builtins(record) for record in records}
    return Shown(rows, top, matched, exact, total, faults)


def difference(view: str, seq: int, before: Shown, after: Shown) -> ViewChanged | None:
    """The notification that makes `after` of `before`; None when they are equal."""
    changed = [row for identifier, row in after.rows.items() if before.rows.get(identifier) != row]
    removed = [identifier for identifier in before.rows if identifier not in after.rows]
    reordered = list(before.rows) != list(after.rows)
    if not changed and not removed and not reordered and _counts(before) == _counts(after):
        return None
    return ViewChanged(
        view=view,
        seq=seq,
        rows=changed,
        removed=removed,
        order=list(after.rows) if reordered else None,
        top=after.top,
        matched=after.matched,
        total=after.total,
        matched_exact=after.exact,
        faults=after.faults,
    )


def _counts(window: Shown) -> tuple[Any, ...]:
    return (window.top, window.matched, window.exact, window.total, window.faults)
