"""Rates over a sliding window, exactly: what was counted in the last seconds, divided by them."""

from __future__ import annotations

from collections import deque

WINDOW = 10.0  # seconds


class Meter:
    """Times are seconds on any monotonic clock."""

    def __init__(self) -> None:
        self._counted: deque[tuple[float, int]] = deque()

    def count(self, now: float, amount: int) -> None:
        self._counted.append((now, amount))
        self._drop_old(now)

    def per_second(self, now: float) -> float:
        self._drop_old(now)
        return sum(amount for _, amount in self._counted) / WINDOW

    def _drop_old(self, now: float) -> None:
        while self._counted and now - self._counted[0][0] > WINDOW:
            self._counted.popleft()
