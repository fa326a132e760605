"""Changing tasks by hand: retry, cancel, move, priority, each on fixed ids, and putting back what was changed.

Every task is an entry of its own, fenced: one that has gone on meanwhile is refused with what happened, and the others are not held up.
Its event carries the operation's id, so that after a crash it can be told which were done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.definitions import QueueDefinition
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.ids import task_id, task_seq
from engine.contract.requests.tasks import TaskMove, TaskPriority, TaskRetry
from engine.contract.states import Durability, TaskState
from engine.control import adapter_names
from engine.control.book import Book
from engine.control.catalogue import Catalogue
from engine.control.closing import Closing
from engine.control.dependencies import Dependencies
from engine.control.dispatcher import Dispatcher
from engine.control.failures import fingerprint
from engine.control.loading import stored_ref
from engine.control.operation_log import Operation, Was
from engine.control.submission import Submission
from engine.control.templating import deep_merge
from engine.scheduling.inputs import TaskEnded, TaskSubmitted
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers
from engine.store.rows import StoredTask

FRONT = -(2**60)
"""Ranks of tasks that were put to the front: before all that time and priority can give, the first one put there first."""
_AT_ONCE = 500
_WAITING = frozenset({TaskState.pending, TaskState.scheduled, TaskState.retrying})


class Outcome(msgspec.Struct):
    """What became of the tasks of a change; `was` is what is needed to put the done ones back."""

    done: list[str] = []
    refused: dict[str, str] = {}
    stopping: list[str] = []
    was: dict[str, Was] = {}


class Refused(Exception):
    """A task that cannot be changed, and why, in words."""


One = Callable[[int, StoredTask, Outcome], Awaitable[None]]


class Changes:
    """Does changes. Nothing here decides whether to: ids are fixed and agreed to before."""

    def __init__(
        self,
        journal: Journal,
        readers: Readers,
        dispatcher: Dispatcher,
        closing: Closing,
        dependencies: Dependencies,
        submission: Submission,
        catalogue: Catalogue,
        book: Book,
        clock: Clock,
    ) -> None:
        self._book = book
        self._journal = journal
        self._readers = readers
        self._dispatcher = dispatcher
        self._closing = closing
        self._dependencies = dependencies
        self._submission = submission
        self._catalogue = catalogue
        self._clock = clock

    async def cancel(self, operation: Operation, ids: Iterable[str]) -> Outcome:
        """Cancel what has not ended: waiting tasks end, running ones are told to stop (`stopping`)."""

        async def one(seq: int, stored: StoredTask, outcome: Outcome) -> None:
            if TaskState(stored.state).ended:
                raise Refused(f"it has {_ended_words(stored.state)}")
            if stored.state == TaskState.processing:
                self._closing.stop(seq)
                outcome.stopping.append(task_id(seq))
                return
            became = await self._closing.cancel(seq, operation.by, operation.id)
            if became != TaskState.cancelled:
                raise Refused(f"it has {_ended_words(became)}")
            outcome.done.append(task_id(seq))
            outcome.was[task_id(seq)] = _was(stored)

        return await self._each(ids, one)

    async def retry(self, operation: Operation, request: TaskRetry, ids: Iterable[str]) -> Outcome:
        """Put ended tasks back into their queues; one that waits for its time waits no longer."""

        async def one(seq: int, stored: StoredTask, outcome: Outcome) -> None:
            if stored.state in (TaskState.retrying, TaskState.scheduled):
                await self._hasten(operation, request, seq, stored, outcome)
                return
            if stored.state not in (TaskState.failed, TaskState.cancelled):
                raise Refused(f"it {_state_words(stored.state)}")
            queue = self._queue(stored.queue)
            now = self._clock.wall_ms()
            priority = stored.priority if request.priority is None else request.priority
            rank = FRONT + now if request.front else now - priority * queue.aging_ms
            over, before = _overrides(request), self._decoded(seq)
            payload = self._submission.encoded(deep_merge(before, over), stored) if over else None
            revive = ops.ReviveTask(
                seq,
                now,
                rank,
                queue.retry.max_retries + 1,
                payload,
                request.priority,
                self._dependencies.revived(seq),
                adapter_names.asked(over),
            )
            changes = _changes_of(request)
            text = f"put back into {queue.name}" + (f": {changes}" if changes else "")
            await self._write(stored, revive, self._event(operation, seq, "task.revived", text))
            outcome.done.append(task_id(seq))
            kept = {name: before[name] for name in over if name in before} if over else None
            outcome.was[task_id(seq)] = _was(stored, kept)
            self._wait_again(seq)

        return await self._each(ids, one)

    async def _hasten(
        self, operation: Operation, request: TaskRetry, seq: int, stored: StoredTask, outcome: Outcome
    ) -> None:
        if _overrides(request) or request.priority is not None or request.front:
            raise Refused("it waits for its time: it can be let go now as it is, or changed once it has ended")
        event = self._event(operation, seq, "task.hastened", "shall not wait for its time")
        await self._rearrange(seq, stored, outcome, ops.DueTask(seq, self._clock.wall_ms()), event)

    async def move(self, operation: Operation, request: TaskMove, ids: Iterable[str]) -> Outcome:
        """Move waiting tasks to another queue, or to the front."""
        target = self._queue(request.queue) if request.queue else None

        async def one(seq: int, stored: StoredTask, outcome: Outcome) -> None:
            queue = target or self._queue(stored.queue)
            now = self._clock.wall_ms()
            rank = FRONT + now if request.front else _age(stored, now) - stored.priority * queue.aging_ms
            where = f"to {queue.name}" + (", to the front" if request.front else "")
            entry = (ops.MoveTask(seq, queue.name, rank), self._event(operation, seq, "task.moved", where))
            await self._rearrange(seq, stored, outcome, *entry)

        return await self._each(ids, one)

    async def prioritize(self, operation: Operation, request: TaskPriority, ids: Iterable[str]) -> Outcome:
        """Give waiting tasks another priority."""

        async def one(seq: int, stored: StoredTask, outcome: Outcome) -> None:
            queue, now = self._queue(stored.queue), self._clock.wall_ms()
            rank = _age(stored, now) - request.priority * queue.aging_ms
            text = f"priority {stored.priority} → {request.priority}"
            entry = (
                ops.SetPriority(seq, request.priority, rank),
                self._event(operation, seq, "task.priority", text),
            )
            await self._rearrange(seq, stored, outcome, *entry)

        return await self._each(ids, one)

    # -- back --------------------------------------------------------------------------------------------------------

    async def put_back(self, operation: Operation, who: str) -> Outcome:
        """Undo what was done: each task that has not gone further since becomes what it was."""
        undo = {"task.retry": self._unretry, "task.move": self._unmove, "task.priority": self._unmove}.get(
            operation.request, self._uncancel
        )

        async def one(seq: int, stored: StoredTask, outcome: Outcome) -> None:
            was = operation.was.get(task_id(seq))
            if was is None:
                raise Refused(f"it was running and what it did is lost: aiwm task retry {task_id(seq)}")
            event = self._event(operation, seq, "task.undone", f"{operation.request} of {operation.id} taken back", who)
            await undo(operation, seq, stored, was, event)
            outcome.done.append(task_id(seq))

        return await self._each(operation.done, one)

    async def _unretry(
        self, operation: Operation, seq: int, stored: StoredTask, was: Was, event: ops.AppendEvent
    ) -> None:
        if was.state in _WAITING:
            raise Refused("it only waits no longer for its time")
        if stored.state != TaskState.pending and stored.state != TaskState.scheduled:
            raise Refused(f"it {_state_words(stored.state)}")
        now = self._clock.wall_ms()
        self._dispatcher.feed(TaskEnded(seq, stored.attempt, "gone"))
        close = self._closed_again(seq, stored, was, now)
        entry = (close, *self._unchange(operation, seq, stored, was, now), event)
        try:
            await self._write(stored, *entry)
        except BaseException:
            self._wait_again(seq)
            raise

    def _unchange(self, operation: Operation, seq: int, stored: StoredTask, was: Was, now: int) -> tuple[ops.Op, ...]:
        """What gives an ended task the payload and priority back that a retry changed: that can be done to a task that is revived."""
        if was.payload is None and was.priority == stored.priority:
            return ()
        payload = None
        if was.payload is not None:
            over = _overrides(msgspec.convert(operation.settings, TaskRetry))
            left = {name: value for name, value in self._decoded(seq).items() if name not in over}
            payload = msgspec.json.encode(left | was.payload)
        revive = ops.ReviveTask(seq, now, was.rank, 1, payload, was.priority, 0, was.adapter)
        return revive, self._closed_again(seq, stored, was, now)

    async def _uncancel(self, _: Operation, seq: int, stored: StoredTask, was: Was, event: ops.AppendEvent) -> None:
        if stored.state != TaskState.cancelled:
            raise Refused(f"it {_state_words(stored.state)}")
        now, blocked = self._clock.wall_ms(), self._dependencies.revived(seq)
        await self._write(stored, ops.ReviveTask(seq, now, was.rank, was.attempts_left, None, None, blocked), event)
        self._wait_again(seq)

    async def _unmove(self, _: Operation, seq: int, stored: StoredTask, was: Was, event: ops.AppendEvent) -> None:
        entry: list[ops.Op] = []
        if was.queue != stored.queue or was.rank != stored.rank:
            entry.append(ops.MoveTask(seq, self._queue(was.queue).name, was.rank))
        if was.priority != stored.priority:
            entry.append(ops.SetPriority(seq, was.priority, was.rank))
        await self._rearrange(seq, stored, Outcome(), *entry, event)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _each(self, ids: Iterable[str], one: One) -> Outcome:
        """Do it to each of them, many at once; what one refuses holds up no other. Raises `storage_failed` if nothing can be written."""
        outcome = Outcome()

        async def go(identifier: str) -> None:
            try:
                seq = task_seq(identifier)
                stored = self._readers.task(seq)
                if stored is None:
                    raise Refused("it does not exist")
                await one(seq, stored, outcome)
            except Refused as reason:
                outcome.refused[identifier] = str(reason)
            except AiwmError as error:
                if error.code == Code.storage_failed:
                    raise
                outcome.refused[identifier] = str(error)

        left = list(dict.fromkeys(ids))
        while left:
            now, left = left[:_AT_ONCE], left[_AT_ONCE:]
            for error in await asyncio.gather(*map(go, now), return_exceptions=True):
                if error is not None:
                    raise error
        return outcome

    async def _rearrange(self, seq: int, stored: StoredTask, outcome: Outcome, *entry: ops.Op) -> None:
        """Change where a waiting task stands. The scheduler forgets it first, so that it does not start it in between."""
        if stored.state not in _WAITING:
            raise Refused(f"it {_state_words(stored.state)}")
        self._dispatcher.feed(TaskEnded(seq, stored.attempt, "gone"))
        try:
            await self._write(stored, *entry)
        finally:
            # A page that was read meanwhile may have told of the row as it was.
            self._dispatcher.feed(TaskEnded(seq, stored.attempt, "gone"))
            self._wait_again(seq)
        outcome.done.append(task_id(seq))
        outcome.was[task_id(seq)] = _was(stored)

    async def _write(self, stored: StoredTask, *entry: ops.Op) -> None:
        self._book.drop(stored.seq)
        if (await self._journal.write(entry, Durability(stored.durability))).fenced:
            latest = self._readers.task(stored.seq)
            raise Refused("it changed meanwhile" if latest is None else f"it {_state_words(latest.state)} meanwhile")

    def _wait_again(self, seq: int) -> None:
        """Let the scheduler know of a row as it waits now, unless it waits for other tasks."""
        stored = self._readers.task(seq)
        if stored is None or stored.state not in _WAITING:
            return
        if stored.blocked:
            self._dependencies.settle(seq)
        else:
            self._dispatcher.feed(TaskSubmitted(stored_ref(stored)))

    def _queue(self, name: str) -> QueueDefinition:
        try:
            return self._catalogue.open_queue(name)
        except AiwmError as error:
            raise AiwmError(error.code, error.info.message, field="queue", fix=error.info.fix) from None

    def _closed_again(self, seq: int, stored: StoredTask, was: Was, now: int) -> ops.Op:
        """What ends a waiting task as it had ended before its retry."""
        if was.state == TaskState.cancelled:
            return ops.CancelTask(seq, now, "cancelled before, its retry was undone")
        _, error = self._readers.result(seq)
        error = error or msgspec.json.encode(ErrorInfo(code=Code.task_failed, message="failed before"))
        info = msgspec.json.decode(error, type=ErrorInfo)
        mark = fingerprint(info.code, info.message, stored.definition)
        return ops.ExpireTask(seq, now, error, f"{info.code}: {info.message}", mark)

    def _decoded(self, seq: int) -> dict[str, Any]:
        data = self._readers.payload(seq)
        payload: dict[str, Any] = {} if data is None else msgspec.json.decode(data)
        return payload

    def _event(self, operation: Operation, seq: int, type_: str, text: str, who: str | None = None) -> ops.AppendEvent:
        return ops.AppendEvent(
            at_ms=self._clock.wall_ms(),
            level="info",
            type=type_,
            who=who or operation.by,
            about=task_id(seq),
            text=f"{text} ({operation.id})",
            task_seq=seq,
            correlation=operation.id,
        )


def _was(stored: StoredTask, payload: dict[str, Any] | None = None) -> Was:
    left = max(1, stored.max_attempts - stored.attempt)
    return Was(stored.state, stored.queue, stored.priority, stored.rank, left, payload, stored.adapter or "")


def _overrides(request: TaskRetry) -> dict[str, Any]:
    """What a retry merges into the payload."""
    over = dict(request.set)
    if request.adapter is not None:
        over["adapters"] = [] if request.adapter == "base" else [{"name": request.adapter}]
    return over


def _age(stored: StoredTask, now_ms: int) -> int:
    """Since when the task counts as waiting: what its rank would be with priority 0. One that had been put to the front waits from now."""
    if stored.rank < FRONT // 2:
        return now_ms
    return stored.due_ms if stored.state == TaskState.scheduled and stored.due_ms is not None else stored.submitted_ms


def _changes_of(request: TaskRetry) -> str:
    parts = [f"adapter {request.adapter}" if request.adapter is not None else ""]
    parts += [f"{name} changed" for name in request.set]
    parts += [
        f"priority {request.priority}" if request.priority is not None else "",
        "to the front" if request.front else "",
    ]
    return ", ".join(part for part in parts if part)


def _state_words(state: str) -> str:
    if TaskState(state).ended:
        return f"has {_ended_words(state)}"
    return {"processing": "is running", "retrying": "has run and waits for another attempt"}.get(state, f"is {state}")


def _ended_words(state: str) -> str:
    return "been cancelled" if state == TaskState.cancelled else state
