"""When to look at something again."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")


class Timers(Generic[T]):
    """The next monotonic time (ns) at which each thing wants to be looked at. What is asked for earlier replaces what was later."""

    __slots__ = ("_heap", "_made", "_times")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, T]] = []
        self._times: dict[T, int] = {}
        self._made = 0

    def at(self, thing: T, mono_ns: int) -> None:
        known = self._times.get(thing)
        if known is None or mono_ns < known:
            self._times[thing] = mono_ns
            self._made += 1
            heappush(self._heap, (mono_ns, self._made, thing))

    def due(self, mono_ns: int) -> list[T]:
        """Take out what is to be looked at now."""
        found = []
        heap, times = self._heap, self._times
        while heap and heap[0][0] <= mono_ns:
            at, _, thing = heappop(heap)
            if times.get(thing) == at:
                del times[thing]
                found.append(thing)
        return found

    def next_ns(self) -> int | None:
        heap, times = self._heap, self._times
        while heap and times.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def drop(self, thing: T) -> None:
        self._times.pop(thing, None)
