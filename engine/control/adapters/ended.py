"""How tasks ended under each adapter, from the performance records: of the last 24 hours, kept fresh while somebody looks, and of all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

from engine.clock import Clock
from engine.store.adapters import Ran
from engine.store.window import Windows

DAY_MS = 86_400_000
FRESH_MS = 10_000
_SHARE = 20


class Sum(msgspec.Struct, frozen=True):
    """`ok` is the share that completed, None of none; `tokens_out_p50` the median of those that did."""

    tasks: int = 0
    completed: int = 0
    tokens_out_p50: float | None = None

    @property
    def ok(self) -> float | None:
        return self.completed / self.tasks if self.tasks else None


class Ended:
    """`changed` is called when `day` has something new to say."""

    def __init__(self, windows: Windows, clock: Clock, changed: Callable[[], None]) -> None:
        self._windows = windows
        self._clock = clock
        self._changed = changed
        self._day: dict[str, Sum] = {}
        self._read_ms = 0
        self._reading: asyncio.Task[None] | None = None
        self._reading_ever = asyncio.Lock()
        self._ever: Mapping[str, Sum] = {}
        self._ever_until = 0.0

    def day(self) -> Mapping[str, Sum]:
        """The last 24 hours by exact name, at most some seconds old: asking reads them anew."""
        if self._reading is None and self._clock.wall_ms() - self._read_ms >= FRESH_MS:
            self._reading = asyncio.get_running_loop().create_task(self._read())
        return self._day

    async def ever(self) -> Mapping[str, Sum]:
        """All records that are kept, by exact name. However often somebody asks, reading them takes no more than a twentieth of a core."""
        async with self._reading_ever:
            now = time.monotonic()
            if now >= self._ever_until:
                self._ever = summed(await self._windows.ran(0))
                took = time.monotonic() - now
                self._ever_until = now + _SHARE * took
            return self._ever

    async def _read(self) -> None:
        try:
            now = self._clock.wall_ms()
            found = summed(await self._windows.ran(now - DAY_MS))
            self._read_ms = now
        finally:
            self._reading = None
        if found != self._day:
            self._day = found
            self._changed()

    async def fresh(self) -> Mapping[str, Sum]:
        """The last 24 hours as they are now."""
        self._day = summed(await self._windows.ran(self._clock.wall_ms() - DAY_MS))
        self._read_ms = self._clock.wall_ms()
        return self._day


def summed(ran: Iterable[Ran]) -> dict[str, Sum]:
    """By adapter: a task with several counts for each of them. The median of several sets is that of the one with the most tasks."""
    found: dict[str, Sum] = {}
    most: dict[str, int] = {}
    for it in ran:
        for name in it.adapter.split(","):
            known = found.get(name, Sum())
            leads = it.tasks > most.get(name, 0)
            most[name] = max(it.tasks, most.get(name, 0))
            median = it.tokens_out_p50 if leads and it.tokens_out_p50 is not None else known.tokens_out_p50
            found[name] = Sum(known.tasks + it.tasks, known.completed + it.completed, median)
    return found
