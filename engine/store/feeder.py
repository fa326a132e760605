"""Feeds the word index behind the tasks' backs: when the journal rests, and slowly when it does not."""

from __future__ import annotations

import asyncio
from typing import Final

from engine.contract.errors import AiwmError
from engine.contract.states import Durability
from engine.store import ops
from engine.store.commit import CommittedBatch
from engine.store.journal import Journal
from engine.store.readers import Readers

BLOCK: Final = 64
"""So many payloads and results are indexed in one transaction: some ms, in which other entries wait."""
QUIET_S: Final = 0.5
"""How long nothing may have been committed before the index is fed at full speed."""
SHARE: Final = 0.05
"""Of a second, while other things are committed."""
PATIENCE_S: Final = 2.0
"""How long a search waits for the index."""


class Feeder:
    """One task at most, and none when the index is complete: an idle engine does nothing."""

    def __init__(self, readers: Readers, journal: Journal) -> None:
        self._readers = readers
        self._journal = journal
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._last = 0.0
        self._closed = False
        journal.on_commit(self._committed)

    def start(self) -> None:
        """Go on where the last engine stopped."""
        self._stir()

    async def catch_up(self, timeout_s: float = PATIENCE_S) -> bool:
        """Feed without pause until the index is complete; False if that takes longer."""
        self._hurry.set()
        self._stir()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout_s)
        self._hurry.clear()
        return not self._readers.words_behind()

    async def close(self) -> None:
        """Stop in the middle; the next engine goes on."""
        self._closed = True
        await self.pause()

    async def pause(self) -> None:
        """Stop in the middle, until the next commit or search."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _committed(self, batch: CommittedBatch) -> None:
        if batch.changed:
            self._last = asyncio.get_running_loop().time()
            self._stir()

    def _stir(self) -> None:
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._feed())
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()

    async def _feed(self) -> None:
        loop = asyncio.get_running_loop()
        await self._pause(QUIET_S)
        while self._readers.words_behind():
            began = loop.time()
            try:
                await self._journal.write((ops.IndexWords(BLOCK),), Durability.os)
            except AiwmError:
                # The storage fails, or the engine stops. The next commit wakes it again.
                return
            quiet = loop.time() - self._last > QUIET_S
            await self._pause(0.0 if quiet else (loop.time() - began) / SHARE)

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless someone waits for the index."""
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass
