"""The dispatcher: the one owner of the scheduler. Inputs go in one at a time, its decisions are handed to whoever performs them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from engine.clock import Clock
from engine.contract.why import Gate, Why
from engine.scheduling.budget import BudgetState
from engine.scheduling.decisions import Decision, WakeAt
from engine.scheduling.dependencies import Unmet
from engine.scheduling.inputs import Input, Now, Outcome, TaskRef, Tick
from engine.scheduling.retry import Verdict
from engine.scheduling.scheduler import Scheduler

_log = logging.getLogger(__name__)

D = TypeVar("D")


class Dispatcher:
    """Feeds the scheduler and performs. Performing may feed again: such inputs wait their turn, so steps never nest."""

    def __init__(self, scheduler: Scheduler, clock: Clock) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._performers: dict[type[Any], Callable[[Any], None]] = {WakeAt: self._wake_at}
        self._waiting: deque[Input] = deque()
        self._stepping = False
        self._timer: asyncio.TimerHandle | None = None
        # What only the store knows: the tasks that one waits for, how many of a queue (None: of all) wait for others, and how many wait.
        self.unmet: Callable[[int], Unmet] = lambda _: ()
        self.blocked: Callable[[str | None], int] = lambda _: 0
        self.stored: Callable[[str | None], int] = lambda _: 0

    def performs(self, decision: type[D], performer: Callable[[D], None]) -> None:
        """Let `performer` perform decisions of this kind."""
        self._performers[decision] = performer

    def feed(self, inp: Input) -> None:
        """Tell the scheduler what happened, and perform what it decides."""
        self._waiting.append(inp)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._waiting:
                for decision in self._scheduler.step(self._waiting.popleft(), self.now()):
                    self._perform(decision)
        finally:
            self._stepping = False

    def now(self) -> Now:
        return Now(self._clock.wall_ms(), self._clock.mono_ns())

    @property
    def running(self) -> int:
        """Tasks from their start's decision to their end's commit."""
        return self._scheduler.running

    def verdict(
        self,
        seq: int,
        attempt: int,
        outcome: Outcome,
        *,
        retryable: bool,
        error_code: str | None,
        retry_after_ms: int | None = None,
    ) -> Verdict | None:
        """What an ending attempt's row becomes; None for an attempt that is not the running one."""
        try:
            return self._scheduler.verdict(
                seq,
                attempt,
                outcome,
                self.now(),
                retryable=retryable,
                error_code=error_code,
                retry_after_ms=retry_after_ms,
            )
        except KeyError:
            return None

    def starting(self, pool: str) -> int:
        """Instances of a pool that are being started."""
        found = self._scheduler.fleet.pools.get(pool)
        return found.starting if found is not None else 0

    def gate(self, seq: int) -> str | None:
        """The first closed gate of a waiting task in one word, if the scheduler has it in memory."""
        return self._scheduler.task_gate(seq, self.now())

    def budget(self, definition: str) -> BudgetState:
        """What a definition's calls use of its limits."""
        return self._scheduler.budget(definition, self.now())

    def budget_buckets(self, definition: str) -> tuple[tuple[int, int, int], ...]:
        """What to store of a definition's use, for BudgetRestored."""
        return self._scheduler.budget_buckets(definition, self.now())

    def route(self, model: str, adapters: tuple[str, ...] = ()) -> str | None:
        """The replica of a model to which a call with these adapters goes best now, None if none is known."""
        return self._scheduler.route(model, adapters)

    def why_task(self, task: TaskRef) -> Why:
        return self._scheduler.explain_task(task, self.now(), self.unmet(task.seq))

    def why_queue(self, name: str) -> Why:
        return _with_rest(self._scheduler.explain_queue(name, self.now(), self.blocked(name)), self.stored(name))

    def why_pool(self, name: str) -> Why:
        return self._scheduler.explain_pool(name, self.now())

    def why_model(self, name: str) -> Why:
        return self._scheduler.explain_model(name)

    def why_engine(self) -> Why:
        return _with_rest(self._scheduler.explain_engine(self.now(), self.blocked(None)), self.stored(None))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _perform(self, decision: Decision) -> None:
        performer = self._performers.get(type(decision))
        if performer is None:
            return
        try:
            performer(decision)
        except Exception:
            # One decision that cannot be performed must not take the others, or the engine, with it.
            _log.exception("could not perform %r", decision)

    def _wake_at(self, decision: WakeAt) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0.0, (decision.mono_ns - self._clock.mono_ns()) / 1e9)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.feed, Tick())


def _with_rest(why: Why, stored: int) -> Why:
    """The answer with the waiting tasks that the scheduler has not been told of: it takes the first of each queue from disk, and the
    rest as these start."""
    told = sum(gate.count for gate in why.gates)
    if not 0 < told < stored:
        return why
    rest = stored - told
    behind = Gate(name="behind", closed=False, count=rest, why="on disk, behind these")
    return msgspec.structs.replace(why, summary=f"{why.summary}, {rest} behind", gates=(*why.gates, behind))
