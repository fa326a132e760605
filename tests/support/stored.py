"""Short ways to write into a store, and what must be true of any database that was ever written by one."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from engine.contract.ids import task_id
from engine.contract.states import Durability, TaskState
from engine.store import ops
from engine.store.store import Store

T0 = 1_790_000_000_000


class FakeClock:
    """A clock that stands still unless it is told otherwise."""

    def __init__(self, now_ms: int = T0) -> None:
        self.now_ms = now_ms

    def wall_ms(self) -> int:
        return self.now_ms

    def mono_ns(self) -> int:
        return self.now_ms * 1_000_000


def open_store(path: Path, now_ms: int = T0) -> Store:
    return Store.open(path, clock=FakeClock(now_ms))


def insert(seq: int, queue: str = "q", **more: Any) -> ops.InsertTask:
    values: dict[str, Any] = {
        "state": TaskState.pending,
        "priority": 0,
        "rank": seq,
        "payload": b'{"n": %d}' % seq,
        "submitted_ms": T0 + seq,
        "by": "test",
        "max_attempts": 3,
    }
    return ops.InsertTask(seq=seq, queue=queue, **(values | more))


def event(type_: str, seq: int | None = None, level: str = "info", text: str = "") -> ops.AppendEvent:
    about = task_id(seq) if seq is not None else "store"
    return ops.AppendEvent(at_ms=T0, level=level, type=type_, who="test", about=about, text=text, task_seq=seq)


def start(seq: int, attempt: int = 1) -> ops.StartTask:
    return ops.StartTask(seq, attempt, "i-01", "pool", "nano", T0)


def end(seq: int, attempt: int = 1, state: TaskState = TaskState.completed, **more: Any) -> ops.EndTask:
    return ops.EndTask(seq=seq, attempt=attempt, state=state, at_ms=T0, **more)


async def submit(store: Store, queue: str = "q", durability: Durability = Durability.os, **more: Any) -> int:
    """Submit a task and wait for its commit; its number."""
    seq = store.journal.next_seq()
    await store.journal.write(
        (insert(seq, queue, durability=durability, **more), event("task.submitted", seq)), durability
    )
    return seq


async def run(store: Store, seq: int, attempt: int = 1, state: TaskState = TaskState.completed) -> None:
    """Start and end a task."""
    await store.journal.write((start(seq, attempt), event("task.started", seq)), Durability.os)
    await store.journal.write((end(seq, attempt, state), event("task.ended", seq)), Durability.os)


def recount(connection: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """The task counters, counted from the rows."""
    rows = connection.execute("SELECT queue, state, count(*) FROM tasks GROUP BY queue, state")
    return {(row[0], row[1]): row[2] for row in rows}


def check(connection: sqlite3.Connection) -> None:
    """What holds at every moment: sound pages, counters equal to the rows, bodies with their rows, no end without a start."""
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    counted = connection.execute("SELECT queue, state, n FROM counters WHERE n <> 0")
    assert {(row[0], row[1]): row[2] for row in counted} == recount(connection)
    levels = dict(connection.execute("SELECT level, n FROM event_counters WHERE n <> 0").fetchall())
    assert levels == dict(connection.execute("SELECT level, count(*) FROM events GROUP BY level").fetchall())
    epoch = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0]
    wrong = connection.execute(
        "SELECT seq, state, attempt, epoch, started_ms, ended_ms FROM tasks WHERE"
        " (state IN ('processing', 'completed') AND (started_ms IS NULL OR attempt < 1))"
        " OR (state IN ('completed', 'failed', 'cancelled')) <> (ended_ms IS NOT NULL)"
        " OR epoch > ? OR (attempt > 0) <> (epoch > 0)",
        (epoch,),
    ).fetchall()
    assert wrong == []
    assert connection.execute("SELECT seq FROM tasks EXCEPT SELECT seq FROM payloads").fetchall() == []
    assert connection.execute("SELECT seq FROM payloads EXCEPT SELECT seq FROM tasks").fetchall() == []
    assert connection.execute("SELECT task FROM dependencies EXCEPT SELECT seq FROM tasks").fetchall() == []
    recorded = dict(connection.execute("SELECT state, n FROM record_counters WHERE n <> 0").fetchall())
    assert recorded == dict(connection.execute("SELECT state, count(*) FROM records GROUP BY state").fetchall())


def check_file(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        check(connection)
    finally:
        connection.close()
