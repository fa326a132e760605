"""What all generations have in common, wherever they run: text that is passed on as it comes, and one end."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

from engine.contract.errors import AiwmError
from engine.ports import Delta, Outcome


class Pouring(ABC):
    """The reader's side of a call (`ports.Generation`): whoever makes it pours deltas in, and ends it once, with an outcome or an error.
    Deltas that are not read yet are passed on as one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked = self._loop.time()
        self._first: float | None = None
        self._deltas: list[Delta] = []
        self._wake = asyncio.Event()
        self._error: AiwmError | None = None
        self._outcome: Outcome | None = None

    async def __aiter__(self) -> AsyncIterator[Delta]:
        try:
            while True:
                while self._deltas:
                    deltas, self._deltas = self._deltas, []
                    yield Delta("".join(it.text for it in deltas), sum(it.tokens for it in deltas))
                if self._error is not None:
                    raise self._error
                if self._outcome is not None:
                    return
                self._wake.clear()
                await self._wake.wait()
        finally:
            if not self.ended:
                await self._abandon()

    @property
    def outcome(self) -> Outcome:
        """Valid once the iteration has ended."""
        if self._outcome is None:
            raise RuntimeError("a generation has no outcome before its iteration has ended")
        return self._outcome

    @property
    def ended(self) -> bool:
        return self._outcome is not None or self._error is not None

    @abstractmethod
    async def cancel(self) -> None:
        """Stop; the iteration then ends with reason `cancelled`."""

    async def _abandon(self) -> None:
        """Whoever read was cancelled or lost interest."""
        await self.cancel()

    def _pour(self, delta: Delta) -> None:
        if self._first is None and delta.text:
            self._first = self._loop.time()
        self._deltas.append(delta)
        self._wake.set()

    def _end(self, end: Outcome | AiwmError) -> bool:
        """End the call; False when it has ended already, and nothing changes."""
        if self.ended:
            return False
        if isinstance(end, AiwmError):
            self._error = end
        else:
            self._outcome = end
        self._wake.set()
        return True

    def _times(self) -> tuple[float, float]:
        """ms from its beginning to its first text (to now, if there was none), and to now."""
        now = self._loop.time()
        return ((now if self._first is None else self._first) - self._asked) * 1000, (now - self._asked) * 1000
