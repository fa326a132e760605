"""The bounded queue in front of one model process: so many requests are inside, the others wait here in the order they came."""

from __future__ import annotations

import asyncio
from collections import deque

from engine.contract.errors import AiwmError, Code


class Moved(AiwmError):
    """The process takes no requests any more: choose where to go again."""

    def __init__(self, process: str, state: str) -> None:
        super().__init__(Code.model_unavailable, f"{process} is {state}", retryable=True)


class Line:
    """`most` places. Whoever enters leaves again, however it went."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def enter(self) -> None:
        """Take a place, waiting for one if need be. Raises `Moved` when the line is broken up meanwhile."""
        if not self._waiting and self._inside < self.most:
            self._inside += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.leave()  # the place was given while its owner gave up
            elif place in self._waiting:
                self._waiting.remove(place)
            raise

    def leave(self) -> None:
        """Give a place back; it goes to the first who waits."""
        self._inside -= 1
        while self._waiting and self._inside < self.most:
            place = self._waiting.popleft()
            if not place.done():
                self._inside += 1
                place.set_result(None)

    def break_up(self, process: str, state: str) -> None:
        """Send everybody who waits away; those inside stay."""
        waiting, self._waiting = self._waiting, deque()
        for place in waiting:
            if not place.done():
                place.set_exception(Moved(process, state))
