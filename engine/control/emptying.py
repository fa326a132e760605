"""Emptying a queue before it is deleted: every task that waits is cancelled, every one that runs is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from engine.contract.errors import AiwmError, Code
from engine.contract.query import parse
from engine.contract.requests.tasks import Cancelled, TaskCancel
from engine.contract.states import TaskState
from engine.control.tally import WAITING, Tally
from engine.requests.caller import Caller
from engine.store.window import Windows

_AT_ONCE = 1_000
_PATIENCE_S = 30.0
_LOOK_S = 0.05

Cancel = Callable[[TaskCancel, Caller], Awaitable[Cancelled]]


class Emptying:
    """`cancel` cancels tasks by their ids, as `task.cancel` does. The queue must take nothing new meanwhile."""

    def __init__(self, windows: Windows, tally: Tally, cancel: Cancel, now_ms: Callable[[], int]) -> None:
        self._windows = windows
        self._tally = tally
        self._cancel = cancel
        self._now_ms = now_ms

    def held(self, queue: str) -> int:
        """How many tasks the queue has that have not ended."""
        return self._tally.waiting(queue) + self._tally.count(queue, TaskState.processing)

    def told(self, queue: str) -> str:
        running = self._tally.count(queue, TaskState.processing)
        return f"{self._tally.waiting(queue)} waiting and {running} running tasks"

    async def empty(self, queue: str, caller: Caller) -> tuple[int, int]:
        """Cancel all of a queue's tasks and wait until they have ended; how many waited and how many ran. Raises `timeout` when a running
        one does not stop in time: the queue then stays, and takes nothing new."""
        cancelled: set[str] = set()
        stopped: set[str] = set()
        async with asyncio.timeout(_PATIENCE_S) as patience:
            try:
                await self._empty(queue, caller, cancelled, stopped)
            except TimeoutError:
                if not patience.expired():
                    raise
        if self.held(queue):
            raise AiwmError(
                Code.timeout,
                f'queue "{queue}" still has {self.told(queue)}; it takes nothing new, and is not deleted',
                field="name",
                fix="try again when they have stopped",
                retryable=True,
            )
        return len(cancelled), len(stopped)

    async def _empty(self, queue: str, caller: Caller, cancelled: set[str], stopped: set[str]) -> None:
        states = ",".join(state.value for state in (*WAITING, TaskState.processing))
        location = parse(f":tasks queue:{queue} state:{states}")
        while self.held(queue):
            window = await self._windows.window(location, 0, _AT_ONCE, self._now_ms())
            ids = tuple(row.id for row in window.rows if row.id not in stopped)
            if ids:
                done = await self._cancel(TaskCancel(ids=ids, reason=f"queue {queue} was deleted"), caller)
                cancelled.update(done.cancelled)
                stopped.update(done.stopping)
            else:
                await asyncio.sleep(_LOOK_S)
