"""Whether a server is to be asked now: pure, times in ms on any clock that never jumps."""

from __future__ import annotations

from enum import StrEnum

_IN_A_ROW = 3
"""So many answers in a row that broke off mean trouble; one is bad luck."""


class RemoteState(StrEnum):
    """`limited`: it said that it has too much to do. `backoff`: its answers keep breaking off. `unreachable`: nobody listens there."""

    ready = "ready"
    limited = "limited"
    backoff = "backoff"
    unreachable = "unreachable"


class Health:
    """A server in trouble rests: nothing is put to it until `until`. Then one request tries it; its success opens all slots again, its
    failure doubles the rest. What was under way when the trouble began changes neither."""

    def __init__(self, backoff_ms: int, max_backoff_ms: int) -> None:
        self._backoff_ms = backoff_ms
        self._max_ms = max_backoff_ms
        self.state = RemoteState.ready
        self.until = 0
        self._rests = 0
        self._broken = 0

    def resting(self, now: int) -> int:
        """How long it is still to be left alone, ms."""
        return max(0, self.until - now)

    def total(self, now: int, slots: int | None) -> int | None:
        """How many requests it may have at once now (None: no limit)."""
        if self.resting(now):
            return 0
        return slots if self.state is RemoteState.ready else 1

    def answered(self, now: int) -> None:
        """An answer came to its end, or the server refused a request for what the request is."""
        if not self.resting(now):
            self.state, self._rests, self._broken = RemoteState.ready, 0, 0

    def overloaded(self, now: int, wait_ms: int | None) -> None:
        """It has too much to do, and may have said for how long."""
        self._rest(RemoteState.limited, now, wait_ms)

    def unreachable(self, now: int) -> None:
        self._rest(RemoteState.unreachable, now, None)

    def broke(self, now: int, wait_ms: int | None = None) -> None:
        """An answer broke off, never came, or made no sense."""
        self._broken += 1
        if self._broken >= _IN_A_ROW or self.state is not RemoteState.ready:
            self._rest(RemoteState.backoff, now, wait_ms)

    def _rest(self, state: RemoteState, now: int, wait_ms: int | None) -> None:
        if self.resting(now):
            # Told by another request of the same crowd: it is the same trouble, unless it lasts longer.
            self.until = max(self.until, now + (wait_ms or 0))
            return
        self._rests += 1
        self.state = state
        # 2 ** 1000 would be a number too; no rest needs more than 30 doublings to pass any cap.
        own = min(self._max_ms, self._backoff_ms * 2 ** min(self._rests - 1, 30))
        self.until = now + (own if wait_ms is None else wait_ms)
