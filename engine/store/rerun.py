"""The store of a recording: the same readers and the same writer on a copy of the file, which goes forward and back in its own past.

Rooms that only answer are given this in the place of a `Store`. Their journal writes nothing and tells them of no commit, so none of
them goes on with work that is history; `past` is the real one, for whoever moves the file through time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.contract.errors import AiwmError, Code
from engine.contract.states import Durability
from engine.store import schema
from engine.store.commit import CommittedBatch
from engine.store.feeder import Feeder
from engine.store.image import marks
from engine.store.journal import Journal
from engine.store.ops import InsertTask, Op, Receipt
from engine.store.readers import Readers
from engine.store.recovery import Recovery
from engine.store.store import Store, counted
from engine.store.window import Windows
from engine.store.writer import Writer


class StillJournal(Journal):
    """Counts as the real one does; writes nothing."""

    def __init__(self, past: Journal, writer: Writer) -> None:
        super().__init__(writer, 0, {}, {}, {})
        self._past = past

    def counts(self) -> dict[tuple[str, str], int]:
        return self._past.counts()

    def event_counts(self) -> dict[str, int]:
        return self._past.event_counts()

    def record_counts(self) -> dict[str, int]:
        return self._past.record_counts()

    def on_commit(self, callback: Callable[[CommittedBatch], None]) -> None:
        """Nobody is told: what is committed happened long ago."""

    def unwritten(self, seq: int) -> InsertTask | None:
        return self._past.unwritten(seq)

    def all_unwritten(self) -> list[InsertTask]:
        return self._past.all_unwritten()

    def write(self, ops: Sequence[Op], durability: Durability) -> asyncio.Future[Receipt]:
        """Raises `read_only` from the future."""
        del ops, durability
        refused: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        refused.set_exception(AiwmError(Code.read_only, "a recording cannot be changed", fix="aiwm (the live console)"))
        refused.exception()
        return refused


class RerunStore(Store):
    """A file that `image.build` made. `past` writes to it; `journal` is what other rooms are given."""

    def __init__(self, path: Path) -> None:
        connection = schema.connect(path)
        found = marks(connection)
        writer = Writer(connection, found["epoch"], _last_event(connection))
        past = Journal(writer, found["task_high"], *counted(connection))
        self.past = past
        self._writer = writer
        self._connection = connection
        self.journal = StillJournal(past, writer)
        self.readers = Readers(path, past)
        self.feeder = Feeder(self.readers, past)
        self.windows = Windows(path, past, self.feeder)
        self.recovered = Recovery(found["epoch"], found["task_high"], _last_event(connection))
        self.epoch = found["epoch"]
        self.backup = None

    @property
    def size(self) -> int:
        """How large an image of the file as it is now would be. Everything that was written must have been awaited."""
        pages, size = (
            int(self._connection.execute(f"PRAGMA {it}").fetchone()[0]) for it in ("page_count", "page_size")
        )
        return pages * size

    async def keep(self, image: Path) -> None:
        """Copy the file as it is now. Everything that was written must have been awaited."""
        await asyncio.to_thread(self._writer.copy_to, image)

    async def become(self, image: Path) -> None:
        """Be what an image of this file was. Everything that was written must have been awaited."""
        await self.feeder.pause()
        await self.past.write((), Durability.os)
        await asyncio.to_thread(self._writer.become, image)
        self.past.recount(marks(self._connection)["task_high"], *counted(self._connection))

    async def close(self) -> None:
        await self.feeder.close()
        await self.past.close()
        await self.windows.close()
        self.readers.close()
        await asyncio.to_thread(self._writer.close)


def _last_event(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])
