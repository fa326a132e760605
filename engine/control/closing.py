"""Ends of tasks that wait: cancelled, past their deadline, given up, or failed because of a task that they waited for."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.errors import Code, ErrorInfo
from engine.contract.ids import task_id
from engine.contract.states import Durability, TaskState
from engine.control.attempts import Attempts
from engine.control.dispatcher import Dispatcher
from engine.control.failures import Failures, whole
from engine.control.waiters import Waiters
from engine.ports import Texts
from engine.scheduling.decisions import CancelTask, DeadLetter, ExpireTask
from engine.scheduling.inputs import CancelRequested, Outcome, TaskEnded
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers


class Closing:
    """Performs CancelTask (of running tasks too), ExpireTask and DeadLetter; commits the end, then tells whoever waits for it."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        journal: Journal,
        readers: Readers,
        attempts: Attempts,
        waiters: Waiters,
        texts: Texts,
        failures: Failures,
        clock: Clock,
    ) -> None:
        self._dispatcher = dispatcher
        self._journal = journal
        self._readers = readers
        self._attempts = attempts
        self._waiters = waiters
        self._texts = texts
        self._failures = failures
        self._clock = clock
        self._cancels: dict[int, set[asyncio.Future[str]]] = {}
        self._origins: dict[int, tuple[str, str]] = {}
        dispatcher.performs(CancelTask, self._perform_cancel)
        dispatcher.performs(ExpireTask, self._perform_expire)
        dispatcher.performs(DeadLetter, self._perform_dead_letter)

    def cancel(self, seq: int, who: str, operation: str) -> asyncio.Future[str]:
        """The state in which a waiting task that is being cancelled ends; the storage's error when that cannot be written."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._cancels.setdefault(seq, set()).add(answer)
        self._origins[seq] = (who, operation)
        # It may have been started meanwhile, and then ends by itself in its own way.
        ended = self._waiters.wait(seq)
        ended.add_done_callback(lambda done: None if done.cancelled() else self._answer(seq, done.result().state))
        answer.add_done_callback(lambda _: ended.cancel())
        self._dispatcher.feed(CancelRequested(seq))
        return answer

    def stop(self, seq: int) -> None:
        """Tell a running task to stop."""
        self._dispatcher.feed(CancelRequested(seq))

    def fail(self, seq: int, outcome: Outcome, error: ErrorInfo) -> None:
        """Fail a task that waits."""
        stored = self._readers.task(seq)
        if stored is None:
            self._dispatcher.feed(TaskEnded(seq, 0, "gone"))
            return
        now = self._clock.wall_ms()
        error = whole(error, seq)
        reason = f"{error.code}: {error.message}"
        mark, kept = self._failures.note(seq, stored.queue, stored.wanted, error, now)
        entry = (
            ops.ExpireTask(seq, now, msgspec.json.encode(error), reason, mark),
            _event(now, "task.failed", "scheduler", seq, reason, "error"),
            *kept,
        )
        self._close(seq, entry, TaskState.failed, outcome, error)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _perform_cancel(self, decision: CancelTask) -> None:
        if decision.running:
            self._attempts.cancel(decision)
            return
        now = self._clock.wall_ms()
        who, operation = self._origins.get(decision.seq, ("operator", ""))
        error = ErrorInfo(code=Code.task_cancelled, message="cancelled while it waited")
        event = _event(
            now, "task.cancelled", who, decision.seq, "cancelled while it waited", correlation=operation or None
        )
        entry = (ops.CancelTask(decision.seq, now, "cancelled while it waited"), event)
        self._close(decision.seq, entry, TaskState.cancelled, "cancelled", error)

    def _perform_expire(self, decision: ExpireTask) -> None:
        error = ErrorInfo(code=Code.deadline_passed, message="the deadline passed while the task waited")
        self.fail(decision.seq, "expired", error)

    def _perform_dead_letter(self, decision: DeadLetter) -> None:
        if decision.committed:
            return
        error = ErrorInfo(
            code=Code.engine_crashed,
            message=f"not tried again: {decision.reason}",
            fix=f"aiwm task retry {task_id(decision.seq)}",
        )
        self.fail(decision.seq, "failed", error)

    def _close(self, seq: int, entry: tuple[ops.Op, ...], state: TaskState, outcome: Outcome, error: ErrorInfo) -> None:
        """Commit the end of a task that waits; then tell the scheduler and whoever waits for it."""
        stored = self._readers.task(seq)
        if stored is None:
            self._dispatcher.feed(TaskEnded(seq, 0, "gone"))
            return
        written = self._journal.write(entry, Durability(stored.durability))

        def done(receipt: asyncio.Future[Any]) -> None:
            if receipt.cancelled():
                return
            failure = receipt.exception()
            if failure is not None:
                # The scheduler asks again once storage works; who asked for the cancel is told that it is not done.
                self._answer(seq, failure)
                return
            if receipt.result().fenced:
                self._dispatcher.feed(TaskEnded(seq, stored.attempt, "gone"))
                return
            self._dispatcher.feed(TaskEnded(seq, stored.attempt, outcome))
            self._texts.end(seq, stored.attempt, state.value)
            self._waiters.closed(seq, stored.attempt, state, error)

        written.add_done_callback(done)

    def _answer(self, seq: int, outcome: str | BaseException) -> None:
        self._origins.pop(seq, None)
        for answer in self._cancels.pop(seq, ()):
            if answer.done():
                continue
            if isinstance(outcome, BaseException):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)


def _event(
    now: int, type_: str, who: str, seq: int, text: str, level: str = "info", correlation: str | None = None
) -> ops.AppendEvent:
    return ops.AppendEvent(
        at_ms=now,
        level=level,
        type=type_,
        who=who,
        about=task_id(seq),
        text=text,
        task_seq=seq,
        correlation=correlation,
    )
