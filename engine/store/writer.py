"""One batch, one transaction. Runs in the journal's thread; knows SQLite's errors, nothing of threads or the event loop."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from engine.contract.errors import AiwmError, Code
from engine.contract.states import Durability
from engine.store import words
from engine.store.batch import Batch
from engine.store.commit import CommittedBatch, Entry, Outcome
from engine.store.memory import Known, Memory
from engine.store.ops import ChangedTask, DeleteTasks, IndexWords, Receipt
from engine.store.statements import Row

_DONE = Receipt(False)
_FENCED = Receipt(True)


class StorageError(Exception):
    """A transaction could not be written: the file, the disk, or SQLite itself. Its message names the cause."""


class Writer:
    """The only one who writes. `commit` is all or nothing for the storage, entry by entry for fences and conflicts."""

    def __init__(self, connection: sqlite3.Connection, epoch: int, event_seq: int) -> None:
        self._connection = connection
        self._memory = Memory(words.mark_of(connection, "asked_mark"))
        self._epoch = epoch
        self._event_seq = event_seq
        self._synchronous = ""
        self.fenced = 0

    def commit(self, entries: Sequence[Entry], *, probe: bool = False) -> tuple[CommittedBatch, list[Outcome]]:
        """Write entries in one transaction with the strongest durability among them. Raises StorageError, and then nothing was written.

        `probe` writes one more row, at full durability, to learn whether the storage works."""
        try:
            self._set_synchronous(probe or any(entry.durability is Durability.disk for entry in entries))
            try:
                return self._together(entries, probe)
            except (sqlite3.OperationalError, MemoryError):
                raise
            except Exception as error:
                if type(error) is sqlite3.DatabaseError:
                    raise
                self._roll_back()
                return self._one_by_one(entries, probe)
        except Exception as error:
            # Whatever it was, nothing is written and nobody may be told otherwise.
            self._memory.clear()
            self._roll_back()
            raise StorageError(str(error) or type(error).__name__) from error

    def _set_synchronous(self, full: bool) -> None:
        wanted = "FULL" if full else "NORMAL"
        if wanted != self._synchronous:
            self._connection.execute(f"PRAGMA synchronous = {wanted}")
            self._synchronous = wanted

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                # SQLite has rolled back by itself (disk full, I/O error); there is nothing left to undo.
                pass

    def _begin(self, probe: bool) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        if probe:
            self._connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'probe'")

    def _together(self, entries: Sequence[Entry], probe: bool) -> tuple[CommittedBatch, list[Outcome]]:
        """The usual way: all entries in few statements. Whatever is wrong with one of them makes it fail for all."""
        self._begin(probe)
        batch = Batch(self._connection, self._memory, self._epoch, self._event_seq)
        outcomes: list[Outcome] = [(entry, _DONE if batch.add(entry.ops) else _FENCED) for entry in entries]
        batch.write()
        self._connection.execute("COMMIT")
        self._accept(batch.event_seq, batch.tasks, batch.fenced)
        self._look_at_mark(entries)
        return _committed(batch.changed, batch.events, [batch]), outcomes

    def _one_by_one(self, entries: Sequence[Entry], probe: bool) -> tuple[CommittedBatch, list[Outcome]]:
        """The careful way: a savepoint an entry, so that a conflict or an unwritable value costs its own entry only."""
        self._begin(probe)
        outcomes: list[Outcome] = []
        changed: list[ChangedTask] = []
        events: list[Row] = []
        tasks: dict[int, Known] = {}
        batches: list[Batch] = []
        event_seq, fenced = self._event_seq, 0
        for entry in entries:
            # What earlier entries of this transaction wrote must be read, not remembered.
            batch = Batch(
                self._connection, Memory(words.mark_of(self._connection, "asked_mark")), self._epoch, event_seq
            )
            self._connection.execute("SAVEPOINT entry")
            try:
                written = batch.add(entry.ops)
                batch.write()
            except (sqlite3.OperationalError, MemoryError):
                raise
            except Exception as error:
                self._connection.execute("ROLLBACK TO entry")
                outcomes.append((entry, _refusal(error)))
            else:
                outcomes.append((entry, _DONE if written else _FENCED))
                changed += batch.changed
                events += batch.events
                tasks |= batch.tasks
                batches.append(batch)
                event_seq, fenced = batch.event_seq, fenced + batch.fenced
            self._connection.execute("RELEASE entry")
        self._connection.execute("COMMIT")
        self._accept(event_seq, tasks, fenced)
        self._look_at_mark(entries)
        return _committed(changed, events, batches), outcomes

    def _look_at_mark(self, entries: Sequence[Entry]) -> None:
        if any(type(op) in (IndexWords, DeleteTasks) for entry in entries for op in entry.ops):
            self._memory.indexed = words.mark_of(self._connection, "asked_mark")

    def _accept(self, event_seq: int, tasks: dict[int, Known], fenced: int) -> None:
        self._event_seq = event_seq
        self._memory.update(tasks)
        self.fenced += fenced

    def become(self, image: Path) -> None:
        """Make the file what another database is, readers and all. Nothing may be writing. Raises sqlite3.Error."""
        source = sqlite3.connect(image)
        try:
            source.backup(self._connection)
        finally:
            source.close()
        self._memory = Memory(words.mark_of(self._connection, "asked_mark"))
        self._event_seq = int(self._connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def copy_to(self, image: Path) -> None:
        """Copy the database into a new file. Nothing may be writing. Raises sqlite3.Error."""
        target = sqlite3.connect(image)
        try:
            self._connection.backup(target)
        finally:
            target.close()

    def close(self) -> None:
        """Move the log into the database and close. Without other connections the file then stands alone."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            # The log stays beside the file and is read at the next start: nothing is lost.
            pass
        self._connection.close()


def _committed(changed: list[ChangedTask], events: list[Row], batches: Sequence[Batch]) -> CommittedBatch:
    """What the batches of one transaction did together."""
    levels = Counter(row[2] for row in events)
    counts: Counter[tuple[str, str]] = Counter()
    records: Counter[str] = Counter()
    for batch in batches:
        counts.update(batch.counts)
        records.update(batch.records)
        levels.subtract(batch.side.events)
        records.subtract(batch.side.records)
    rated = any(batch.side.rated for batch in batches)
    return CommittedBatch(changed, events, counts, levels, records, rated=rated)


def _refusal(error: Exception) -> AiwmError:
    if isinstance(error, AiwmError):
        return error
    if isinstance(error, sqlite3.IntegrityError) and "idempotency_key" in str(error):
        return AiwmError(Code.conflict, "a task with this idempotency key exists in the queue", field="idempotency_key")
    return AiwmError(Code.internal, f"the entry cannot be written: {type(error).__name__}: {error}")
