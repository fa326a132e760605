"""What the journal's thread and the event loop hand each other: entries one way, what was committed the other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from engine.contract.errors import AiwmError
from engine.contract.records import EventRow
from engine.contract.states import Durability
from engine.store.ops import ChangedTask, InsertTask, Op, Receipt
from engine.store.rows import event_row
from engine.store.statements import Row


class Entry:
    """Operations that are written together or not at all, and who waits for that."""

    __slots__ = ("durability", "future", "ops", "size")

    def __init__(self, ops: Sequence[Op], durability: Durability, future: asyncio.Future[Receipt]) -> None:
        self.ops = ops
        self.durability = durability
        self.future = future
        self.size = 0
        for op in ops:
            if type(op) is InsertTask:
                self.size += len(op.payload)


class CommittedBatch:
    """A batch that is on disk. `changed` in the order of writing; a task may occur more than once. `counts` are changes of the
    counters (queue, state), `event_counts` of those of events (level), `record_counts` of those of performance records (state);
    `rated`: an older record was rated."""

    __slots__ = ("_events", "_rows", "changed", "counts", "event_counts", "rated", "record_counts")

    def __init__(
        self,
        changed: list[ChangedTask],
        rows: list[Row],
        counts: dict[tuple[str, str], int],
        event_counts: dict[str, int],
        record_counts: dict[str, int],
        *,
        rated: bool = False,
    ) -> None:
        self.changed = changed
        self.counts = counts
        self.event_counts = event_counts
        self.record_counts = record_counts
        self.rated = rated
        self._rows = rows
        self._events: list[EventRow] | None = None

    @property
    def events(self) -> list[EventRow]:
        """The batch's events, made when first asked for: most batches have no reader."""
        if self._events is None:
            self._events = [event_row(row) for row in self._rows]
        return self._events


Outcome = tuple[Entry, Receipt | AiwmError]
