"""Point reads, synchronous, inside the event loop: a row by its number costs 4 µs, a hop to a thread 100. All use an index and a limit.

Windows for views are `window`'s: they may take longer and have a connection and a thread of their own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.contract.records import EventRow, TaskRow
from engine.store import rows, schema
from engine.store.journal import Journal
from engine.store.rows import Definition, StoredTask, TaskClass, WaitingTask, waiting_insert


class Readers:
    """What other rooms may ask of the file. Sees committed rows only, except that payloads of `memory` tasks may be newer."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self._connection: sqlite3.Connection = schema.connect_reader(path)
        self._journal = journal

    def close(self) -> None:
        self._connection.close()

    def _row(self, sql: str, *parameters: Any) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._connection.execute(sql, parameters).fetchone()
        return row

    # One task ------------------------------------------------------------------

    def task(self, seq: int) -> StoredTask | None:
        row = self._row(f"SELECT {rows.STORED_COLUMNS} FROM tasks WHERE seq = ?", seq)
        if row is None:
            unwritten = self._journal.unwritten(seq)
            return None if unwritten is None else rows.unwritten_task(unwritten)
        return rows.stored_task(row)

    def task_row(self, seq: int) -> TaskRow | None:
        row = self._row(f"SELECT {rows.TASK_ROW_COLUMNS} FROM tasks WHERE seq = ?", seq)
        if row is None:
            unwritten = self._journal.unwritten(seq)
            return None if unwritten is None else rows.unwritten_task(unwritten).row
        return rows.task_row(row)

    def payload(self, seq: int) -> bytes | None:
        """The payload as JSON. Also that of a `memory` task which is not written yet."""
        waiting = self._journal.unwritten(seq)
        if waiting is not None:
            return waiting.payload
        row = self._row("SELECT payload FROM payloads WHERE seq = ?", seq)
        return None if row is None else row[0].encode()

    def result(self, seq: int) -> tuple[bytes | None, bytes | None]:
        """The result and the error (ErrorInfo) of the task's last ended attempt, as JSON; None for what there is not."""
        row = self._row("SELECT result, error FROM results WHERE seq = ?", seq)
        if row is None:
            return None, None
        return (None if row[0] is None else row[0].encode(), None if row[1] is None else row[1].encode())

    def events_of(self, seq: int, limit: int = 500) -> list[EventRow]:
        """The task's last `limit` events, oldest first."""
        found = self._connection.execute(
            f"SELECT {rows.EVENT_COLUMNS} FROM events WHERE task = ? ORDER BY seq DESC LIMIT ?", (seq, limit)
        ).fetchall()
        return [rows.event_row(row) for row in reversed(found)]

    def by_idempotency_key(self, queue: str, key: str) -> int | None:
        row = self._row("SELECT seq FROM tasks WHERE queue = ? AND idempotency_key = ?", queue, key)
        return None if row is None else row[0]

    # What waits ------------------------------------------------------------------

    def classes(self) -> list[TaskClass]:
        """All classes that have pending tasks, found by hopping through the index: one step a class, whatever waits in it."""
        found: list[TaskClass] = []
        row = self._row(_CLASS.format(where=""))
        while row is not None:
            found.append(TaskClass(row[0], row[1], row[2], row[3], rows.names(row[4])))
            row = self._row(_CLASS.format(where="AND (queue, tenant, criteria) > (?, ?, ?)"), *row[:3])
        return found

    def page(
        self, queue: str, tenant: str, criteria: str, after: tuple[int, int] | None, limit: int
    ) -> list[WaitingTask]:
        """Pending tasks of a class by (rank, seq), those after a given one."""
        low = (_LOWEST, 0) if after is None else after
        found = self._connection.execute(
            f"SELECT {rows.WAITING_COLUMNS} FROM tasks INDEXED BY tasks_ready WHERE state = 'pending' AND queue = ? AND tenant = ?"
            " AND criteria = ? AND (rank, seq) > (?, ?) ORDER BY rank, seq LIMIT ?",
            (queue, tenant, criteria, *low, limit),
        )
        page = [rows.waiting_task(row) for row in found]
        unwritten = [
            task
            for task in self._unwritten("pending")
            if (task.queue, task.tenant, task.criteria) == (queue, tenant, criteria) and (task.rank, task.seq) > low
        ]
        return _joined(page, unwritten, lambda task: (task.rank, task.seq), limit)

    def _unwritten(self, state: str) -> list[WaitingTask]:
        """Tasks of `memory` queues that were acknowledged and are not written yet: whoever asks may have heard of them already."""
        return [waiting_insert(op) for op in self._journal.all_unwritten() if op.state == state]

    def due_before(self, ms: int, limit: int, after: tuple[int, int] | None = None) -> list[WaitingTask]:
        """Scheduled and retrying tasks due at or before `ms`, by (due_ms, seq), those after a given one."""
        low = (_LOWEST, 0) if after is None else after
        found = self._connection.execute(
            f"SELECT {rows.WAITING_COLUMNS} FROM tasks INDEXED BY tasks_due WHERE state IN ('scheduled', 'retrying')"
            " AND due_ms <= ? AND (due_ms, seq) > (?, ?) ORDER BY due_ms, seq LIMIT ?",
            (ms, *low, limit),
        )
        page = [rows.waiting_task(row) for row in found]
        unwritten = [task for task in self._unwritten("scheduled") if _due(task) <= ms and (_due(task), task.seq) > low]
        return _joined(page, unwritten, lambda task: (_due(task), task.seq), limit)

    def next_due(self, after_ms: int | None = None) -> int | None:
        """The earliest due time (Unix ms) among scheduled and retrying tasks, later than `after_ms` if given."""
        row = self._row(
            "SELECT min(due_ms) FROM tasks INDEXED BY tasks_due WHERE state IN ('scheduled', 'retrying') AND due_ms > ?",
            _LOWEST if after_ms is None else after_ms,
        )
        return None if row is None else row[0]

    def deadlines_before(self, ms: int, limit: int, after: tuple[int, int] | None = None) -> list[WaitingTask]:
        """Waiting tasks whose deadline is at or before `ms`, by (deadline_ms, seq), those after a given one."""
        low = after or (-(2**62), 0)
        found = self._connection.execute(
            f"SELECT {rows.WAITING_COLUMNS} FROM tasks INDEXED BY tasks_deadline WHERE deadline_ms IS NOT NULL AND ended_ms IS NULL"
            " AND deadline_ms <= ? AND (deadline_ms, seq) > (?, ?) AND state <> 'processing' ORDER BY deadline_ms, seq LIMIT ?",
            (ms, *low, limit),
        )
        return [rows.waiting_task(row) for row in found]

    def next_deadline(self) -> int | None:
        row = self._row(
            "SELECT deadline_ms FROM tasks INDEXED BY tasks_deadline WHERE deadline_ms IS NOT NULL AND ended_ms IS NULL"
            " AND state <> 'processing' ORDER BY deadline_ms LIMIT 1"
        )
        return None if row is None else row[0]

    def head_ms(self, queue: str) -> int | None:
        """When the oldest pending task of a queue was submitted."""
        row = self._row(
            "SELECT submitted_ms FROM tasks INDEXED BY tasks_state WHERE queue = ? AND state = 'pending' ORDER BY seq LIMIT 1",
            queue,
        )
        return None if row is None else row[0]

    def failed_since(self, ms: int) -> int:
        """How many tasks failed at or after `ms` and are failed still."""
        row = self._row(
            "SELECT count(*) FROM tasks INDEXED BY tasks_failed WHERE state = 'failed' AND ended_ms >= ?", ms
        )
        return 0 if row is None else row[0]

    def failures_since(self, ms: int, limit: int = 5) -> list[tuple[str, int, int]]:
        """Failures at or after `ms` by their error code: (code, how many, when the first ended), most frequent first.

        Looks at the last 10,000 only: beyond that the numbers no longer matter, the cost does."""
        found = self._connection.execute(
            "SELECT coalesce(error, 'failed'), count(*), min(ended_ms) FROM (SELECT error, ended_ms FROM tasks INDEXED BY tasks_failed"
            " WHERE state = 'failed' AND ended_ms >= ? ORDER BY ended_ms DESC LIMIT 10000) GROUP BY 1 ORDER BY 2 DESC LIMIT ?",
            (ms, limit),
        )
        return [(row[0], row[1], row[2]) for row in found]

    def seqs(self, state: str, queue: str, limit: int) -> list[int]:
        """Numbers of tasks of a queue in a state, oldest first."""
        found = self._connection.execute(
            "SELECT seq FROM tasks INDEXED BY tasks_state WHERE queue = ? AND state = ? ORDER BY seq LIMIT ?",
            (queue, state, limit),
        )
        return [row[0] for row in found]

    # Definitions -----------------------------------------------------------------

    def definitions(self, kind: str) -> list[Definition]:
        """Stored definitions of a kind (`worker`, `pool`, `queue`) by name."""
        found = self._connection.execute(
            "SELECT kind, name, json, digest, at_ms FROM definitions WHERE kind = ? ORDER BY name", (kind,)
        )
        return [Definition(row[0], row[1], row[2].encode(), row[3], row[4]) for row in found]


_LOWEST = -(2**63)
_CLASS = (
    "SELECT queue, tenant, criteria, wanted, capabilities FROM tasks INDEXED BY tasks_ready WHERE state = 'pending' {where}"
    " ORDER BY queue, tenant, criteria LIMIT 1"
)


def _due(task: WaitingTask) -> int:
    return task.due_ms or 0


def _joined(
    page: list[WaitingTask], unwritten: list[WaitingTask], key: Callable[[WaitingTask], tuple[int, int]], limit: int
) -> list[WaitingTask]:
    """A page with the unwritten tasks that belong into it; one may have been written while the page was read."""
    if not unwritten:
        return page
    merged = {task.seq: task for task in (*unwritten, *page)}
    return sorted(merged.values(), key=key)[:limit]
