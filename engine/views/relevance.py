"""What a committed batch means for an open window on tasks, events or performance records: nothing, other counts, or other rows. Pure.

This is what keeps a window on a million tasks quiet while old ones are worked off: rows behind the window's end change its counts,
which are known, and nothing must be read."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import msgspec

from engine.contract.fields import Kind, field_of
from engine.contract.ids import task_seq
from engine.contract.query import Location, Term
from engine.store import plan
from engine.store.ops import ChangedTask


class Stale(IntEnum):
    """How much of a window may be out of date; each includes the ones before it."""

    fresh = 0
    reasons = 1
    counts = 2
    rows = 3


class Interest(msgspec.Struct):
    """What a window on tasks or events looks at."""

    table: str
    picking: tuple[Term, ...]
    searches: bool
    order: plan.Order
    known: dict[plan.Group, bool]

    @classmethod
    def of(cls, location: Location) -> Interest:
        picking, rest = plan.split(location)
        if location.around:
            # Whatever comes next may be a neighbour of what matches.
            return cls(location.table, (), True, plan.order_of(location), {})
        return cls(location.table, picking, bool(rest), plan.order_of(location), {})

    def picks(self, group: plan.Group) -> bool:
        found = self.known.get(group)
        if found is None:
            found = self.known[group] = plan.picks(self.table, self.picking, group)
        return found


class Frame(msgspec.Struct, frozen=True):
    """The numbers of the rows that a window shows. `full`: there are as many as it has room for."""

    seqs: frozenset[int]
    first: int
    last: int
    full: bool


def frame(ids: Iterable[str], table: str, size: int) -> Frame:
    """The frame of a window from its rows' ids in order."""
    seqs = [task_seq(identifier) if table == "tasks" else int(identifier) for identifier in ids]
    if not seqs:
        return Frame(frozenset(), 0, 0, size == 0)
    return Frame(frozenset(seqs), seqs[0], seqs[-1], len(seqs) >= size)


def tasks_stale(interest: Interest, shown: Frame, changed: Iterable[ChangedTask]) -> Stale:
    """How stale a batch makes a window on tasks."""
    stale = Stale.fresh
    for change in changed:
        before = change.before is not None and interest.picks((change.came_from or change.queue, change.before))
        after = change.after is not None and interest.picks((change.queue, change.after))
        if change.before is None or change.after is None or before or after:
            stale = Stale.counts
        if (before or after) and _reaches(interest, shown, change.seq, moves=before != after):
            return Stale.rows
    return stale


def _reaches(interest: Interest, shown: Frame, seq: int, *, moves: bool) -> bool:
    """Whether a change of a row that matches, or did, may be seen in the window. `moves`: it enters or leaves the matching rows."""
    if interest.order.key != "seq" or interest.searches or not shown.full or seq in shown.seqs:
        return True
    if not moves or not shown.seqs:
        return False
    return seq > shown.last if interest.order.descending else seq < shown.last


def appended_stale(interest: Interest, shown: Frame, groups: Iterable[str]) -> Stale:
    """How stale new rows of these groups make a window on a table that only grows: events by level, records by state."""
    stale = Stale.fresh
    for group in groups:
        stale = Stale.counts
        if interest.picks((group,)):
            # New rows have the highest numbers: at the end of a rising order they are behind a full window.
            behind = interest.order.key == "seq" and not interest.order.descending and shown.full
            if interest.searches or not behind:
                return Stale.rows
    return stale


def depends_on_time(location: Location) -> bool:
    """Whether rows come and go by the clock alone."""
    for term in location.conditions():
        if (
            term.field is not None
            and term.field != "is"
            and field_of(location.table, term.field).kind in (Kind.age, Kind.time, Kind.since)
        ):
            return True
    return False
