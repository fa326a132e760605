"""Tasks that wait for other tasks: released when the last of these has completed, failed when one of them cannot.

A blocked task is in the store only; the scheduler hears of it when it is released. Ends of tasks that nobody waits for cost a look
into an empty set."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.ids import task_id, task_seq
from engine.contract.states import Durability, TaskState
from engine.control.closing import Closing
from engine.control.dispatcher import Dispatcher
from engine.control.loading import stored_ref
from engine.scheduling.dependencies import Blocked, FailDependent, Release, judge_dependent
from engine.scheduling.inputs import TaskBlocked, TaskSubmitted
from engine.store import ops
from engine.store.journal import Journal
from engine.store.ops import ChangedTask
from engine.store.readers import Readers

_log = logging.getLogger(__name__)

MAX_AFTER = 1_000
_PAGE = 1_000
_AT_ONCE = 100
_ENDED = frozenset(state.value for state in TaskState if state.ended)


class Dependencies:
    """Knows which tasks are waited for, and settles those that wait when one of them ends."""

    def __init__(
        self, journal: Journal, readers: Readers, dispatcher: Dispatcher, closing: Closing, clock: Clock
    ) -> None:
        self._journal = journal
        self._readers = readers
        self._dispatcher = dispatcher
        self._closing = closing
        self._clock = clock
        self._awaited: set[int] = set()
        self._to_settle: deque[int] = deque()
        self._settling: asyncio.Task[None] | None = None
        self._counted: tuple[int, dict[str, int]] = (0, {})
        dispatcher.unmet = self.unmet
        dispatcher.blocked = self.blocked

    def expect(self, after: tuple[str, ...]) -> tuple[tuple[int, ...], int]:
        """The numbers behind a submit's `after`, and how many of them have not completed. Raises `not_found` for one that does not exist
        and `conflict` for one that has ended otherwise.

        From here on their ends are looked at: call `settle` once the task is stored, for they may end before it is."""
        if len(after) > MAX_AFTER:
            raise AiwmError(
                Code.bad_request, f"after names {len(after)} tasks, but at most {MAX_AFTER} may be named", field="after"
            )
        seqs = tuple(dict.fromkeys(map(_seq_of, after)))
        open_ones = [seq for seq in seqs if self._is_open(seq)]
        self._awaited.update(open_ones)
        return seqs, len(open_ones)

    def _is_open(self, seq: int) -> bool:
        stored = self._readers.task(seq)
        if stored is None:
            raise _unknown(task_id(seq))
        if stored.state in (TaskState.failed, TaskState.cancelled):
            raise AiwmError(
                Code.conflict,
                f"task {task_id(seq)} has {'failed' if stored.state == TaskState.failed else 'been cancelled'}, so nothing after it"
                " would run",
                field="after",
                fix=f"aiwm task retry {task_id(seq)}",
            )
        return stored.state != TaskState.completed

    def revived(self, seq: int) -> int:
        """How many tasks a failed or cancelled one must wait for if it is revived. Raises `conflict` when one of these cannot complete."""
        unmet = self.unmet(seq)
        lost = judge_dependent(seq, unmet)
        if isinstance(lost, FailDependent):
            raise AiwmError(Code.conflict, lost.message, fix=f"aiwm task retry {task_id(lost.cause)}")
        self._awaited.update(other for other, _ in unmet)
        return len(unmet)

    def unmet(self, seq: int) -> list[tuple[int, TaskState]]:
        """The tasks that one waits for and that have not completed."""
        return [(other, TaskState(state)) for other, state in self._readers.unmet(seq)]

    def blocked(self, queue: str | None = None) -> int:
        """How many tasks of a queue (or of all) wait for others."""
        if not self._awaited:
            return 0
        second = self._clock.mono_ns() // 1_000_000_000
        if self._counted[0] != second:
            self._counted = (second, self._readers.blocked_counts())
        counts = self._counted[1]
        return sum(counts.values()) if queue is None else counts.get(queue, 0)

    def settle(self, seq: int) -> None:
        """Look again whether a blocked task can go on."""
        self._later([seq])

    def start(self) -> None:
        """Find what waits for what, and settle what an earlier engine (or a storage that failed) left behind."""
        after = 0
        while page := self._readers.blocked_tasks(_PAGE, after):
            after = page[-1]
            for seq in page:
                self._awaited.update(other for other, state in self.unmet(seq) if not state.ended)
            self._later(page)

    def committed(self, changed: Iterable[ChangedTask]) -> None:
        """A batch is on disk: settle those who waited for what ended in it."""
        awaited = self._awaited
        if not awaited:
            return
        for change in changed:
            if change.after in _ENDED and change.seq in awaited:
                awaited.discard(change.seq)
                self._later(self._readers.dependents(change.seq))

    def close(self) -> None:
        if self._settling is not None:
            self._settling.cancel()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _later(self, seqs: Iterable[int]) -> None:
        self._to_settle.extend(seqs)
        if self._to_settle and (self._settling is None or self._settling.done()):
            self._settling = asyncio.get_running_loop().create_task(self._settle_all())

    async def _settle_all(self) -> None:
        """A few at a time: thousands may wait for one task, and the loop has other things to do."""
        count = 0
        while self._to_settle:
            try:
                self._settle(self._to_settle.popleft())
            except Exception:
                _log.exception("a task that waits for others could not be settled")
            count += 1
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _settle(self, seq: int) -> None:
        stored = self._readers.task(seq)
        if stored is None or stored.state in _ENDED or not stored.blocked:
            return
        match judge_dependent(seq, self.unmet(seq)):
            case FailDependent() as lost:
                self._closing.fail(seq, "failed", self._error(lost))
            case Blocked(count=count):
                if count < stored.blocked:
                    self._set_blocked(seq, count, Durability(stored.durability))
                if stored.deadline_ms is not None:
                    self._dispatcher.feed(TaskBlocked(seq, stored.deadline_ms))
            case Release():
                self._set_blocked(seq, 0, Durability(stored.durability))

    def _error(self, lost: FailDependent) -> ErrorInfo:
        cause = self._readers.task(lost.cause)
        why = f" ({cause.reason})" if cause is not None and cause.reason and cause.state == TaskState.failed else ""
        return ErrorInfo(
            code=lost.code,
            message=f"{lost.message}{why}"[:500],
            fix=f"aiwm task retry {task_id(lost.cause)}, then aiwm task retry {task_id(lost.seq)}",
        )

    def _set_blocked(self, seq: int, blocked: int, durability: Durability) -> None:
        now = self._clock.wall_ms()
        entry: list[ops.Op] = [ops.SetBlocked(seq, blocked, now)]
        if not blocked:
            entry.append(
                ops.AppendEvent(
                    at_ms=now,
                    level="info",
                    type="task.released",
                    who="scheduler",
                    about=task_id(seq),
                    text="what it waited for has completed",
                    task_seq=seq,
                )
            )

        def done(receipt: asyncio.Future[Any]) -> None:
            # What could not be written is found again when storage works (`start`).
            if receipt.cancelled() or receipt.exception() is not None or receipt.result().fenced or blocked:
                return
            stored = self._readers.task(seq)
            if stored is not None and stored.state not in _ENDED:
                self._dispatcher.feed(TaskSubmitted(stored_ref(stored)))

        self._journal.write(entry, durability).add_done_callback(done)


def _seq_of(identifier: str) -> int:
    try:
        return task_seq(identifier)
    except AiwmError:
        raise _unknown(identifier) from None


def _unknown(identifier: str) -> AiwmError:
    return AiwmError(Code.not_found, f'task "{identifier[:40]}" does not exist', field="after", fix="aiwm task list")
