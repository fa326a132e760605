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

INSERT_TASK = Statement(
    'INSERT INTO tasks (seq, queue, state, priority, rank, tenant, criteria, wanted, capabilities, "by", batch, idempotency_key,'
    " durability, on_crash, max_attempts, submitted_ms, due_ms, deadline_ms, definition)",
    19,
)
INSERT_PAYLOAD = Statement("INSERT INTO payloads (seq, payload)", 2)
START = _update(
    "state = 'processing', attempt = new.attempt, epoch = new.epoch, instance = new.instance, pool = new.pool,"
    " definition = new.definition, started_ms = new.at, reason = '', error = NULL",
    "seq, attempt, epoch, instance, pool, definition, at",
    f"{_WAITS} AND tasks.attempt < new.attempt",
)
END = _update(
    "state = new.state, ended_ms = new.at, error = new.error, reason = new.reason, tokens_in = new.tokens_in,"
    " tokens_out = new.tokens_out",
    "seq, attempt, epoch, state, at, error, reason, tokens_in, tokens_out",
    _RUNS,
)
RETRY = _update(
    "state = 'retrying', due_ms = new.due, error = new.error, reason = new.reason, instance = NULL",
    "seq, attempt, epoch, due, error, reason",
    _RUNS,
)
RELEASE = _update(
    "state = 'pending', max_attempts = max_attempts + 1, crashes = crashes + new.crashed, reason = new.reason,"
    " instance = NULL, started_ms = NULL",
    "seq, attempt, epoch, crashed, reason",
    _RUNS,
)
DUE = _update("state = 'pending'", "seq", "tasks.state IN ('scheduled', 'retrying')")
CLOSE = _update(
    "state = new.state, ended_ms = new.at, error = new.error, reason = new.reason",
    "seq, state, at, error, reason",
    _WAITS,
)
REVIVE = _update(
    "state = 'pending', rank = new.rank, max_attempts = tasks.attempt + new.attempts, crashes = 0, due_ms = NULL,"
    " started_ms = NULL, ended_ms = NULL, instance = NULL, error = NULL, reason = '', tokens_in = NULL, tokens_out = NULL",
    "seq, rank, attempts",
    "tasks.state IN ('failed', 'cancelled')",
)
PUT_RESULT = Statement("INSERT OR REPLACE INTO results (seq, result, error)", 3)
INSERT_RECORD = Statement(
    "INSERT INTO records (task, attempt, definition, instance, started_ms, ended_ms, success, tokens_in, tokens_out, error)",
    10,
)
INSERT_EVENT = Statement(
    "INSERT INTO events (seq, at_ms, level, type, who, about, text, task, correlation, causation)", 10
)
COUNT_TASKS = Statement("INSERT INTO counters (queue, state, n)", 3, "ON CONFLICT DO UPDATE SET n = n + excluded.n")
COUNT_EVENTS = Statement("INSERT INTO event_counters (level, n)", 2, "ON CONFLICT DO UPDATE SET n = n + excluded.n")
PUT_DEFINITION = Statement("INSERT OR REPLACE INTO definitions (kind, name, json, digest, at_ms)", 5)
DELETE_DEFINITION = "DELETE FROM definitions WHERE kind = ? AND name = ?"

ORDERED: tuple[tuple[Statement, ...], ...] = (
    (INSERT_TASK, INSERT_PAYLOAD),
    (DUE,),
    (START,),
    (END, RETRY, RELEASE, CLOSE),
    (REVIVE,),
)
"""Statements that change tasks, in the order in which one task passes them: the stages of a wave."""
UPDATES = frozenset({DUE, START, END, RETRY, RELEASE, CLOSE, REVIVE})
