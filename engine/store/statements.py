"""The journal's statements and how operations become their parameters.

A statement is run for many rows at once. The sqlite3 module gives the interpreter lock away and takes it back at every step of a
statement, which is a fight for it per row when the event loop is busy; so rows go in blocks, one step a block."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

Row = tuple[Any, ...]
_BLOCKS = (64, 8, 1)


class Statement:
    """`before VALUES (…),(…) after`, run over any number of rows in blocks of few fixed sizes, so that few texts are prepared."""

    def __init__(self, before: str, width: int, after: str = "") -> None:
        row = "(" + ",".join("?" * width) + ")"
        self._texts = [(size, f"{before} VALUES {','.join([row] * size)} {after}") for size in _BLOCKS]

    def run(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
        """How many rows of the table changed."""
        changed, at, count = 0, 0, len(rows)
        for size, text in self._texts:
            while count - at >= size:
                parameters = rows[at] if size == 1 else [value for row in rows[at : at + size] for value in row]
                changed += connection.execute(text, parameters).rowcount
                at += size
        return changed


def _update(assignments: str, names: str, fence: str) -> Statement:
    columns = [f"column{number} AS {name}" for number, name in enumerate(names.split(", "), 1)]
    return Statement(
        f"UPDATE tasks SET {assignments} FROM (SELECT {', '.join(columns)} FROM (",
        len(columns),
        f")) AS new WHERE tasks.seq = new.seq AND {fence}",
    )


_WAITS = "tasks.state IN ('pending', 'scheduled', 'retrying')"
_RUNS = "tasks.state = 'processing' AND tasks.epoch = new.epoch AND tasks.attempt = new.attempt"

_TASK = (
    'INSERT INTO tasks (seq, queue, state, priority, rank, tenant, criteria, wanted, capabilities, "by", batch, idempotency_key,'
    " durability, on_crash, max_attempts, submitted_ms, due_ms, deadline_ms, definition"
)
INSERT_TASK = Statement(f"{_TASK})", 19)
INSERT_TASK_MORE = Statement(f"{_TASK}, blocked, adapter, template, supervisor, sources, metadata, parent)", 26)
INSERT_PAYLOAD = Statement("INSERT INTO payloads (seq, payload)", 2)
_START = (
    "state = 'processing', attempt = new.attempt, epoch = new.epoch, instance = new.instance, pool = new.pool,"
    " definition = new.definition, started_ms = new.at, reason = '', error = NULL, fail = NULL"
)
_STARTS = f"{_WAITS} AND tasks.attempt < new.attempt"
START = _update(_START, "seq, attempt, epoch, instance, pool, definition, at", _STARTS)
START_ADAPTED = _update(
    f"{_START}, adapter = new.adapter", "seq, attempt, epoch, instance, pool, definition, at, adapter", _STARTS
)


def _sum(column: str) -> str:
    """What a column is with this attempt's share: nothing and nothing is nothing, not 0."""
    return f"{column} = coalesce(tasks.{column} + new.{column}, new.{column}, tasks.{column})"


_END = "state = new.state, ended_ms = new.at, error = new.error, reason = new.reason"
_USED = f"{_sum('tokens_in')}, {_sum('tokens_out')}, {_sum('cost_usd')}"
END = _update(_END, "seq, attempt, epoch, state, at, error, reason", _RUNS)
END_DETAILED = _update(
    f"{_END}, {_USED}, adapter = coalesce(new.adapter, tasks.adapter), fail = new.fail",
    "seq, attempt, epoch, state, at, error, reason, tokens_in, tokens_out, cost_usd, adapter, fail",
    _RUNS,
)
RETRY = _update(
    "state = 'retrying', due_ms = new.due, error = new.error, reason = new.reason, instance = NULL, fail = new.fail,"
    f" spent_ms = coalesce(tasks.spent_ms, 0) + max(0, new.at - tasks.started_ms), {_USED}",
    "seq, attempt, epoch, due, at, error, reason, tokens_in, tokens_out, cost_usd, fail",
    _RUNS,
)
RELEASE = _update(
    "state = 'pending', max_attempts = max_attempts + 1, crashes = crashes + new.crashed, reason = new.reason,"
    " instance = NULL, started_ms = NULL",
    "seq, attempt, epoch, crashed, reason",
    _RUNS,
)
DUE = _update("state = 'pending'", "seq", "tasks.state IN ('scheduled', 'retrying')")
BLOCK = _update("blocked = new.blocked", "seq, blocked", _WAITS)
MOVE = _update("queue = new.queue, rank = new.rank", "seq, queue, rank", _WAITS)
PRIORITIZE = _update("priority = new.priority, rank = new.rank", "seq, priority, rank", _WAITS)
CLOSE = _update(
    "state = new.state, ended_ms = new.at, error = new.error, reason = new.reason, fail = new.fail",
    "seq, state, at, error, reason, fail",
    _WAITS,
)
REVIVE = _update(
    "state = 'pending', rank = new.rank, max_attempts = tasks.attempt + new.attempts, crashes = 0, due_ms = NULL,"
    " started_ms = NULL, ended_ms = NULL, instance = NULL, error = NULL, reason = '', tokens_in = NULL, tokens_out = NULL,"
    " cost_usd = NULL, spent_ms = NULL, fail = NULL, blocked = new.blocked, priority = coalesce(new.priority, tasks.priority),"
    " adapter = coalesce(new.adapter, tasks.adapter)",
    "seq, rank, attempts, blocked, priority, adapter",
    "tasks.state IN ('failed', 'cancelled')",
)
PUT_RESULT = Statement("INSERT OR REPLACE INTO results (seq, result, error, prompt)", 4)
INSERT_DEPENDENCY = Statement("INSERT OR IGNORE INTO dependencies (task, after)", 2)

_RECORDED = (
    'state, ended_ms, started_ms, attempt, queue, pool, definition, instance, "by", spent_ms, tokens_in, tokens_out, cost_usd,'
    " error, fail, batch, template, adapter"
)


def _record(columns: str) -> Statement:
    """A task's performance record, taken from its row, which has just ended, and what only the operation says."""
    names = [name for name in columns.split(", ") if name not in ("seq", "summary")]
    more = "".join(f", {name}" for name in names)
    summary = "coalesce(new.summary, tasks.reason)" if "summary" in columns else "tasks.reason"
    values = "".join(f", new.{name}" for name in names)
    columns = ", ".join(f"column{number} AS {name}" for number, name in enumerate(columns.split(", "), 1))
    return Statement(
        f"INSERT INTO records (task, {_RECORDED}, summary{more})"
        f" SELECT new.seq, {', '.join(f'tasks.{name}' for name in _RECORDED.split(', '))}, {summary}{values}"
        f" FROM (SELECT {columns} FROM (",
        columns.count(" AS "),
        # CROSS: by the new rows, in their order.
        ")) AS new CROSS JOIN tasks ON tasks.seq = new.seq",
    )


INSERT_RECORD = _record("seq")
INSERT_RECORD_DETAILED = _record("seq, summary, model, finish_reason, calls, input_chars, reflection")
INSERT_EVENT = Statement(
    "INSERT INTO events (seq, at_ms, level, type, who, about, text, task, correlation, causation)", 10
)
COUNT_TASKS = Statement("INSERT INTO counters (queue, state, n)", 3, "ON CONFLICT DO UPDATE SET n = n + excluded.n")
COUNT_EVENTS = Statement("INSERT INTO event_counters (level, n)", 2, "ON CONFLICT DO UPDATE SET n = n + excluded.n")
COUNT_RECORDS = Statement("INSERT INTO record_counters (state, n)", 2, "ON CONFLICT DO UPDATE SET n = n + excluded.n")

PUT_SAMPLE = Statement("INSERT OR REPLACE INTO samples (series, step_ms, at_ms, value)", 4)

ORDERED: tuple[tuple[Statement, ...], ...] = (
    (INSERT_TASK, INSERT_TASK_MORE, INSERT_PAYLOAD),
    (DUE, BLOCK, MOVE, PRIORITIZE),
    (START, START_ADAPTED),
    (END, END_DETAILED, RETRY, RELEASE, CLOSE),
    (INSERT_RECORD, INSERT_RECORD_DETAILED),
    (REVIVE,),
)
"""Statements that change tasks, in the order in which one task passes them: the stages of a wave."""
UPDATES = frozenset(
    {DUE, BLOCK, MOVE, PRIORITIZE, START, START_ADAPTED, END, END_DETAILED, RETRY, RELEASE, CLOSE, REVIVE}
)
