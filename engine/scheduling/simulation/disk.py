"""The world's disk: rows that survive, the fence, and pages in the orders that the scheduler asks for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from engine.contract.states import TaskState
from engine.scheduling.inputs import ClassKey, ClassSummary, Key, TaskRef
from engine.scheduling.retry import Verdict, crash_limit

if TYPE_CHECKING:
    from engine.scheduling.simulation.checks import Checks

WAITING = frozenset({TaskState.pending, TaskState.scheduled, TaskState.retrying})
PENDING, PROCESSING = TaskState.pending, TaskState.processing


class Row:
    """A task as it is on disk. `completions` counts results that were accepted: never more than one. It waits for the tasks in `after`
    while it is `blocked`."""

    __slots__ = (
        "adapters",
        "after",
        "attempt",
        "blocked",
        "completions",
        "crashes",
        "deadline_ms",
        "due_ms",
        "epoch",
        "key",
        "max_attempts",
        "on_crash",
        "rank",
        "seq",
        "state",
    )

    def __init__(
        self,
        seq: int,
        key: ClassKey,
        rank: int,
        due_ms: int | None,
        deadline_ms: int | None,
        max_attempts: int | None,
        on_crash: Literal["retry", "dead-letter"],
        after: tuple[int, ...] = (),
        adapters: tuple[str, ...] | None = None,
    ) -> None:
        self.seq = seq
        self.adapters = adapters
        self.after = after
        self.blocked = False
        self.key = key
        self.rank = rank
        self.due_ms = due_ms
        self.deadline_ms = deadline_ms
        self.max_attempts = max_attempts
        self.on_crash = on_crash
        self.state = PENDING if due_ms is None else TaskState.scheduled
        self.attempt = 0
        self.epoch = 0
        self.crashes = 0
        self.completions = 0

    def ref(self) -> TaskRef:
        key = self.key
        return TaskRef(
            self.seq,
            key.queue,
            self.rank,
            key.tenant,
            key.criteria,
            self.due_ms if self.state is not PENDING else None,
            self.attempt,
            self.crashes,
            self.max_attempts,
            self.deadline_ms,
            self.on_crash,
            self.state is TaskState.retrying,
            adapters=self.adapters,
        )


class Disk:
    """Rows by seq, and an index for each order. Methods are what one committed operation does; they return whether it hit its row."""

    def __init__(self, checks: Checks, counts: Callable[[ClassKey], bool]) -> None:
        """`counts` says of which classes the rows that have not ended are counted in `open`."""
        self._checks = checks
        self._counts = counts
        self.open = 0
        self.rows: dict[int, Row] = {}
        self.epoch = 0
        self.dependents: dict[int, list[int]] = {}
        self._pending: dict[ClassKey, list[Key]] = {}
        self._due: list[Key] = []
        self._deadlines: list[Key] = []

    # -- operations --------------------------------------------------------------------------------------------------

    def insert(self, row: Row) -> bool:
        self.rows[row.seq] = row
        self.open += self._counts(row.key)
        for other in row.after:
            self.dependents.setdefault(other, []).append(row.seq)
        row.blocked = bool(row.after)
        self._index(row)
        if row.deadline_ms is not None:
            insort(self._deadlines, (row.deadline_ms, row.seq))
        return True

    def start(self, seq: int, attempt: int) -> bool:
        row = self.rows[seq]
        if row.state not in WAITING or row.attempt != attempt - 1:
            return False
        self._move(row, PROCESSING)
        row.attempt = attempt
        row.epoch = self.epoch
        self._checks.started(row)
        return True

    def fence(self, row: Row, epoch: int, attempt: int) -> bool:
        """Is this the end of the attempt that runs now?"""
        return row.state is PROCESSING and row.epoch == epoch and row.attempt == attempt

    def end(self, seq: int, epoch: int, attempt: int, verdict: Verdict) -> bool:
        row = self.rows[seq]
        if not self.fence(row, epoch, attempt):
            return False
        self._checks.ending(row, epoch, attempt, verdict.state is TaskState.completed)
        row.due_ms = verdict.due_ms
        row.crashes = verdict.crashes
        self._move(row, verdict.state)
        row.completions += verdict.state is TaskState.completed
        return True

    def give_up(self, seq: int, state: TaskState) -> bool:
        """Cancel, expire or dead-letter a row that waits."""
        row = self.rows[seq]
        if row.state not in WAITING:
            return False
        self._move(row, state)
        return True

    def promote(self, seqs: tuple[int, ...]) -> bool:
        for seq in seqs:
            row = self.rows[seq]
            if row.state in WAITING:
                self._move(row, PENDING)
        return True

    def unmet(self, seq: int) -> list[tuple[int, TaskState]]:
        """What this task waits for and that has not completed."""
        rows = (self.rows[other] for other in self.rows[seq].after)
        return [(row.seq, row.state) for row in rows if row.state is not TaskState.completed]

    def release(self, seq: int) -> bool:
        """It waits for no other task any more."""
        row = self.rows[seq]
        if not row.blocked or row.state not in WAITING:
            return False
        self._unindex(row)
        row.blocked = False
        self._index(row)
        return True

    def take_back(self, max_crashes: int) -> None:
        """A new epoch: what the last engine was running waits again, or is dead."""
        self.epoch += 1
        for row in self.rows.values():
            if row.state is PROCESSING:
                row.crashes += 1
                dead = crash_limit(row.crashes, row.on_crash, max_crashes) is not None
                self._move(row, TaskState.failed if dead else PENDING)

    # -- pages -------------------------------------------------------------------------------------------------------

    def page(self, key: ClassKey, after: Key, limit: int) -> tuple[tuple[TaskRef, ...], bool]:
        index = self._pending.get(key, [])
        at = bisect_right(index, after)
        return tuple(self.rows[seq].ref() for _, seq in index[at : at + limit]), at + limit < len(index)

    def classes(self, after: ClassKey | None, limit: int) -> tuple[tuple[ClassSummary, ...], bool]:
        keys = sorted(key for key, index in self._pending.items() if index and (after is None or key > after))
        return tuple(ClassSummary(key, len(self._pending[key])) for key in keys[:limit]), limit < len(keys)

    def due(self, after: Key, limit: int) -> tuple[tuple[TaskRef, ...], bool]:
        at = bisect_right(self._due, after)
        return tuple(self.rows[seq].ref() for _, seq in self._due[at : at + limit]), at + limit < len(self._due)

    def deadlines(self, after: Key, limit: int) -> tuple[tuple[Key, ...], bool]:
        at = bisect_right(self._deadlines, after)
        return tuple(self._deadlines[at : at + limit]), at + limit < len(self._deadlines)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _move(self, row: Row, state: TaskState) -> None:
        was_waiting = row.state in WAITING
        if was_waiting:
            self._unindex(row)
        row.state = state
        if state is PENDING:
            row.due_ms = None
        waits = state in WAITING
        if waits:
            self._index(row)
        elif state is not PROCESSING:
            self.open -= self._counts(row.key)
        if row.deadline_ms is not None and waits != was_waiting:
            if waits:
                insort(self._deadlines, (row.deadline_ms, row.seq))
            else:
                _drop(self._deadlines, (row.deadline_ms, row.seq))

    def _index(self, row: Row) -> None:
        if row.blocked:
            return
        if row.state is PENDING:
            insort(self._pending.setdefault(row.key, []), (row.rank, row.seq))
        else:
            assert row.due_ms is not None
            insort(self._due, (row.due_ms, row.seq))

    def _unindex(self, row: Row) -> None:
        if row.blocked:
            return
        if row.state is PENDING:
            _drop(self._pending[row.key], (row.rank, row.seq))
        else:
            assert row.due_ms is not None
            _drop(self._due, (row.due_ms, row.seq))


def _drop(index: list[Key], key: Key) -> None:
    at = bisect_left(index, key)
    assert index[at] == key
    del index[at]
