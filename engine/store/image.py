"""A database as data: read out as one moment of it was, while it is written on, and put together again elsewhere.

What is read is bounded, newest first: a home may hold years, a recording shows an hour."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.states import TaskState
from engine.store import schema

_BLOCK = 200
_UNENDED = (TaskState.processing, TaskState.pending, TaskState.retrying, TaskState.scheduled)
LOADED = ("tasks", "payloads", "results", "dependencies", "events", "records", "definitions", "documents", "samples")
"""The tables that are read out; counters and word indexes follow from them."""


class Limits(msgspec.Struct, frozen=True):
    """How much is read out. `waiting` unfinished tasks (running ones first) and `ended` ones, each with bodies of up to `body_bytes`
    (longer ones are left out) and `bodies_bytes` altogether; so many `events`, `records` and `documents` of a kind; of samples
    `points` of each step."""

    waiting: int = 50_000
    ended: int = 20_000
    events: int = 20_000
    records: int = 20_000
    documents: int = 5_000
    points: int = 720
    body_bytes: int = 65_536
    bodies_bytes: int = 64 * 2**20


class Part(msgspec.Struct, frozen=True):
    """Some rows of a table."""

    table: str
    columns: tuple[str, ...]
    rows: list[Any]


def pin(path: Path) -> sqlite3.Connection:
    """A connection on which the file stays as it is now, whatever is written to it. To be closed soon: the log grows meanwhile."""
    connection = sqlite3.connect(schema.read_uri(path), uri=True, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN")
    connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    return connection


def totals(connection: sqlite3.Connection) -> dict[str, int]:
    """How many tasks, events and performance records there are."""
    counters = {"tasks": "counters", "events": "event_counters", "records": "record_counters"}
    return {
        name: int(connection.execute(f"SELECT coalesce(sum(n), 0) FROM {table}").fetchone()[0])
        for name, table in counters.items()
    }


def marks(connection: sqlite3.Connection) -> dict[str, int]:
    """The numbers that an engine goes on from: its epoch, and the highest number of a task."""
    found = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('epoch', 'task_high')").fetchall())
    high = connection.execute("SELECT coalesce(max(seq), 0) FROM tasks").fetchone()[0]
    return {"epoch": int(found["epoch"]), "task_high": max(int(found["task_high"]), int(high))}


def read_out(connection: sqlite3.Connection, limits: Limits, now_ms: int) -> Iterator[Part]:
    """The file's rows within the limits, in parts of a few hundred rows. Takes long for a large file: not for the event loop."""
    seqs = sorted(_tasks(connection, limits))
    for block in _blocks(seqs):
        among = msgspec.json.encode(block).decode()
        for table, column in (("tasks", "seq"), ("dependencies", "task")):
            yield from _parts(connection, table, f"{column} IN (SELECT value FROM json_each(?))", (among,))
    yield from _bodies(connection, seqs, limits)
    for table, most in (("events", limits.events), ("records", limits.records)):
        least = connection.execute(f"SELECT coalesce(max(seq), 0) - ? FROM {table}", (most,)).fetchone()[0]
        yield from _parts(connection, table, "seq > ?", (least,))
    yield from _parts(connection, "definitions", "1", ())
    for (kind,) in connection.execute("SELECT DISTINCT kind FROM documents").fetchall():
        newest = "kind = ?1 AND (at_ms, key) IN (SELECT at_ms, key FROM documents WHERE kind = ?1 ORDER BY at_ms DESC LIMIT ?2)"
        yield from _parts(connection, "documents", newest, (kind, limits.documents))
    yield from _parts(connection, "samples", "at_ms >= ? - step_ms * ?", (now_ms, limits.points))


def _tasks(connection: sqlite3.Connection, limits: Limits) -> Iterator[int]:
    queues = [row[0] for row in connection.execute("SELECT DISTINCT queue FROM counters").fetchall()]
    left = limits.waiting
    for state in _UNENDED:
        for queue in queues:
            sql = "SELECT seq FROM tasks INDEXED BY tasks_state WHERE queue = ? AND state = ? ORDER BY seq LIMIT ?"
            found = connection.execute(sql, (queue, state.value, left)).fetchall()
            left -= len(found)
            yield from (row[0] for row in found)
    ended = "SELECT seq FROM tasks INDEXED BY tasks_ended WHERE ended_ms IS NOT NULL ORDER BY ended_ms DESC LIMIT ?"
    yield from (row[0] for row in connection.execute(ended, (limits.ended,)).fetchall())


def _bodies(connection: sqlite3.Connection, seqs: list[int], limits: Limits) -> Iterator[Part]:
    """Payloads and results of these tasks, the newest first, while there is room for them."""
    left = limits.bodies_bytes
    lengths = {
        "payloads": "length(payload)",
        "results": "coalesce(length(result), 0) + coalesce(length(error), 0) + coalesce(length(prompt), 0)",
    }
    for block in _blocks(seqs[::-1]):
        among = msgspec.json.encode(block).decode()
        for table, length in lengths.items():
            where = f"seq IN (SELECT value FROM json_each(?)) AND {length} <= ?"
            for part in _parts(connection, table, where, (among, min(left, limits.body_bytes))):
                left -= sum(len(value) for row in part.rows for value in row if isinstance(value, str))
                yield part
        if left <= 0:
            return


def _parts(connection: sqlite3.Connection, table: str, where: str, parameters: Sequence[Any]) -> Iterator[Part]:
    columns = columns_of(connection, table)
    quoted = ", ".join(f'"{column}"' for column in columns)
    cursor = connection.execute(f"SELECT {quoted} FROM {table} WHERE {where}", parameters)
    while rows := cursor.fetchmany(_BLOCK):
        yield Part(table, columns, rows)


def columns_of(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """The stored columns of a table, without computed ones."""
    return tuple(row[1] for row in connection.execute(f"PRAGMA table_info({table})").fetchall())


def _blocks(seqs: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(seqs), _BLOCK):
        yield seqs[first : first + _BLOCK]


def build(path: Path, parts: Iterable[Part], *, epoch: int, task_high: int) -> None:
    """A database of these rows. Raises `recording_invalid` naming the table and column that do not belong there, or what is wrong with
    a value."""
    connection = schema.connect(path)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        schema.use_wal(connection)
        schema.create(connection)
        connection.execute("BEGIN")
        known = {table: columns_of(connection, table) for table in LOADED}
        for part in parts:
            _put(connection, part, known)
        for sql in _COUNT:
            connection.execute(sql)
        connection.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (epoch,))
        connection.execute("UPDATE meta SET value = ? WHERE key = 'task_high'", (task_high,))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


_COUNT = (
    "INSERT INTO counters SELECT queue, state, count(*) FROM tasks GROUP BY queue, state",
    "INSERT INTO event_counters SELECT level, count(*) FROM events GROUP BY level",
    "INSERT INTO record_counters SELECT state, count(*) FROM records GROUP BY state",
)


def _put(connection: sqlite3.Connection, part: Part, known: dict[str, tuple[str, ...]]) -> None:
    columns = known.get(part.table)
    if columns is None:
        raise _wrong("put", part.table, f"one of {', '.join(known)}")
    for column in part.columns:
        if column not in columns:
            raise _wrong("columns", column, f"{part.table} has {', '.join(columns)}")
    names = ", ".join(f'"{column}"' for column in part.columns)
    holes = ", ".join("?" * len(part.columns))
    try:
        connection.executemany(f"INSERT INTO {part.table} ({names}) VALUES ({holes})", part.rows)
    except (sqlite3.Error, TypeError, OverflowError) as error:
        raise _wrong("rows", part.table, str(error)) from None


def _wrong(field: str, value: str, why: str) -> AiwmError:
    return AiwmError(Code.recording_invalid, f'"{value[:60]}" does not belong into a recording: {why}', field=field)
