"""What a model process has done lately: rates, and the times of its last requests."""

from __future__ import annotations

from collections import deque

from engine.inference.meter import Meter

LATENCIES = 100
"""Requests whose times are remembered."""


class Figures:
    """Times of day are seconds of any monotonic clock; `served` counts since the engine started."""

    def __init__(self) -> None:
        self.served = 0
        self._first_ms: deque[float] = deque(maxlen=LATENCIES)
        self._total_ms: deque[float] = deque(maxlen=LATENCIES)
        self._tokens, self._steps = Meter(), Meter()

    def tokens(self, now: float, count: int) -> None:
        self._tokens.count(now, count)

    def steps(self, now: float, count: int) -> None:
        self._steps.count(now, count)

    def request(self, first_token_ms: float | None, total_ms: float) -> None:
        """A request has ended; `first_token_ms` is None when it had no token."""
        self.served += 1
        self._total_ms.append(total_ms)
        if first_token_ms is not None:
            self._first_ms.append(first_token_ms)

    def tokens_per_second(self, now: float) -> float:
        return self._tokens.per_second(now)

    def steps_per_second(self, now: float) -> float:
        return self._steps.per_second(now)

    @property
    def first_token_ms(self) -> float:
        """The p95 of the time to the first token; 0 when nothing is known."""
        times = sorted(self._first_ms)
        return times[min(len(times) - 1, int(len(times) * 0.95))] if times else 0.0

    @property
    def request_ms(self) -> float:
        """The mean time of a request; 0 when nothing is known."""
        return sum(self._total_ms) / len(self._total_ms) if self._total_ms else 0.0
