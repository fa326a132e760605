"""Tasks that wait for a time: scheduled ones for the wall clock, retrying ones for the monotonic clock."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from engine.scheduling.inputs import Now
from engine.scheduling.task import LATER, Task
from engine.scheduling.window import Window


class Later:
    """A window in (due_ms, seq) order onto all rows that wait for a time.

    A retry's time is kept on the monotonic clock as well, so that a jump of the wall clock neither shortens nor stretches a backoff.
    A retry that had to be left to the disk keeps only its wall time."""

    def __init__(self, limit: int, *, unknown: bool = False) -> None:
        self.window: Window[Task] = Window(limit, unknown=unknown)
        self._backoff: list[tuple[int, int, Task]] = []

    def add(self, task: Task) -> Task | None:
        """Hold a task until its time; returns the task that is left to the disk, if any."""
        assert task.due_ms is not None
        task.state = LATER
        left = self.window.add((task.due_ms, task.ref.seq, task))
        if left is not None and left[2] is task:
            return task
        if task.due_ns is not None:
            heappush(self._backoff, (task.due_ns, task.ref.seq, task))
            if len(self._backoff) > 64 + 2 * self.window.limit:
                self._backoff = [entry for entry in self._backoff if self._stands(entry)]
                heapify(self._backoff)
        if left is None:
            return None
        left[2].due_ns = None
        return left[2]

    def remove(self, task: Task) -> None:
        if task.due_ms is not None:
            self.window.remove(task.due_ms, task.ref.seq)
        task.due_ms = task.due_ns = None

    def due(self, now: Now) -> list[Task]:
        """Take out the tasks whose time has come."""
        ready = []
        window = self.window
        while (row := window.first()) is not None and row[0] <= now.wall_ms:
            window.pop()
            task = row[2]
            task.due_ms = None
            # The wall clock ran ahead of a backoff: only the other clock counts.
            if task.due_ns is None or task.due_ns <= now.mono_ns:
                task.due_ns = None
                ready.append(task)
        backoff = self._backoff
        while backoff and backoff[0][0] <= now.mono_ns:
            entry = heappop(backoff)
            if self._stands(entry):
                self.remove(entry[2])
                ready.append(entry[2])
        return ready

    def next_ns(self, now: Now, look_ms: int) -> int | None:
        """The monotonic time to look again: for the wall clock, which may jump, after `look_ms` at the latest."""
        first = self.window.first()
        times = []
        if first is not None:
            times.append(now.mono_ns + min(max(first[0] - now.wall_ms, 0), look_ms) * 1_000_000)
        if self._backoff:
            times.append(self._backoff[0][0])
        return min(times, default=None)

    @staticmethod
    def _stands(entry: tuple[int, int, Task]) -> bool:
        task = entry[2]
        return task.state == LATER and task.due_ns == entry[0]
