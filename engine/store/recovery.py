"""What a start does before anything else: a new epoch, and order among what the last engine left behind. One transaction."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any

import msgspec

from engine.contract.errors import Code, ErrorInfo
from engine.contract.ids import task_id
from engine.store.statements import (
    COUNT_EVENTS,
    COUNT_RECORDS,
    COUNT_TASKS,
    INSERT_EVENT,
    INSERT_RECORD,
    PUT_RESULT,
    Row,
)

MAX_CRASHES = 2
"""A task that was running at this many ends of an engine is not tried again, unless the caller says otherwise."""


class Recovery(msgspec.Struct, frozen=True):
    """What the start found. `requeued` tasks were running and wait again; `dead_lettered` ones failed because they may have killed
    the engine, or may not run twice; `dropped` ones had been promised to nobody (`memory` durability)."""

    epoch: int
    task_seq: int
    event_seq: int
    requeued: int = 0
    dead_lettered: int = 0
    dropped: int = 0


class _Start:
    def __init__(self, connection: sqlite3.Connection, now_ms: int) -> None:
        self.connection = connection
        self.now_ms = now_ms
        self.counts: Counter[tuple[str, str]] = Counter()
        self.events: list[Row] = []
        self.event_seq: int = self.one("SELECT coalesce(max(seq), 0) FROM events")

    def one(self, sql: str, *parameters: Any) -> Any:
        row = self.connection.execute(sql, parameters).fetchone()
        return row[0] if row else None

    def event(self, level: str, type_: str, about: str, text: str, task: int | None) -> None:
        self.event_seq += 1
        self.events.append((self.event_seq, self.now_ms, level, type_, "engine", about, text, task, None, None))


def recover(connection: sqlite3.Connection, now_ms: int, max_crashes: int = MAX_CRASHES) -> Recovery:
    """Begin a new epoch: unfinished tasks of `memory` queues are dropped, running ones of older epochs wait again or are dead-lettered
    (at the `max_crashes`th engine that they were running in when it ended)."""
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        start = _Start(connection, now_ms)
        epoch = int(start.one("UPDATE meta SET value = value + 1 WHERE key = 'epoch' RETURNING value"))
        # Numbers of dropped tasks are not given out again: somebody may have noted them.
        high = start.one(
            "SELECT max(value, coalesce((SELECT max(seq) FROM tasks), 0)) FROM meta WHERE key = 'task_high'"
        )
        connection.execute("UPDATE meta SET value = ? WHERE key = 'task_high'", (high,))
        dropped = _drop_memory(start)
        requeued, dead = _take_back(start, max_crashes)
        _write(start)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return Recovery(epoch, int(high), start.event_seq, requeued, dead, dropped)


def _drop_memory(start: _Start) -> int:
    rows = start.connection.execute(
        "SELECT seq, queue, state FROM tasks WHERE durability = 'memory' AND ended_ms IS NULL"
    ).fetchall()
    if not rows:
        return 0
    seqs = [(row[0],) for row in rows]
    for table, column in (("tasks", "seq"), ("payloads", "seq"), ("results", "seq"), ("dependencies", "task")):
        start.connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", seqs)
    for _, queue, state in rows:
        start.counts[queue, state] -= 1
    queues = Counter(row[1] for row in rows)
    each = ", ".join(f"{queue} {n}" for queue, n in sorted(queues.items()))
    text = f"{len(rows)} unfinished tasks of memory queues were dropped at the start: {each}"
    start.event("warn", "store.dropped", "store", text, None)
    return len(rows)


def _take_back(start: _Start, max_crashes: int) -> tuple[int, int]:
    running = []
    for (queue,) in start.connection.execute("SELECT DISTINCT queue FROM counters").fetchall():
        running += start.connection.execute(
            "SELECT seq, queue, attempt, crashes, on_crash FROM tasks WHERE queue = ? AND state = 'processing' ORDER BY seq",
            (queue,),
        ).fetchall()
    dead: list[Row] = []
    for seq, queue, attempt, crashes, on_crash in running:
        start.counts[queue, "processing"] -= 1
        if crashes + 1 >= max_crashes or on_crash == "dead-letter":
            dead.append((seq,))
            _dead_letter(start, seq, queue, attempt, crashes + 1)
        else:
            _requeue(start, seq, queue, attempt)
    if dead:
        INSERT_RECORD.run(start.connection, dead)
        COUNT_RECORDS.run(start.connection, [("failed", len(dead))])
    return len(running) - len(dead), len(dead)


def _requeue(start: _Start, seq: int, queue: str, attempt: int) -> None:
    """Pending again; the attempt is given back, for it was not the task that failed as far as anybody knows."""
    start.counts[queue, "pending"] += 1
    start.connection.execute(
        "UPDATE tasks SET state = 'pending', crashes = crashes + 1, max_attempts = max_attempts + 1, instance = NULL,"
        " started_ms = NULL, reason = 'the engine ended while it ran' WHERE seq = ?",
        (seq,),
    )
    start.event(
        "warn", "task.requeued", task_id(seq), f"the engine ended during attempt {attempt}; it waits again", seq
    )


def _dead_letter(start: _Start, seq: int, queue: str, attempt: int, crashes: int) -> None:
    start.counts[queue, "failed"] += 1
    times = f"{crashes} times" if crashes > 1 else "once, and it may not run twice"
    reason = f"the engine ended while it ran {times}"
    error = ErrorInfo(code=str(Code.engine_crashed), message=reason, fix=f"aiwm task retry {task_id(seq)}")
    start.connection.execute(
        "UPDATE tasks SET state = 'failed', crashes = crashes + 1, ended_ms = ?, error = ?, reason = ? WHERE seq = ?",
        (start.now_ms, error.code, reason, seq),
    )
    PUT_RESULT.run(start.connection, [(seq, None, msgspec.json.encode(error).decode(), None)])
    start.event("error", "task.failed", task_id(seq), f"{reason}; attempt {attempt} was the last", seq)


def _write(start: _Start) -> None:
    counts = [(*key, n) for key, n in start.counts.items() if n]
    if counts:
        COUNT_TASKS.run(start.connection, counts)
    if start.events:
        INSERT_EVENT.run(start.connection, start.events)
        COUNT_EVENTS.run(start.connection, list(Counter(row[2] for row in start.events).items()))
