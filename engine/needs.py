"""Needs that no event tells of by itself become events: a queue that stands still or falls behind.

What fails, crashes or asks has an event of its own; a queue that stands still is only seen by looking. So that the notify hook hears
of it, the console can tell of it, and it is still known the next morning, it is written down when it has lasted, and when it is over.
Nothing runs while nothing changes and nothing stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from engine.clock import Clock
from engine.contract.records import NeedRow
from engine.ports import EventSink

LASTS_MS = 10_000
"""A need is written down when it has lasted this long: queues stand still for moments all the time."""

_LOOK_S = 2.0
_TYPES = {"queue": "need.stands", "behind": "need.behind"}
"""The kind of a need, which its id begins with, and the type of its event."""


class NeedsWatch:
    """`look` gives the needs there are; `stir` says that they may have changed."""

    def __init__(self, look: Callable[[], Sequence[NeedRow]], events: EventSink, clock: Clock) -> None:
        self._look = look
        self._events = events
        self._clock = clock
        self._since: dict[str, int] = {}
        self._told: dict[str, NeedRow] = {}
        self._timer: asyncio.TimerHandle | None = None

    def stir(self) -> None:
        """Look soon; asked often, it looks now and then."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self.watch)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def watch(self) -> None:
        """Look now; again while something stands that is not written down yet."""
        self._timer = None
        now = self._clock.wall_ms()
        found = {need.id: need for need in self._look() if _kind(need) in _TYPES}
        self._since = {identifier: self._since.get(identifier, now) for identifier in found}
        for identifier, need in self._told.copy().items():
            if identifier not in found:
                del self._told[identifier]
                self._events.emit("info", "need.over", _about(need), f"no longer: {need.what}", who="scheduler")
        for identifier, need in found.items():
            if identifier not in self._told and now - self._since[identifier] >= LASTS_MS:
                self._told[identifier] = need
                self._events.emit("ask", _TYPES[_kind(need)], _about(need), f"{need.what}: {need.why}", who="scheduler")
        if self._since.keys() - self._told.keys():
            self.stir()


def _kind(need: NeedRow) -> str:
    return need.id.partition(" ")[0]


def _about(need: NeedRow) -> str:
    return need.id.partition(" ")[2]
