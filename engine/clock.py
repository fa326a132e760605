"""The clock: wall time for due dates and records, monotonic time for backoff and windows."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What rooms need to know about time; tests freeze it."""

    def wall_ms(self) -> int:
        """Unix time in ms. May jump."""

    def mono_ns(self) -> int:
        """Monotonic time in ns. Never jumps, means nothing outside this process."""


class SystemClock:
    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def mono_ns(self) -> int:
        return time.monotonic_ns()


def local_offset_ms(wall_ms: int) -> int:
    """Local time minus UTC at this moment, in ms."""
    return (time.localtime(wall_ms / 1000).tm_gmtoff or 0) * 1000
