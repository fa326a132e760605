"""Operations from their beginning to their end: done now, or when they are due; the first ones first; and taken back.

What is stored is enough to go on after a crash: an operation that waits is done by the next engine when it is due, one that was being
done is done for those tasks that have no event of it yet, and a retry's rest follows when its first ones have completed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_seq
from engine.contract.requests.operations import Undone
from engine.contract.requests.tasks import TaskCancel, TaskMove, TaskPriority, TaskRetry
from engine.contract.states import TaskState
from engine.control.changes import Changes, Outcome
from engine.control.operation_log import Operation, OperationLog
from engine.control.reversible import Reversible
from engine.control.waiters import Waiters
from engine.store import ops
from engine.store.readers import Readers

_log = logging.getLogger(__name__)

MAX_DELAY_MS = 30 * 86_400_000
CHANGES = {"task.cancel": TaskCancel, "task.retry": TaskRetry, "task.move": TaskMove, "task.priority": TaskPriority}

Handle = Callable[[str, dict[str, Any], str], Awaitable[Any]]


class Undertakings:
    """Begins operations, does them, and takes them back. `handle(method, params, principal)` does any other request; those that can be
    taken back are put into `reversible` by their methods."""

    def __init__(
        self, log: OperationLog, changes: Changes, waiters: Waiters, readers: Readers, clock: Clock, handle: Handle
    ) -> None:
        self._log = log
        self._changes = changes
        self._waiters = waiters
        self._readers = readers
        self._clock = clock
        self._handle = handle
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._claimed: set[str] = set()
        self._under_way: set[asyncio.Task[None]] = set()
        self._watches: dict[str, asyncio.Task[None]] = {}
        self.reversible: dict[str, Reversible] = {}

    async def begin(
        self,
        request: str,
        by: str,
        *,
        ids: Sequence[str] = (),
        settings: dict[str, Any],
        reason: str = "",
        delay_ms: int = 0,
    ) -> tuple[Operation, Outcome]:
        """Store an operation; do it now, or when `delay_ms` has passed. What became of it, as far as it is done."""
        if not 0 <= delay_ms <= MAX_DELAY_MS:
            raise AiwmError(
                Code.bad_request,
                f"delay_ms is {delay_ms}, but must lie between 0 and {MAX_DELAY_MS}",
                field="delay_ms",
            )
        due_ms = self._clock.wall_ms() + delay_ms if delay_ms else None
        operation = self._log.begin(
            request,
            by,
            ids=tuple(ids),
            settings=settings,
            reason=reason[:500],
            due_ms=due_ms,
            state="waiting" if delay_ms else "running",
            before=self._before(request, settings),
        )
        if delay_ms:
            await self._log.write(operation, self._log.audit(operation, _about(operation)))
            self._schedule(operation)
            return operation, Outcome()
        await self._claim(operation, self._log.audit(operation, _about(operation)))
        return await self._perform(operation)

    def start(self) -> None:
        """Go on with what an earlier engine (or a storage that failed) left: do what is due, finish what was being done, watch the first
        ones of retries."""
        for operation in self._log.open():
            if operation.id in self._claimed:
                continue
            if operation.state == "waiting":
                if operation.id not in self._timers:
                    self._schedule(operation)
            elif operation.state == "canary":
                self._watch(operation)
            else:
                self._claimed.add(operation.id)
                self._go(self._resume, operation)

    def close(self) -> None:
        """Do nothing more; what waits is in the store."""
        for timer in self._timers.values():
            timer.cancel()
        for task in (*self._under_way, *self._watches.values()):
            task.cancel()

    # -- doing -------------------------------------------------------------------------------------------------------

    def _schedule(self, operation: Operation) -> None:
        left_s = max(0, (operation.due_ms or 0) - self._clock.wall_ms()) / 1000
        self._timers[operation.id] = asyncio.get_running_loop().call_later(left_s, self._due, operation)

    def _due(self, operation: Operation) -> None:
        self._timers.pop(operation.id, None)
        if operation.id not in self._claimed:
            self._claimed.add(operation.id)
            self._go(self._do, operation)

    async def _do(self, operation: Operation) -> None:
        try:
            before = self._before(operation.request, operation.settings)
        except AiwmError as error:
            self._claimed.discard(operation.id)
            await self._failed(operation, str(error))
            return
        running = msgspec.structs.replace(operation, state="running", before=before)
        await self._claim(running)
        await self._perform(running)

    def _before(self, request: str, settings: dict[str, Any]) -> dict[str, Any] | None:
        reversible = self.reversible.get(request)
        return None if reversible is None else reversible.before(settings)

    async def _claim(self, operation: Operation, *events: ops.Op) -> None:
        """Store that it is being done. If that cannot be, it stays what it was, and whoever comes next may do it."""
        self._claimed.add(operation.id)
        try:
            await self._log.write(operation, *events)
        except BaseException:
            self._claimed.discard(operation.id)
            raise

    async def _perform(self, operation: Operation) -> tuple[Operation, Outcome]:
        """Do it, and store what became of it."""
        try:
            if operation.request in self.reversible:
                text = await self.reversible[operation.request].do(operation.settings, operation.by)
                return await self._over(operation, "done", Outcome(), text), Outcome()
            if operation.request not in CHANGES:
                await self._handle(operation.request, operation.settings, operation.by)
                return await self._over(operation, "done", Outcome()), Outcome()
            canary = operation.settings.get("canary") or 0
            left = [it for it in operation.ids if it not in operation.done and it not in operation.refused]
            if 0 < canary < len(operation.ids) and not operation.canaries:
                return await self._first_ones(operation, left, canary)
            outcome = await self._change(operation, left)
            return await self._over(operation, "done", outcome), outcome
        except AiwmError as error:
            if error.code == Code.storage_failed:
                message = f"{error.info.message}; {operation.id} goes on when storage works"
                raise AiwmError(error.code, message, fix=f"aiwm operation show {operation.id}") from None
            await self._failed(operation, str(error))
            raise
        finally:
            self._claimed.discard(operation.id)

    async def _first_ones(self, operation: Operation, ids: list[str], canary: int) -> tuple[Operation, Outcome]:
        """Retry the first ones; the rest waits for them. One that is refused gives its place to the next."""
        outcome = Outcome()
        canaries = list(operation.done)
        while ids and len(canaries) < canary:
            count = canary - len(canaries)
            tried, ids = ids[:count], ids[count:]
            part = await self._change(operation, tried)
            outcome = _joined(outcome, part)
            canaries += part.done
        if not canaries:
            return await self._over(operation, "held", outcome, "none of the first could be retried"), outcome
        if not ids:
            return await self._over(operation, "done", outcome), outcome
        text = f"{', '.join(canaries[:8])} first; {len(ids)} follow when {_they(canaries)} completed"
        watched = msgspec.structs.replace(
            _with(operation, outcome), state="canary", canaries=tuple(canaries), waits=tuple(ids), text=text
        )
        await self._log.write(watched)
        self._watch(watched)
        return watched, outcome

    async def _change(self, operation: Operation, ids: Sequence[str]) -> Outcome:
        kind: Any = CHANGES[operation.request]
        request = msgspec.convert({**operation.settings, "ids": list(ids)}, kind)
        match request:
            case TaskRetry():
                return await self._changes.retry(operation, request, ids)
            case TaskMove():
                return await self._changes.move(operation, request, ids)
            case TaskPriority():
                return await self._changes.prioritize(operation, request, ids)
            case _:
                return await self._changes.cancel(operation, ids)

    async def _over(self, operation: Operation, state: str, outcome: Outcome, text: str = "") -> Operation:
        over = msgspec.structs.replace(
            _with(operation, outcome), state=state, ended_ms=self._clock.wall_ms(), waits=(), text=text
        )
        over = msgspec.structs.replace(over, text=text or _summary(over))
        return await self._log.write(over, self._event(over, "info", f"operation.{state}", over.text))

    async def _failed(self, operation: Operation, why: str) -> None:
        over = msgspec.structs.replace(operation, state="failed", ended_ms=self._clock.wall_ms(), text=why[:500])
        try:
            await self._log.write(over, self._event(over, "error", "operation.failed", why[:500]))
        except AiwmError:
            _log.warning("%s failed and that could not be stored: %s", operation.id, why)

    # -- going on ------------------------------------------------------------------------------------------------------

    async def _resume(self, operation: Operation) -> None:
        """It was being done when the engine ended: what has an event of it was done."""
        if operation.request in self.reversible:
            await self._perform(operation)
            return
        if operation.request not in CHANGES:
            self._claimed.discard(operation.id)
            await self._failed(operation, "the engine ended while it was being done: look, then do it again")
            return
        known = {*operation.done, *operation.refused}
        done = [it for it in operation.ids if it not in known and self._was_done(operation, it)]
        await self._perform(msgspec.structs.replace(operation, done=(*operation.done, *done)))

    def _was_done(self, operation: Operation, identifier: str) -> bool:
        events = self._readers.events_of(task_seq(identifier))
        return any(event.correlation == operation.id for event in events)

    def _watch(self, operation: Operation) -> None:
        if operation.id not in self._watches:
            task = self._go(self._after_canaries, operation)
            self._watches[operation.id] = task
            task.add_done_callback(lambda done: self._watched(operation.id, done))

    def _watched(self, identifier: str, task: asyncio.Task[None]) -> None:
        if self._watches.get(identifier) is task:
            del self._watches[identifier]

    async def _after_canaries(self, operation: Operation) -> None:
        states = [await self._end_of(task_seq(identifier)) for identifier in operation.canaries]
        bad = [it for it, state in zip(operation.canaries, states, strict=True) if state != TaskState.completed]
        if bad:
            text = f"{', '.join(bad[:8])} did not complete: the other {len(operation.waits)} stay as they were"
            await self._over(operation, "held", Outcome(), text)
            return
        running = msgspec.structs.replace(operation, state="running", waits=())
        await self._claim(running)
        await self._perform(running)

    async def _end_of(self, seq: int) -> str:
        """The state in which a task ends."""
        ended = self._waiters.wait(seq)
        try:
            stored = self._readers.task(seq)
            if stored is None or TaskState(stored.state).ended:
                return stored.state if stored is not None else "gone"
            return (await ended).state
        finally:
            ended.cancel()

    def _go(self, work: Callable[[Operation], Awaitable[None]], operation: Operation) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(_logged(work, operation))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    # -- back ----------------------------------------------------------------------------------------------------------

    async def undo(self, identifier: str, who: str) -> Undone:
        """Take an operation back, as far as that goes. Raises `conflict` when nothing of it can be."""
        operation = self._log.find(identifier)
        if operation.id in self._claimed:
            raise AiwmError(
                Code.conflict, f"{operation.id} is being done right now", field="id", fix="try again", retryable=True
            )
        lasting = operation.request not in CHANGES and operation.request not in self.reversible
        if operation.state in ("undone", "failed") or (lasting and operation.state != "waiting"):
            happened = {"undone": "was undone already", "failed": "failed"}.get(operation.state, "was done")
            raise AiwmError(
                Code.conflict,
                f"{operation.id} ({operation.request}) {happened} and cannot be taken back",
                field="id",
                fix=f"aiwm operation show {operation.id}",
            )
        self._claimed.add(operation.id)
        try:
            return await self._undo(operation, who)
        finally:
            self._claimed.discard(operation.id)

    async def _undo(self, operation: Operation, who: str) -> Undone:
        timer, watch = self._timers.pop(operation.id, None), self._watches.pop(operation.id, None)
        for waiting in (timer, watch):
            if waiting is not None:
                waiting.cancel()
        audit = self._log.audit(operation, f"undo of {operation.request}", who, "operation.undo")
        try:
            if operation.state == "waiting":
                undone = self._taken_back(operation, "before it was due: nothing was done")
                await self._log.write(undone, audit)
                return Undone(id=operation.id, state="undone", taken_back=list(operation.ids))
            reversible = self.reversible.get(operation.request)
            if reversible is not None:
                text = await reversible.undo(operation.settings, operation.before or {}, who)
                await self._log.write(self._taken_back(operation, text), audit)
                return Undone(id=operation.id, state="undone")
            outcome = await self._changes.put_back(operation, who)
        except BaseException:
            if timer is not None:
                self._schedule(operation)
            elif watch is not None:
                self._watch(operation)
            raise
        state = "undone" if outcome.done or operation.waits or not operation.done else operation.state
        text = f"{len(outcome.done)} of {len(operation.done)} taken back"
        if operation.waits:
            text += f"; the {len(operation.waits)} that waited stay as they were"
        await self._log.write(msgspec.structs.replace(self._taken_back(operation, text), state=state), audit)
        return Undone(id=operation.id, state=state, taken_back=outcome.done, refused=outcome.refused)

    def _taken_back(self, operation: Operation, text: str) -> Operation:
        now = self._clock.wall_ms()
        return msgspec.structs.replace(operation, state="undone", ended_ms=now, waits=(), text=text)

    def _event(self, operation: Operation, level: str, type_: str, text: str) -> ops.AppendEvent:
        return ops.AppendEvent(
            at_ms=self._clock.wall_ms(),
            level=level,
            type=type_,
            who=operation.by,
            about=operation.id,
            text=f"{operation.request}: {text}",
            correlation=operation.id,
        )


async def _logged(work: Callable[[Operation], Awaitable[None]], operation: Operation) -> None:
    try:
        await work(operation)
    except AiwmError as error:
        _log.warning("an operation failed: %s", error)
    except Exception:
        _log.exception("an operation failed")


def _with(operation: Operation, outcome: Outcome) -> Operation:
    """The operation with what became of (more of) its tasks."""
    return msgspec.structs.replace(
        operation,
        done=tuple(dict.fromkeys((*operation.done, *outcome.done, *outcome.stopping))),
        refused={**operation.refused, **outcome.refused},
        was={**operation.was, **outcome.was},
    )


def _joined(one: Outcome, other: Outcome) -> Outcome:
    return Outcome(
        done=one.done + other.done,
        refused=one.refused | other.refused,
        stopping=one.stopping + other.stopping,
        was=one.was | other.was,
    )


def _summary(operation: Operation) -> str:
    refused = f", {len(operation.refused)} refused" if operation.refused else ""
    return f"{len(operation.done)} of {len(operation.ids)}{refused}" if operation.ids else "done"


def _about(operation: Operation) -> str:
    count = len(operation.ids)
    ids = f"{operation.ids[0] if count == 1 else f'{count} tasks'}" if count else operation.request
    extra = {name: value for name, value in operation.settings.items() if value not in (None, False, 0, "", {})}
    words = f" {msgspec.json.encode(extra).decode()}" if extra else ""
    due = " (later)" if operation.due_ms is not None else ""
    return f"{ids}{words}{due}"


def _they(ids: Sequence[str]) -> str:
    return "it has" if len(ids) == 1 else "they have"
