"""Adapters as documents, and what is told of them as events: what was chosen outlives the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.states import Durability
from engine.inference.adapters.versions import Adapter, News
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers

KIND = "adapter"
_MOST = 100_000


class KeptAdapters:
    """All methods belong to the loop's thread."""

    def __init__(self, journal: Journal, readers: Readers, clock: Clock) -> None:
        self._journal = journal
        self._readers = readers
        self._clock = clock

    def read(self) -> Iterator[Adapter]:
        """Those that were kept."""
        for document in self._readers.documents(KIND, limit=_MOST):
            yield msgspec.json.decode(document.json, type=Adapter)

    async def write(self, adapter: Adapter, news: News, by: str) -> None:
        """Keep an adapter that somebody changed, and tell of it: on disk when this returns. Raises storage_failed."""
        await self._journal.write((*self._document(adapter), self._event(news, by)), Durability.disk)

    async def keep(self, adapter: Adapter, news: Sequence[News]) -> None:
        """Keep what was found. Where that cannot be written it is found again at the next start, so nobody is refused for it."""
        entry = (*(self._document(adapter) if adapter.kept else ()), *(self._event(it, "aiwm") for it in news))
        if entry:
            try:
                await self._journal.write(entry, Durability.os)
            except AiwmError as error:
                if error.code not in (Code.storage_failed, Code.engine_stopping):
                    raise

    def _document(self, adapter: Adapter) -> tuple[ops.Op, ...]:
        if not adapter.versions:
            return (ops.DeleteDocument(KIND, adapter.name),)
        data = msgspec.json.encode(adapter)
        return (ops.PutDocument(KIND, adapter.name, adapter.name, self._clock.wall_ms(), data),)

    def _event(self, news: News, by: str) -> ops.AppendEvent:
        return ops.AppendEvent(
            at_ms=self._clock.wall_ms(),
            level=news.level,
            type=news.type,
            who=by,
            about=news.about,
            text=news.text[:500],
        )
