"""Rows of the database as the structs that other rooms see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from engine.contract.ids import task_id
from engine.contract.records import EventRow, RecordRow, TaskRow
from engine.store.ops import InsertTask, criteria_key

TASK_ROW_COLUMNS = (
    'seq, queue, state, priority, attempt, max_attempts, "by", submitted_ms, due_ms, started_ms, ended_ms, definition, pool,'
    " instance, batch, tenant, tokens_in, tokens_out, error, reason, template, adapter, cost_usd, fail, blocked"
)
RECORD_COLUMNS = (
    'seq, task, state, ended_ms, started_ms, duration_ms, spent_ms, attempt, queue, pool, definition, instance, "by", template, batch,'
    " model, adapter, tokens_in, tokens_out, cost_usd, calls, input_chars, finish_reason, error, fail, rating, comments, summary,"
    " reflection"
)
EVENT_COLUMNS = "seq, at_ms, level, type, who, about, text, task, correlation, causation"
WAITING_COLUMNS = (
    "seq, queue, tenant, criteria, wanted, capabilities, state, rank, due_ms, deadline_ms, attempt, max_attempts, on_crash,"
    " durability, crashes, submitted_ms, adapter"
)
STORED_COLUMNS = (
    'seq, queue, state, priority, rank, tenant, criteria, wanted, capabilities, "by", batch, idempotency_key, durability, on_crash,'
    " attempt, max_attempts, epoch, crashes, submitted_ms, due_ms, deadline_ms, started_ms, ended_ms, definition, pool, instance,"
    " tokens_in, tokens_out, error, reason, template, adapter, cost_usd, fail, blocked, supervisor, sources, metadata, parent"
)
_SOURCES = STORED_COLUMNS.split(", ").index("sources")


class WaitingTask(msgspec.Struct, frozen=True, gc=False):
    """What the scheduler needs of a waiting task. `definition` is the one asked for, if any, `adapter` the names of the adapters asked
    for; `attempt` the last one begun."""

    seq: int
    queue: str
    tenant: str
    criteria: str
    definition: str | None
    capabilities: tuple[str, ...]
    state: str
    rank: int
    due_ms: int | None
    deadline_ms: int | None
    attempt: int
    max_attempts: int
    on_crash: str
    durability: str
    crashes: int
    submitted_ms: int
    adapter: str | None = None


class StoredTask(msgspec.Struct, frozen=True, gc=False):
    """A task's whole row. `wanted` is the definition asked for at submit, `definition` the one that ran (or the same); `blocked` counts
    the tasks that it waits for, `metadata` is JSON, `parent` the task that submitted it."""

    seq: int
    queue: str
    state: str
    priority: int
    rank: int
    tenant: str
    criteria: str
    wanted: str | None
    capabilities: tuple[str, ...]
    by: str
    batch: str | None
    idempotency_key: str | None
    durability: str
    on_crash: str
    attempt: int
    max_attempts: int
    epoch: int
    crashes: int
    submitted_ms: int
    due_ms: int | None
    deadline_ms: int | None
    started_ms: int | None
    ended_ms: int | None
    definition: str | None
    pool: str | None
    instance: str | None
    tokens_in: int | None
    tokens_out: int | None
    error: str | None
    reason: str
    template: str | None
    adapter: str | None
    cost_usd: float | None
    fail: str | None
    blocked: int
    supervisor: str | None
    sources: tuple[str, ...]
    metadata: bytes | None
    parent: int | None

    @property
    def row(self) -> TaskRow:
        """The task as a line of the tasks table."""
        return TaskRow(
            id=task_id(self.seq),
            queue=self.queue,
            state=self.state,
            priority=self.priority,
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            by=self.by,
            submitted_ms=self.submitted_ms,
            due_ms=self.due_ms,
            started_ms=self.started_ms,
            ended_ms=self.ended_ms,
            definition=self.definition,
            pool=self.pool,
            instance=self.instance,
            batch=self.batch,
            tenant=self.tenant,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            template=self.template,
            adapter=self.adapter,
            cost_usd=self.cost_usd,
            fail=self.fail,
            after=self.blocked,
            error=self.error,
            reason=self.reason,
        )


class Definition(msgspec.Struct, frozen=True):
    """A stored definition, its JSON as written."""

    kind: str
    name: str
    json: bytes
    digest: str
    at_ms: int


class Document(msgspec.Struct, frozen=True):
    """A small thing of some kind, by key; `ref` says what it is about, `at_ms` is its time."""

    kind: str
    key: str
    ref: str
    at_ms: int
    json: bytes


class TaskClass(msgspec.Struct, frozen=True):
    """Pending tasks of one queue and tenant that ask for the same worker."""

    queue: str
    tenant: str
    criteria: str
    definition: str | None
    capabilities: tuple[str, ...]


def document(row: Sequence[Any]) -> Document:
    return Document(row[0], row[1], row[2], row[3], row[4].encode())


_decode_names = msgspec.json.Decoder(tuple[str, ...]).decode


def names(text: str) -> tuple[str, ...]:
    return () if text == "[]" else _decode_names(text)


def waiting_task(row: Sequence[Any]) -> WaitingTask:
    values = [*row]
    values[5] = names(values[5])
    return WaitingTask(*values)


def waiting_insert(op: InsertTask) -> WaitingTask:
    """A task as its row will be."""
    return WaitingTask(
        seq=op.seq,
        queue=op.queue,
        tenant=op.tenant,
        criteria=criteria_key(op.definition, op.capabilities),
        definition=op.definition,
        capabilities=op.capabilities,
        state=op.state.value,
        rank=op.rank,
        due_ms=op.due_ms,
        deadline_ms=op.deadline_ms,
        attempt=0,
        max_attempts=op.max_attempts,
        on_crash=op.on_crash,
        durability=op.durability.value,
        crashes=0,
        submitted_ms=op.submitted_ms,
        adapter=op.adapter,
    )


def unwritten_task(op: InsertTask) -> StoredTask:
    """A task as its row will be, whole."""
    return StoredTask(
        seq=op.seq,
        queue=op.queue,
        state=op.state.value,
        priority=op.priority,
        rank=op.rank,
        tenant=op.tenant,
        criteria=criteria_key(op.definition, op.capabilities),
        wanted=op.definition,
        capabilities=op.capabilities,
        by=op.by,
        batch=op.batch,
        idempotency_key=op.idempotency_key,
        durability=op.durability.value,
        on_crash=op.on_crash,
        attempt=0,
        max_attempts=op.max_attempts,
        epoch=0,
        crashes=0,
        submitted_ms=op.submitted_ms,
        due_ms=op.due_ms,
        deadline_ms=op.deadline_ms,
        started_ms=None,
        ended_ms=None,
        definition=op.definition,
        pool=None,
        instance=None,
        tokens_in=None,
        tokens_out=None,
        error=None,
        reason="",
        template=op.template,
        adapter=op.adapter,
        cost_usd=None,
        fail=None,
        blocked=op.blocked,
        supervisor=op.supervisor,
        sources=names((op.sources or b"[]").decode()),
        metadata=op.metadata,
        parent=op.parent,
    )


def stored_task(row: Sequence[Any]) -> StoredTask:
    values = [*row]
    values[8] = names(values[8])
    values[_SOURCES] = names(values[_SOURCES] or "[]")
    if values[_SOURCES + 1] is not None:
        values[_SOURCES + 1] = values[_SOURCES + 1].encode()
    return StoredTask(*values)


def task_row(row: Sequence[Any]) -> TaskRow:
    """A TaskRow from TASK_ROW_COLUMNS."""
    return TaskRow(
        id=task_id(row[0]),
        queue=row[1],
        state=row[2],
        priority=row[3],
        attempt=row[4],
        max_attempts=row[5],
        by=row[6],
        submitted_ms=row[7],
        due_ms=row[8],
        started_ms=row[9],
        ended_ms=row[10],
        definition=row[11],
        pool=row[12],
        instance=row[13],
        batch=row[14],
        tenant=row[15],
        tokens_in=row[16],
        tokens_out=row[17],
        error=row[18],
        reason=row[19],
        template=row[20],
        adapter=row[21],
        cost_usd=row[22],
        fail=row[23],
        after=row[24],
    )


def record_row(row: Sequence[Any]) -> RecordRow:
    """A RecordRow from RECORD_COLUMNS."""
    return RecordRow(
        id=str(row[0]),
        task=task_id(row[1]),
        state=row[2],
        success=row[2] == "completed",
        ended_ms=row[3],
        started_ms=row[4],
        duration_ms=row[5],
        spent_ms=row[6],
        attempt=row[7],
        queue=row[8],
        pool=row[9],
        definition=row[10],
        instance=row[11],
        by=row[12],
        template=row[13],
        batch=row[14],
        model=row[15],
        adapter=row[16],
        tokens_in=row[17],
        tokens_out=row[18],
        cost_usd=row[19],
        calls=row[20],
        input_chars=row[21],
        finish_reason=row[22],
        error=row[23],
        fail=row[24],
        rating=row[25],
        comments=row[26],
        summary=row[27],
        reflection=row[28],
    )


def event_row(row: Sequence[Any]) -> EventRow:
    """An EventRow from EVENT_COLUMNS."""
    return EventRow(
        id=str(row[0]),
        at_ms=row[1],
        level=row[2],
        type=row[3],
        who=row[4],
        about=row[5],
        text=row[6],
        task=None if row[7] is None else task_id(row[7]),
        correlation=row[8],
        causation=row[9],
    )
