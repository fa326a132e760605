"""What definitions, pools and queues came to: sums that are kept when the records they were made of are not.

Records are added up in blocks: what was added up so far is stored with the number of the last record in it, so nothing is counted twice
or left out, whichever moment the engine dies at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import msgspec

from engine.clock import Clock
from engine.contract.states import Durability
from engine.store import ops
from engine.store.journal import Journal
from engine.store.performance import Performed, performed
from engine.store.readers import Readers
from engine.store.window import Windows

KIND = "summary"
_MARK = "mark"
_BLOCK = 20_000
"""So many new records are added up before the sums are stored again; reading as many takes some ten milliseconds."""

DIMENSIONS = ("definition", "pool", "queue")


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """What tasks came to. `duration_ms` is of the `timed` ones; `ended_ms` is when the last of them ended."""

    tasks: int = 0
    completed: int = 0
    failed: int = 0
    timed: int = 0
    duration_ms: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    ended_ms: int = 0

    def plus(self, more: Sums | Performed) -> Sums:
        return Sums(
            tasks=self.tasks + more.tasks,
            completed=self.completed + more.completed,
            failed=self.failed + more.failed,
            timed=self.timed + more.timed,
            duration_ms=self.duration_ms + more.duration_ms,
            tokens_in=self.tokens_in + more.tokens_in,
            tokens_out=self.tokens_out + more.tokens_out,
            cost_usd=self.cost_usd + more.cost_usd,
            ended_ms=max(self.ended_ms, more.ended_ms),
        )


class Mark(msgspec.Struct, frozen=True):
    """The number of the last record that is in the stored sums."""

    seq: int = 0


Key = tuple[str, str]
"""A dimension and a name."""


def added(known: Mapping[Key, Sums], groups: Iterable[Performed]) -> dict[Key, Sums]:
    """Sums with these records in them. A record without a pool (or definition) counts for the others only."""
    found = dict(known)
    for group in groups:
        for dimension in DIMENSIONS:
            name: str = getattr(group, dimension)
            if name:
                found[dimension, name] = found.get((dimension, name), Sums()).plus(group)
    return found


class Performance:
    """The sums. `add_up` stores them; reading adds what has come since."""

    def __init__(self, journal: Journal, readers: Readers, windows: Windows, clock: Clock) -> None:
        self._journal = journal
        self._windows = windows
        self._clock = clock
        self._adding = asyncio.Lock()
        self._known: dict[Key, Sums] = {}
        self._mark = 0
        for document in readers.documents(KIND, limit=1_000_000):
            if document.key == _MARK:
                self._mark = msgspec.json.decode(document.json, type=Mark).seq
            else:
                self._known[document.ref, document.key.partition("/")[2]] = msgspec.json.decode(
                    document.json, type=Sums
                )

    async def sums(self) -> dict[Key, Sums]:
        """What everything came to, now."""
        async with self._adding:
            groups = await performed(self._windows, self._mark)
            found = added(self._known, groups)
            if sum(group.tasks for group in groups) >= _BLOCK:
                await self._store(found, groups)
            return found

    async def add_up(self) -> None:
        """Store the sums of everything that there is: its records may be deleted then."""
        async with self._adding:
            groups = await performed(self._windows, self._mark)
            if groups:
                await self._store(added(self._known, groups), groups)

    async def _store(self, found: dict[Key, Sums], groups: list[Performed]) -> None:
        now = self._clock.wall_ms()
        mark = max(group.last for group in groups)
        changed = {(dimension, getattr(group, dimension)) for group in groups for dimension in DIMENSIONS}
        entry = [
            ops.PutDocument(KIND, f"{key[0]}/{key[1]}", key[0], now, msgspec.json.encode(found[key]))
            for key in sorted(changed)
            if key in found
        ]
        entry.append(ops.PutDocument(KIND, _MARK, "", now, msgspec.json.encode(Mark(mark))))
        await self._journal.write(entry, Durability.os)
        self._known, self._mark = found, mark
