"""A pulse for figures that change by themselves, that stops when nothing moves: an idle engine does nothing at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Ticker:
    """Calls `beat` every `interval_ms` from the first `stir` on, until `moving` is False; then once more, and rests."""

    def __init__(self, interval_ms: int, moving: Callable[[], bool], beat: Callable[[], None]) -> None:
        self._interval_s = interval_ms / 1000
        self._moving = moving
        self._beat = beat
        self._timer: asyncio.TimerHandle | None = None

    def stir(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._tick)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._timer = None
        self._beat()
        if self._moving():
            self.stir()
