"""The time that the console shows. Ages move while there is work, after each change, and when somebody looks. An idle console writes
nothing."""

from __future__ import annotations

from collections.abc import Callable

TICK_S = 1.0


class Ticking:
    """All times in Unix ms. `as_of` is the moment that everything shown is of, `changed_ms` when the engine last said something new,
    `lost_ms` since when there is no engine (0: there is one). `after` calls something after so many seconds, `tick` moves the ages."""

    def __init__(
        self, clock: Callable[[], int], after: Callable[[float, Callable[[], None]], object], tick: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._after = after
        self._tick = tick
        self.as_of = clock()
        self.changed_ms = 0
        self.lost_ms = 0
        self.ticks = False

    @property
    def stale_ms(self) -> int:
        """For how long what is shown has been old, when the engine is gone."""
        return self.as_of - self.lost_ms

    def look(self) -> None:
        """It is now."""
        self.as_of = self._clock()

    def keep(self, every_ms: int) -> None:
        """Something ages: tick in a second, or in as long as may lie between two changes of what is shown."""
        if not self.ticks:
            self.ticks = True
            self._after(max(TICK_S, every_ms / 1000), self._ticked)

    def _ticked(self) -> None:
        self.ticks = False
        self._tick()
