"""How long tasks run and how many end, by queue and by pool, over the last minutes: what charts and rows say of latency and throughput.

Noting an end costs an append; percentiles are worked out when somebody asks for them, and at most once for the same ends."""

from __future__ import annotations

from collections import defaultdict, deque

from engine.clock import Clock
from engine.control.tally import Rate

WINDOW_S = 300
_MOST = 512


class Runs:
    """How long the completed tasks of one queue or pool ran: those of the last five minutes, the latest 512 at most."""

    def __init__(self) -> None:
        self._took: deque[tuple[int, int]] = deque(maxlen=_MOST)
        self._known: tuple[float, float] | None = None
        self._stale = False

    def add(self, second: int, took_ms: int) -> None:
        self._took.append((second, took_ms))
        self._stale = True

    def latency(self, second: int) -> tuple[float, float] | None:
        """The median and the 95th percentile in ms; None when nothing completed lately."""
        while self._took and self._took[0][0] <= second - WINDOW_S:
            self._took.popleft()
            self._stale = True
        if self._stale:
            self._stale = False
            took = sorted(ms for _, ms in self._took)
            self._known = (float(took[len(took) // 2]), float(took[len(took) * 95 // 100])) if took else None
        return self._known


class Tempo:
    """Fed with every end of a task that is on disk."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queues: dict[str, Runs] = defaultdict(Runs)
        self._pools: dict[str, Runs] = defaultdict(Runs)
        self._out: dict[str, Rate] = defaultdict(Rate)

    def ended(self, queue: str, pool: str, took_ms: int, *, completed: bool) -> None:
        """A task of a queue ended in a pool, its last attempt `took_ms` after its start."""
        second = self._second()
        if completed:
            took = max(0, took_ms)
            self._queues[queue].add(second, took)
            self._pools[pool].add(second, took)
        self._out[pool].add(second)

    def latency(self, queue: str) -> tuple[float, float] | None:
        """Of one queue: median and 95th percentile of how long its tasks ran, in ms."""
        runs = self._queues.get(queue)
        return None if runs is None else runs.latency(self._second())

    def pool_latency(self, pool: str) -> tuple[float, float] | None:
        """The same of one pool."""
        runs = self._pools.get(pool)
        return None if runs is None else runs.latency(self._second())

    def out(self, pool: str) -> float:
        """Tasks that ended in a pool during the last minute."""
        rate = self._out.get(pool)
        return 0.0 if rate is None else rate.per_minute(self._second())

    def _second(self) -> int:
        return self._clock.mono_ns() // 1_000_000_000
