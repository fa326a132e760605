"""Answering the scheduler's questions to the store: pages of classes, of waiting tasks, of due times and deadlines."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from engine.clock import Clock
from engine.contract.ids import task_id
from engine.contract.states import Durability, TaskState
from engine.control import adapter_names
from engine.control.dispatcher import Dispatcher
from engine.scheduling.decisions import LoadClasses, LoadDeadlines, LoadDue, LoadPage, Promote
from engine.scheduling.inputs import (
    ClassesLoaded,
    ClassKey,
    ClassSummary,
    Criteria,
    DeadlinesLoaded,
    DueLoaded,
    PageLoaded,
    Promoted,
    TaskRef,
)
from engine.store import ops
from engine.store.journal import Journal
from engine.store.ops import criteria_key
from engine.store.readers import Readers
from engine.store.rows import StoredTask, WaitingTask

_EVER = 2**62


class Loading:
    """Performs LoadPage, LoadClasses, LoadDue, LoadDeadlines and Promote."""

    def __init__(self, dispatcher: Dispatcher, journal: Journal, readers: Readers, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._journal = journal
        self._readers = readers
        self._clock = clock
        dispatcher.performs(LoadPage, self._page)
        dispatcher.performs(LoadClasses, self._classes)
        dispatcher.performs(LoadDue, self._due)
        dispatcher.performs(LoadDeadlines, self._deadlines)
        dispatcher.performs(Promote, self._promote)

    def _page(self, decision: LoadPage) -> None:
        key, limit = decision.key, decision.limit
        asked = Criteria.parse(key.criteria)
        stored_key = criteria_key(asked.definition, tuple(asked.capabilities))
        rows = self._readers.page(key.queue, key.tenant, stored_key, decision.after, limit + 1)
        tasks = tuple(map(waiting_ref, rows[:limit]))
        self._dispatcher.feed(PageLoaded(decision.load, key, tasks, len(rows) > limit))

    def _classes(self, decision: LoadClasses) -> None:
        found = [
            ClassKey(row.queue, row.tenant, Criteria(row.definition, frozenset(row.capabilities)).key)
            for row in self._readers.classes()
        ]
        after = decision.after
        left = sorted(key for key in found if after is None or key > after)
        summaries = tuple(map(ClassSummary, left[: decision.limit]))
        self._dispatcher.feed(ClassesLoaded(decision.load, summaries, len(left) > decision.limit))

    def _due(self, decision: LoadDue) -> None:
        rows = self._readers.due_before(_EVER, decision.limit + 1, decision.after)
        tasks = tuple(map(waiting_ref, rows[: decision.limit]))
        self._dispatcher.feed(DueLoaded(decision.load, tasks, len(rows) > decision.limit))

    def _deadlines(self, decision: LoadDeadlines) -> None:
        rows = self._readers.deadlines_before(_EVER, decision.limit + 1, decision.after)
        found = tuple((row.deadline_ms or 0, row.seq) for row in rows[: decision.limit])
        self._dispatcher.feed(DeadlinesLoaded(decision.load, found, len(rows) > decision.limit))

    def _promote(self, decision: Promote) -> None:
        now = self._clock.wall_ms()
        done: list[int] = []
        left = len(decision.seqs)

        def promoted(seq: int, receipt: asyncio.Future[Any]) -> None:
            nonlocal left
            left -= 1
            # A row that was fenced off has moved on (cancelled, expired): whoever moved it tells the scheduler.
            if not receipt.cancelled() and receipt.exception() is None and not receipt.result().fenced:
                done.append(seq)
            if not left and done:
                self._dispatcher.feed(Promoted(tuple(done)))

        for seq in decision.seqs:
            # Losing this write loses nothing: the task is found due again. So it need not be on disk.
            event = ops.AppendEvent(
                at_ms=now, level="debug", type="task.due", who="scheduler", about=task_id(seq), text="due", task_seq=seq
            )
            written = self._journal.write((ops.DueTask(seq, now), event), Durability.os)
            written.add_done_callback(partial(promoted, seq))


def waiting_ref(row: WaitingTask) -> TaskRef:
    """A waiting row as the scheduler knows it."""
    return _ref(row, row.definition)


def stored_ref(row: StoredTask) -> TaskRef:
    """A whole row as the scheduler knows it."""
    return _ref(row, row.wanted)


def _ref(row: WaitingTask | StoredTask, asked_for: str | None) -> TaskRef:
    later = row.state in (TaskState.scheduled, TaskState.retrying)
    return TaskRef(
        seq=row.seq,
        queue=row.queue,
        rank=row.rank,
        tenant=row.tenant,
        criteria=Criteria(asked_for, frozenset(row.capabilities)).key,
        due_ms=row.due_ms if later else None,
        attempt=row.attempt,
        crashes=row.crashes,
        # The store gives a crashed attempt back by raising max_attempts, the scheduler by its count of crashes: once is enough.
        max_attempts=row.max_attempts - row.crashes,
        deadline_ms=row.deadline_ms,
        on_crash="dead-letter" if row.on_crash == "dead-letter" else "retry",
        retrying=row.state == TaskState.retrying,
        submitted_ms=row.submitted_ms,
        adapters=adapter_names.read(row.adapter),
    )
