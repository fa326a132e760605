"""Who waits for a task's end: futures by task number, answered when the end is on disk."""

from __future__ import annotations

import asyncio

import msgspec

from engine.contract.errors import ErrorInfo
from engine.contract.ids import task_id
from engine.contract.requests.tasks import TaskOutcome
from engine.contract.states import TaskState
from engine.control.execution import Ended


class Waiters:
    """Futures of task ends. A waiter that gives up leaves nothing behind."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[asyncio.Future[TaskOutcome]]] = {}

    def wait(self, seq: int) -> asyncio.Future[TaskOutcome]:
        """A future of the task's end. Ask the store afterwards whether it had ended before."""
        future: asyncio.Future[TaskOutcome] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(seq, set()).add(future)
        future.add_done_callback(lambda done: self._gone(seq, done))
        return future

    def ended(self, seq: int, attempt: int, ended: Ended) -> None:
        """Tell everyone who waits for this task."""
        waiting = self._waiting.pop(seq, None)
        if not waiting:
            return
        outcome = TaskOutcome(
            id=task_id(seq),
            state=ended.state.value,
            attempt=attempt,
            result=None if ended.result is None else msgspec.Raw(ended.result),
            error=ended.error,
            tokens_in=ended.tokens_in,
            tokens_out=ended.tokens_out,
        )
        for future in waiting:
            if not future.done():
                future.set_result(outcome)

    def closed(self, seq: int, attempt: int, state: TaskState, error: ErrorInfo) -> None:
        """Tell everyone that a task ended while it waited."""
        self.ended(seq, attempt, Ended(outcome=state.value, state=state, error=error))

    def _gone(self, seq: int, future: asyncio.Future[TaskOutcome]) -> None:
        waiting = self._waiting.get(seq)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._waiting[seq]
