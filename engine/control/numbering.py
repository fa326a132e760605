"""Instances' numbers, how many of each definition and pool there have been, and what became of those of pools: kept over the lives of
engines."""

from __future__ import annotations

from collections import Counter

import msgspec

from engine.clock import Clock
from engine.contract.records import RetiredRow
from engine.contract.states import Durability
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers

KIND, KEY = "counter", "instances"
RETIRED = "retired"


class Spawned(msgspec.Struct):
    """The last instance's number, and how many instances definitions and pools have had."""

    made: int = 0
    definitions: dict[str, int] = {}
    pools: dict[str, int] = {}


class Numbering:
    """What is stored may be behind by what was lost with the machine's power; numbers of instances with tasks on disk are not lost:
    the journal keeps its order."""

    def __init__(self, journal: Journal, readers: Readers, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        document = readers.document(KIND, KEY)
        known = Spawned() if document is None else msgspec.json.decode(document.json, type=Spawned)
        self.made = known.made
        self.definitions = Counter(known.definitions)
        self.pools = Counter(known.pools)

    def spawned(self, definition: str, pool: str) -> None:
        """An instance came, with number `made + 1`, of a pool or (pool "") of its own."""
        self.made += 1
        self.definitions[definition] += 1
        if pool:
            self.pools[pool] += 1
        now = Spawned(self.made, dict(self.definitions), dict(self.pools))
        put = ops.PutDocument(KIND, KEY, "", self._clock.wall_ms(), msgspec.json.encode(now))
        self._journal.write((put,), Durability.os)

    def retired(self, row: RetiredRow) -> None:
        """An instance of a pool is no more."""
        put = ops.PutDocument(RETIRED, row.id, row.definition, row.retired_ms, msgspec.json.encode({"row": row}))
        self._journal.write((put,), Durability.os)
