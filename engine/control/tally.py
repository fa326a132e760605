"""Counting: how many tasks of each queue are in which state, and how fast they come and go."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping

from engine.clock import Clock
from engine.contract.states import TaskState
from engine.store.ops import ChangedTask

WAITING = (TaskState.pending, TaskState.scheduled, TaskState.retrying)
_WINDOW_S = 60


class Rate:
    """Events per minute over the last 60 s, in one-second buckets."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, int]] = deque()
        self._sum = 0

    def add(self, second: int, count: int = 1) -> None:
        if self._buckets and self._buckets[-1][0] == second:
            self._buckets[-1] = (second, self._buckets[-1][1] + count)
        else:
            self._buckets.append((second, count))
        self._sum += count
        self._trim(second)

    def per_minute(self, second: int) -> float:
        self._trim(second)
        return float(self._sum)

    def _trim(self, second: int) -> None:
        while self._buckets and self._buckets[0][0] <= second - _WINDOW_S:
            self._sum -= self._buckets.popleft()[1]


class Tally:
    """Counts by (queue, state), taken from the store at the start and kept by what each commit changed."""

    def __init__(self, counts: Mapping[tuple[str, str], int], clock: Clock) -> None:
        self._clock = clock
        self._counts: Counter[tuple[str, str]] = Counter(counts)
        self._in: dict[str, Rate] = defaultdict(Rate)
        self._out: dict[str, Rate] = defaultdict(Rate)

    def recount(self, counts: Mapping[tuple[str, str], int]) -> None:
        """The tasks are others than those counted until now."""
        self._counts = Counter(counts)

    def apply(self, changes: Iterable[ChangedTask]) -> None:
        """Count in what a commit changed."""
        second = self._clock.mono_ns() // 1_000_000_000
        for change in changes:
            queue, before, after = change.queue, change.before, change.after
            if before is None:
                self._in[queue].add(second)
            else:
                self._counts[change.came_from or queue, before] -= 1
            if after is not None:
                self._counts[queue, after] += 1
            if after in _ENDED and before not in _ENDED:
                self._out[queue].add(second)

    def count(self, queue: str, state: TaskState) -> int:
        return self._counts[queue, state.value]

    def waiting(self, queue: str) -> int:
        return sum(self._counts[queue, state.value] for state in WAITING)

    def total(self, *states: TaskState) -> int:
        """How many tasks of all queues are in these states."""
        wanted = {state.value for state in states}
        return sum(count for (_, state), count in self._counts.items() if state in wanted)

    def rates(self, queue: str) -> tuple[float, float]:
        """Tasks that came into a queue and that ended in it during the last minute."""
        second = self._clock.mono_ns() // 1_000_000_000
        return self._in[queue].per_minute(second), self._out[queue].per_minute(second)

    def queues(self) -> set[str]:
        return {queue for (queue, _), count in self._counts.items() if count}


_ENDED = frozenset(state.value for state in TaskState if state.ended)
