"""The store as a whole: opens the file, recovers, and holds journal and readers."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.store import migrations, schema
from engine.store.feeder import Feeder
from engine.store.journal import Journal
from engine.store.readers import Readers
from engine.store.recovery import MAX_CRASHES, Recovery, recover
from engine.store.window import Windows
from engine.store.writer import Writer


class Store:
    """One open database. Only one process may have it open for writing; that is for the caller to ensure (flock)."""

    def __init__(self, path: Path, writer: Writer, journal: Journal, recovered: Recovery, backup: Path | None) -> None:
        self._writer = writer
        self.journal = journal
        self.readers = Readers(path, journal)
        self.feeder = Feeder(self.readers, journal)
        self.windows = Windows(path, journal, self.feeder)
        self.recovered = recovered
        self.epoch = recovered.epoch
        self.backup = backup

    @classmethod
    def open(cls, path: Path, *, clock: Clock, max_crashes: int = MAX_CRASHES) -> Store:
        """Open or create the database at `path`; an older schema is backed up (`backup`) and migrated, a new epoch begins.

        Raises `schema_newer`, `config_invalid` (not our database) or `storage_failed`."""
        try:
            connection = schema.connect(path)
        except (sqlite3.Error, OSError) as error:
            raise _cannot_open(path, error) from error
        try:
            backup = migrations.prepare(connection, path)
            recovered = recover(connection, clock.wall_ms(), max_crashes)
            writer = Writer(connection, recovered.epoch, recovered.event_seq)
            journal = Journal(writer, recovered.task_seq, *counted(connection))
            return cls(path, writer, journal, recovered, backup)
        except (sqlite3.Error, OSError) as error:
            connection.close()
            raise _cannot_open(path, error) from error
        except BaseException:
            connection.close()
            raise

    def counters(self) -> dict[tuple[str, str], int]:
        """Committed tasks by (queue, state), a copy."""
        return {key: n for key, n in self.journal.counts().items() if n}

    async def close(self) -> None:
        """Write what waits, then close everything; the log is moved into the file, which then stands alone."""
        await self.feeder.close()
        await self.journal.close()
        await self.windows.close()
        self.readers.close()
        await asyncio.to_thread(self._writer.close)


Counts = tuple[dict[tuple[str, str], int], dict[str, int], dict[str, int]]


def counted(connection: sqlite3.Connection) -> Counts:
    """What the counters say: tasks by (queue, state), events by level, performance records by state."""
    counts = {(row[0], row[1]): row[2] for row in connection.execute("SELECT queue, state, n FROM counters")}
    levels = dict(connection.execute("SELECT level, n FROM event_counters").fetchall())
    records = dict(connection.execute("SELECT state, n FROM record_counters").fetchall())
    return counts, levels, records


def _cannot_open(path: Path, error: Exception) -> AiwmError:
    return AiwmError(
        Code.storage_failed, f"{path} cannot be opened: {error}", field="home", fix="free disk space, see aiwm doctor"
    )
