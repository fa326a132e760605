"""How often windows are looked at again: never more than ten times a second each, never more than a tenth of a core together."""

from __future__ import annotations

from typing import Final

SHORTEST_S: Final = 0.1
SHARE: Final = 0.1


class Pace:
    """Shares the budget among the views that are looked at in turn. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._active: dict[str, float] = {}

    def spent(self, view: str, cost: float, now: float) -> float:
        """A look at a view took `cost` seconds; the answer is how long to wait before the next look at it.

        Each view that is active has an equal share, so a dear one is slow itself and slows the others only by being one more."""
        self._active = {name: until for name, until in self._active.items() if until > now and name != view}
        wait = max(SHORTEST_S, cost * (len(self._active) + 1) / SHARE)
        self._active[view] = now + 2 * wait
        return wait

    def forget(self, view: str) -> None:
        self._active.pop(view, None)
