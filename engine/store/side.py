"""What a batch writes beside tasks and their events: definitions, documents, samples, ratings; and what it deletes for good.

These operations have no fence. They are run one after the other, in the order in which they came."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from engine.contract.ids import task_id
from engine.store import ops, words
from engine.store.ops import Op
from engine.store.statements import COUNT_EVENTS, COUNT_RECORDS, PUT_SAMPLE

TASK_DOCUMENTS = ("insight", "feedback", "review", "context")
"""Kinds of documents whose `ref` is the task that they belong to: they go when it goes."""

_PUT_DEFINITION = "INSERT OR REPLACE INTO definitions (kind, name, json, digest, at_ms) VALUES (?, ?, ?, ?, ?)"
_DELETE_DEFINITION = "DELETE FROM definitions WHERE kind = ? AND name = ?"
_PUT_DOCUMENT = "INSERT OR REPLACE INTO documents (kind, key, ref, at_ms, json) VALUES (?, ?, ?, ?, ?)"
_DELETE_DOCUMENT = "DELETE FROM documents WHERE kind = ? AND key = ?"
_RATE_RECORD = "UPDATE records SET rating = ?, comments = ? WHERE seq = (SELECT max(seq) FROM records WHERE task = ?)"
_AMONG = "IN (SELECT value FROM json_each(?))"


class Side:
    """Runs side operations. `rated`: a record was rated; `events` and `records` count what was deleted, by level and by state."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.rated = False
        self.events: Counter[str] = Counter()
        self.records: Counter[str] = Counter()

    def write(self, waiting: Sequence[Op]) -> None:
        """Run them. Raises sqlite3.Error; the transaction is the caller's."""
        for op in waiting:
            HANDLERS[type(op)](self, op)

    def _put_definition(self, op: ops.PutDefinition) -> None:
        self._connection.execute(_PUT_DEFINITION, (op.kind, op.name, op.json.decode(), op.digest, op.at_ms))

    def _delete_definition(self, op: ops.DeleteDefinition) -> None:
        self._connection.execute(_DELETE_DEFINITION, (op.kind, op.name))

    def _put_document(self, op: ops.PutDocument) -> None:
        self._connection.execute(_PUT_DOCUMENT, (op.kind, op.key, op.ref, op.at_ms, op.json.decode()))

    def _delete_document(self, op: ops.DeleteDocument) -> None:
        self._connection.execute(_DELETE_DOCUMENT, (op.kind, op.key))

    def _put_samples(self, op: ops.PutSamples) -> None:
        PUT_SAMPLE.run(self._connection, op.rows)

    def _rate(self, op: ops.RateRecord) -> None:
        self._connection.execute(_RATE_RECORD, (op.rating, op.comments, op.task))
        self.rated = True

    def _delete_tasks(self, op: ops.DeleteTasks) -> None:
        if not op.seqs:
            return
        seqs = msgspec.json.encode(op.seqs).decode()
        # Their numbers are not given out again, not even those of the last ones.
        self._connection.execute(
            "UPDATE meta SET value = max(value, (SELECT max(seq) FROM tasks)) WHERE key = 'task_high'"
        )
        for table, column in (("tasks", "seq"), ("payloads", "seq"), ("results", "seq"), ("dependencies", "task")):
            self._connection.execute(f"DELETE FROM {table} WHERE {column} {_AMONG}", (seqs,))
        refs = msgspec.json.encode([task_id(seq) for seq in op.seqs]).decode()
        for kind in TASK_DOCUMENTS:
            self._connection.execute(f"DELETE FROM documents WHERE kind = ? AND ref {_AMONG}", (kind, refs))
        words.forget(self._connection, len(op.seqs))

    def _prune_events(self, op: ops.PruneEvents) -> None:
        gone = self._count("SELECT level, count(*) FROM events WHERE seq < ? GROUP BY level", op.before)
        if gone:
            COUNT_EVENTS.run(self._connection, [(level, -n) for level, n in gone.items()])
            self._connection.execute("DELETE FROM events WHERE seq < ?", (op.before,))
            self.events += gone

    def _prune_records(self, op: ops.PruneRecords) -> None:
        gone = self._count("SELECT state, count(*) FROM records WHERE seq < ? GROUP BY state", op.before)
        if gone:
            COUNT_RECORDS.run(self._connection, [(state, -n) for state, n in gone.items()])
            self._connection.execute("DELETE FROM records WHERE seq < ?", (op.before,))
            self.records += gone

    def _count(self, sql: str, before: int) -> Counter[str]:
        return Counter(dict(self._connection.execute(sql, (before,)).fetchall()))

    def _prune_samples(self, op: ops.PruneSamples) -> None:
        self._connection.execute(
            "DELETE FROM samples WHERE series = ? AND step_ms = ? AND at_ms < ?", (op.series, op.step_ms, op.before_ms)
        )

    def _index_words(self, op: ops.IndexWords) -> None:
        words.index(self._connection, op.limit)


HANDLERS: dict[type[Op], Callable[[Side, Any], None]] = {
    ops.PutDefinition: Side._put_definition,
    ops.DeleteDefinition: Side._delete_definition,
    ops.PutDocument: Side._put_document,
    ops.DeleteDocument: Side._delete_document,
    ops.PutSamples: Side._put_samples,
    ops.RateRecord: Side._rate,
    ops.DeleteTasks: Side._delete_tasks,
    ops.PruneEvents: Side._prune_events,
    ops.PruneRecords: Side._prune_records,
    ops.PruneSamples: Side._prune_samples,
    ops.IndexWords: Side._index_words,
}
