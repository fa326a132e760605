"""Lives a life as `supervision.advance` says: feeds it events, performs its actions, wakes whoever waits for a change.

What is started, and how it is ended, is its owner's: a model process of ours (`supervisor`), or a server program (`commands.server`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from engine.clock import Clock
from engine.inference.supervision import EventName, Life, Policy, ProcessState, advance

FAILED_FOR = 15.0  # seconds for which what failed is not tried again: its callers get the recorded error at once


class Driver:
    """`live` is one life from its start to its end, which ends with the event `exited`; `kill` ends it, and hears why; `changed` is called
    after every change. All methods belong to the loop's thread."""

    def __init__(
        self,
        policy: Callable[[], Policy],
        clock: Clock,
        *,
        live: Callable[[], Coroutine[Any, Any, None]],
        kill: Callable[[EventName], None],
        changed: Callable[[], None],
    ) -> None:
        self.life = Life()
        self.since_ms = clock.wall_ms()
        self._policy = policy
        self._clock = clock
        self._live = live
        self._kill = kill
        self._changed = changed
        self._turn = asyncio.Event()  # set and replaced at every change: everyone who waits looks again
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed_at = float("-inf")
        self._rests = 0

    @property
    def state(self) -> ProcessState:
        return self.life.state

    @property
    def recently_failed(self) -> bool:
        """Whether it was given up so lately that it is not to be tried again."""
        return self.state is ProcessState.failed and loop_s() - self._failed_at < FAILED_FOR

    def forgive(self) -> None:
        """Let it be tried again at once, whatever it failed of."""
        self._failed_at = float("-inf")

    def feed(self, event: EventName) -> bool:
        """Something happened; whether that changed anything."""
        step = advance(self.life, event, self._policy())
        another = step.life.state is not self.life.state
        changed, self.life = step.life != self.life, step.life
        if another:
            self.since_ms = self._clock.wall_ms()
        for action in step.actions:
            if action == "spawn":
                self.spawn(self._live())
            elif action == "rest":
                self.spawn(self._rest(self.life.rest))
            else:
                self._kill(event)
        if changed:
            if another and self.state is ProcessState.failed:
                self._failed_at = loop_s()
            turn, self._turn = self._turn, asyncio.Event()
            turn.set()
            self._changed()
        return changed

    async def turn(self) -> None:
        """Wait for the next change."""
        await self._turn.wait()

    async def stopped(self) -> None:
        """Wait until nothing of it runs."""
        while self.life.alive:
            await self.turn()
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside, at most until it has stopped."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _rest(self, seconds: float) -> None:
        self._rests += 1
        mine = self._rests
        await asyncio.sleep(seconds)
        if self._rests == mine:  # another rest has a timer of its own
            self.feed("rested")


def loop_s() -> float:
    """Seconds on the loop's clock."""
    return asyncio.get_running_loop().time()
