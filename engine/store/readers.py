"""Point reads, synchronous, inside the event loop: a row by its number costs 4 µs, a hop to a thread 100. All use an index and a limit.

Windows for views are `window`'s: they may take longer and have a connection and a thread of their own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.contract.records import EventRow, RecordRow, TaskRow
from engine.contract.states import TaskState
from engine.store import rows, schema, words
from engine.store.journal import Journal
from engine.store.rows import Definition, Document, StoredTask, TaskClass, WaitingTask, waiting_insert

FAILURES_LOOKED_AT = 10_000
"""So many failed tasks are read at most where they are told apart by what they failed of."""
_FAILURE = "seq, coalesce(fail, ''), coalesce(error, 'failed'), ended_ms"


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

    def prompt(self, seq: int) -> str | None:
        """What the model read in the last call of the task's last ended attempt; None where that was not kept."""
        row = self._row("SELECT prompt FROM results WHERE seq = ?", seq)
        return None if row is None else row[0]

    def events_of(self, seq: int, limit: int = 500) -> list[EventRow]:
        """The task's last `limit` events, oldest first."""
        found = self._connection.execute(
            f"SELECT {rows.EVENT_COLUMNS} FROM events WHERE task = ? ORDER BY seq DESC LIMIT ?", (seq, limit)
        ).fetchall()
        return [rows.event_row(row) for row in reversed(found)]

    def by_idempotency_key(self, queue: str, key: str) -> int | None:
        row = self._row("SELECT seq FROM tasks WHERE queue = ? AND idempotency_key = ?", queue, key)
        return None if row is None else row[0]

    def record_of(self, seq: int) -> RecordRow | None:
        """The performance record of the task's last end; None when it never ran, runs for the first time, or was pruned."""
        row = self._row(f"SELECT {rows.RECORD_COLUMNS} FROM records WHERE task = ? ORDER BY seq DESC LIMIT 1", seq)
        return None if row is None else rows.record_row(row)

    # What belongs together -------------------------------------------------------

    def after(self, seq: int) -> list[int]:
        """The tasks that a task was told to wait for, ended ones included."""
        found = self._connection.execute("SELECT after FROM dependencies WHERE task = ? ORDER BY after", (seq,))
        return [row[0] for row in found]

    def unmet(self, seq: int) -> list[tuple[int, str]]:
        """Those of them that have not completed, with their states. One that exists no more has, or nothing would have waited for it."""
        states = [(it, self._state(it)) for it in self.after(seq)]
        return [(it, state) for it, state in states if state is not None and state != "completed"]

    def _state(self, seq: int) -> str | None:
        row = self._row("SELECT state FROM tasks WHERE seq = ?", seq)
        if row is not None:
            return str(row[0])
        unwritten = self._journal.unwritten(seq)
        return None if unwritten is None else unwritten.state.value

    def dependents(self, seq: int) -> list[int]:
        """The tasks that were told to wait for this one."""
        found = self._connection.execute("SELECT task FROM dependencies WHERE after = ? ORDER BY task", (seq,))
        return [row[0] for row in found]

    def blocked_tasks(self, limit: int, after: int = 0) -> list[int]:
        """Waiting tasks that wait for others, those with numbers above `after`."""
        found = self._connection.execute(
            "SELECT seq FROM tasks INDEXED BY tasks_blocked WHERE blocked > 0 AND seq > ? AND ended_ms IS NULL ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [row[0] for row in found]

    def blocked_counts(self) -> dict[str, int]:
        """How many tasks of each queue wait for others."""
        found = self._connection.execute(
            "SELECT queue, count(*) FROM tasks INDEXED BY tasks_blocked WHERE blocked > 0 AND ended_ms IS NULL GROUP BY queue"
        )
        return dict(found.fetchall())

    def children(self, seq: int, limit: int = 1000) -> list[int]:
        """The tasks that were submitted on behalf of a task."""
        found = self._connection.execute("SELECT seq FROM tasks WHERE parent = ? ORDER BY seq LIMIT ?", (seq, limit))
        return [row[0] for row in found]

    def batches(self) -> dict[str, dict[str, int]]:
        """How many tasks each batch has in each state."""
        found: dict[str, dict[str, int]] = {}
        for batch, state, count in self._connection.execute(
            "SELECT batch, state, count(*) FROM tasks INDEXED BY tasks_batch WHERE batch IS NOT NULL GROUP BY batch, state"
        ):
            found.setdefault(batch, {})[state] = count
        return found

    def batch(self, name: str) -> dict[str, int]:
        """How many tasks a batch has in each state; empty when there is no such batch."""
        found = self._connection.execute(
            "SELECT state, count(*) FROM tasks INDEXED BY tasks_batch WHERE batch = ? GROUP BY state", (name,)
        )
        return dict(found.fetchall())

    def batch_tasks(self, name: str, limit: int, after: int = 0) -> list[int]:
        """Numbers of a batch's tasks in the order of their submission, those above `after`."""
        each = "SELECT seq FROM tasks INDEXED BY tasks_batch WHERE batch = ?1 AND state = '{}' AND seq > ?2"
        merged = " UNION ALL ".join(each.format(state.value) for state in TaskState)
        found = self._connection.execute(f"{merged} ORDER BY seq LIMIT ?3", (name, after, limit))
        return [row[0] for row in found]

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
            f"SELECT {rows.WAITING_COLUMNS} FROM tasks INDEXED BY tasks_ready WHERE state = 'pending' AND blocked = 0"
            " AND queue = ? AND tenant = ? AND criteria = ? AND (rank, seq) > (?, ?) ORDER BY rank, seq LIMIT ?",
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
        """Tasks of `memory` queues that were acknowledged and are not written yet: whoever asks may have heard of them already. Blocked
        ones wait for others first."""
        return [waiting_insert(op) for op in self._journal.all_unwritten() if op.state == state and not op.blocked]

    def due_before(self, ms: int, limit: int, after: tuple[int, int] | None = None) -> list[WaitingTask]:
        """Scheduled and retrying tasks due at or before `ms`, by (due_ms, seq), those after a given one."""
        low = (_LOWEST, 0) if after is None else after
        found = self._connection.execute(
            f"SELECT {rows.WAITING_COLUMNS} FROM tasks INDEXED BY tasks_due WHERE state IN ('scheduled', 'retrying')"
            " AND blocked = 0 AND due_ms <= ? AND (due_ms, seq) > (?, ?) ORDER BY due_ms, seq LIMIT ?",
            (ms, *low, limit),
        )
        page = [rows.waiting_task(row) for row in found]
        unwritten = [task for task in self._unwritten("scheduled") if _due(task) <= ms and (_due(task), task.seq) > low]
        return _joined(page, unwritten, lambda task: (_due(task), task.seq), limit)

    def next_due(self, after_ms: int | None = None) -> int | None:
        """The earliest due time (Unix ms) among scheduled and retrying tasks, later than `after_ms` if given."""
        row = self._row(
            "SELECT min(due_ms) FROM tasks INDEXED BY tasks_due WHERE state IN ('scheduled', 'retrying')"
            " AND blocked = 0 AND due_ms > ?",
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

    def failures_since(self, ms: int) -> list[tuple[int, str, str, int]]:
        """Tasks that failed at or after `ms` and are failed still, the latest first: (number, fingerprint or "", error, when it ended).

        The last `FAILURES_LOOKED_AT` only."""
        return self._connection.execute(
            f"SELECT {_FAILURE} FROM tasks INDEXED BY tasks_failed WHERE state = 'failed' AND ended_ms >= ?"
            " ORDER BY ended_ms DESC LIMIT ?",
            (ms, FAILURES_LOOKED_AT),
        ).fetchall()

    def failure_of(self, seq: int) -> tuple[int, str, str, int] | None:
        """The same of one task; None when it is not there, or not failed."""
        return self._row(f"SELECT {_FAILURE} FROM tasks WHERE seq = ? AND state = 'failed'", seq)

    def seqs(self, state: str, queue: str, limit: int) -> list[int]:
        """Numbers of tasks of a queue in a state, oldest first."""
        found = self._connection.execute(
            "SELECT seq FROM tasks INDEXED BY tasks_state WHERE queue = ? AND state = ? ORDER BY seq LIMIT ?",
            (queue, state, limit),
        )
        return [row[0] for row in found]

    # Small things ----------------------------------------------------------------

    def document(self, kind: str, key: str) -> Document | None:
        row = self._row("SELECT kind, key, ref, at_ms, json FROM documents WHERE kind = ? AND key = ?", kind, key)
        return None if row is None else rows.document(row)

    def documents(
        self,
        kind: str,
        *,
        ref: str | None = None,
        since_ms: int | None = None,
        limit: int = 1000,
        newest_first: bool = True,
    ) -> list[Document]:
        """Documents of a kind by (at_ms, key), of one `ref` or all, at or after `since_ms`; at most `limit`."""
        where = "kind = ?" if ref is None else "kind = ? AND ref = ?"
        down = "DESC" if newest_first else "ASC"
        found = self._connection.execute(
            f"SELECT kind, key, ref, at_ms, json FROM documents WHERE {where} AND at_ms >= ?"
            f" ORDER BY at_ms {down}, key {down} LIMIT ?",
            (kind, *(() if ref is None else (ref,)), _LOWEST if since_ms is None else since_ms, limit),
        )
        return [rows.document(row) for row in found]

    def samples(self, series: str, step_ms: int, since_ms: int) -> list[tuple[int, float]]:
        """Points (at_ms, value) of a series at one step, oldest first."""
        return self._connection.execute(
            "SELECT at_ms, value FROM samples WHERE series = ? AND step_ms = ? AND at_ms >= ? ORDER BY at_ms",
            (series, step_ms, since_ms),
        ).fetchall()

    def sample_at(self, series: str, step_ms: int, from_ms: int, to_ms: int) -> float | None:
        """The first value of a series at one step between two times, both included."""
        row = self._row(
            "SELECT value FROM samples WHERE series = ? AND step_ms = ? AND at_ms BETWEEN ? AND ? ORDER BY at_ms LIMIT 1",
            series, step_ms, from_ms, to_ms,
        )  # fmt: skip
        return None if row is None else float(row[0])

    def sample_before(self, series: str, step_ms: int, before_ms: int) -> tuple[int, float] | None:
        """The last point (at_ms, value) of a series at one step before a time."""
        row = self._row(
            "SELECT at_ms, value FROM samples WHERE series = ? AND step_ms = ? AND at_ms < ? ORDER BY at_ms DESC LIMIT 1",
            series, step_ms, before_ms,
        )  # fmt: skip
        return None if row is None else (int(row[0]), float(row[1]))

    def has_samples_before(self, series: str, step_ms: int, before_ms: int) -> bool:
        """Whether a series has points of this step from before a time."""
        sql = "SELECT 1 FROM samples WHERE series = ? AND step_ms = ? AND at_ms < ? LIMIT 1"
        return self._row(sql, series, step_ms, before_ms) is not None

    def series(self) -> list[str]:
        """The names of all series that have samples, found by hopping through the index."""
        names: list[str] = []
        row = self._row("SELECT min(series) FROM samples")
        while row is not None and row[0] is not None:
            names.append(row[0])
            row = self._row("SELECT min(series) FROM samples WHERE series > ?", row[0])
        return names

    def words_behind(self) -> bool:
        """Whether any payload or result is not in the word index yet."""
        return words.behind(self._connection)

    # Definitions -----------------------------------------------------------------

    def definitions(self, kind: str) -> list[Definition]:
        """Stored definitions of a kind (`worker`, `pool`, `queue`, `template`, `source`) by name."""
        found = self._connection.execute(
            "SELECT kind, name, json, digest, at_ms FROM definitions WHERE kind = ? ORDER BY name", (kind,)
        )
        return [Definition(row[0], row[1], row[2].encode(), row[3], row[4]) for row in found]


_LOWEST = -(2**63)
_CLASS = (
    "SELECT queue, tenant, criteria, wanted, capabilities FROM tasks INDEXED BY tasks_ready WHERE state = 'pending' AND blocked = 0"
    " {where}"
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
