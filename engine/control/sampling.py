"""Samples of every series that a screen draws: once a second while something moves, and nothing at all while nothing does.

Points of 10 s and of 5 min are the means of the finer ones. What the store keeps of them, and for how long, is the store's business."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.clock import Clock
from engine.contract.states import Durability, TaskState
from engine.control.catalogue import Catalogue
from engine.control.tally import Tally
from engine.control.tempo import Tempo
from engine.control.trends import Trends
from engine.store import ops
from engine.store.journal import Journal

STEPS_MS = (1_000, 10_000, 300_000)
_IDLE_S = 65
"""Rates look a minute back: only when that long nothing has happened, nothing moves any more."""

Point = tuple[str, int, int, float]


class Means:
    """The mean of a series over one coarser step, while that step lasts."""

    def __init__(self, step_ms: int) -> None:
        self.step_ms = step_ms
        self._start_ms = 0
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, at_ms: int, values: dict[str, float]) -> list[Point]:
        """Take values in; the points of the step before, if these begin another one."""
        start_ms = at_ms - at_ms % self.step_ms
        done = self.take() if start_ms != self._start_ms else []
        self._start_ms = start_ms
        for series, value in values.items():
            total, count = self._sums.get(series, (0.0, 0))
            self._sums[series] = (total + value, count + 1)
        return done

    def take(self) -> list[Point]:
        """The points of the step so far."""
        done = [(series, self.step_ms, *point) for series in self._sums if (point := self.now(series)) is not None]
        self._sums = {}
        return done

    def now(self, series: str) -> tuple[int, float] | None:
        """The point of one series over the step under way, as far as it has come."""
        total, count = self._sums.get(series, (0.0, 0))
        return (self._start_ms, round(total / count, 3)) if count else None


class Sampling:
    """Writes samples of queues, running tasks and tokens, and of what `more` knows (pools, models). `stir` begins; it ends by itself
    when nothing has moved for a minute.

    `queue.NAME.head` (s) is sampled while something waits, `queue.NAME.p50` and `.p95` (ms) while something has completed in the last
    five minutes: without a point there was none. `head_ms` gives the submit time of a queue's oldest waiting task."""

    def __init__(
        self,
        journal: Journal,
        tally: Tally,
        tempo: Tempo,
        trends: Trends,
        catalogue: Catalogue,
        tokens_per_s: Callable[[], float],
        head_ms: Callable[[str], int | None],
        clock: Clock,
        more: Callable[[], dict[str, float]],
    ) -> None:
        self._journal = journal
        self._tally = tally
        self._tempo = tempo
        self._trends = trends
        self._head_ms = head_ms
        self._catalogue = catalogue
        self._tokens_per_s = tokens_per_s
        self._clock = clock
        self._means = tuple(Means(step) for step in STEPS_MS[1:])
        self._timer: asyncio.TimerHandle | None = None
        self._still_s = 0
        self._more = more

    def stir(self) -> None:
        """Something happened."""
        self._still_s = 0
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)

    def close(self) -> None:
        """Stop; what has not reached the end of its step is written as it is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._write([point for means in self._means for point in means.take()])

    def values(self) -> dict[str, float]:
        """Every series as it is now."""
        tally = self._tally
        found = {
            "running": float(tally.total(TaskState.processing)),
            "waiting": float(tally.total(TaskState.pending, TaskState.scheduled, TaskState.retrying)),
            "tokens_per_s": float(self._tokens_per_s()),
        }
        now_ms = self._clock.wall_ms()
        for name in self._catalogue.queues:
            came, went = tally.rates(name)
            found[f"queue.{name}.waiting"] = float(tally.waiting(name))
            found[f"queue.{name}.running"] = float(tally.count(name, TaskState.processing))
            found[f"queue.{name}.in"] = came
            found[f"queue.{name}.out"] = went
            found |= self._of_queue(name, now_ms)
        return found | self._more()

    def under_way(self, series: str, step_ms: int) -> tuple[int, float] | None:
        """The point of a coarser step that is not over yet; None when there is none."""
        return next((means.now(series) for means in self._means if means.step_ms == step_ms), None)

    def _of_queue(self, name: str, now_ms: int) -> dict[str, float]:
        """How long the oldest task of a queue has waited, and how long those that completed lately took."""
        found: dict[str, float] = {}
        head_ms = self._head_ms(name) if self._tally.waiting(name) else None
        if head_ms is not None:
            found[f"queue.{name}.head"] = round(max(0, now_ms - head_ms) / 1000, 1)
        latency = self._tempo.latency(name)
        if latency is not None:
            found[f"queue.{name}.p50"], found[f"queue.{name}.p95"] = latency
        return found

    def _tick(self) -> None:
        self._timer = None
        values = self.values()
        self._still_s += 1
        if values["running"] or values["tokens_per_s"]:
            self._still_s = 0
        now_ms = self._clock.wall_ms()
        for name in self._catalogue.queues:
            self._trends.note(name, now_ms, self._tally.waiting(name))
        self._trends.keep(set(self._catalogue.queues))
        second = now_ms - now_ms % 1_000
        points: list[Point] = [(series, 1_000, second, value) for series, value in values.items()]
        for means in self._means:
            points += means.add(now_ms, values)
        if self._still_s < _IDLE_S:
            self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)
        else:
            points += [point for means in self._means for point in means.take()]
        self._write(points)

    def _write(self, points: list[Point]) -> None:
        # Without storage points are missing, and that is all: they must not wait for it in memory, second after second.
        if points and self._journal.state == "working":
            written = self._journal.write((ops.PutSamples(tuple(points)),), Durability.memory)
            written.add_done_callback(lambda done: done.cancelled() or done.exception())
