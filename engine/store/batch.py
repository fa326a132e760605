"""One batch of the journal, inside one transaction: fences are tested, effects gathered, and written in as few statements as possible.

The journal is the only writer, so what a fence needs to know of a row can be read (or remembered) before anything of the entry is
written: an entry that is fenced off leaves no trace and needs no savepoint. The fence stands in the SQL too: if a statement changes
fewer rows than expected, the batch is not committed."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.store import ops, words
from engine.store.memory import ENDED, GONE, Known, Memory
from engine.store.ops import ChangedTask, Op, criteria_key
from engine.store.side import HANDLERS, Side
from engine.store.statements import (
    BLOCK,
    CLOSE,
    COUNT_EVENTS,
    COUNT_RECORDS,
    COUNT_TASKS,
    DUE,
    END,
    END_DETAILED,
    INSERT_DEPENDENCY,
    INSERT_EVENT,
    INSERT_PAYLOAD,
    INSERT_RECORD,
    INSERT_RECORD_DETAILED,
    INSERT_TASK,
    INSERT_TASK_MORE,
    MOVE,
    ORDERED,
    PRIORITIZE,
    PUT_RESULT,
    RELEASE,
    RETRY,
    REVIVE,
    START,
    START_ADAPTED,
    UPDATES,
    Row,
    Statement,
)

REASON_LENGTH = 200
SUMMARY_LENGTH = 256
_STAGE = {statement: stage for stage, group in enumerate(ORDERED) for statement in group}
_WAITING = frozenset({"pending", "scheduled", "retrying"})
_REVIVABLE = frozenset({"failed", "cancelled"})


class Fenced(Exception):
    """An operation did not find what it expected. Never leaves this module."""


class _Code(msgspec.Struct):
    code: str = ""


_code_of = msgspec.json.Decoder(_Code).decode
_encode = msgspec.json.Encoder().encode


class Batch:
    """Gathers entries, then writes them. `add` per entry, then `write`; what it did is in `changed`, `events`, `counts` (of tasks by
    queue and state), `records` (new ones by state) and `side`."""

    def __init__(self, connection: sqlite3.Connection, memory: Memory, epoch: int, event_seq: int) -> None:
        self._connection = connection
        self._memory = memory
        self._epoch = epoch
        self.event_seq = event_seq
        self.tasks: dict[int, Known] = {}
        self.changed: list[ChangedTask] = []
        self.events: list[Row] = []
        self.fenced = 0
        self._waves: list[dict[Statement, list[Row]]] = [{}]
        self._stages: dict[int, int] = {}
        self.side = Side(connection)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.records: Counter[str] = Counter()
        self._results: list[Row] = []
        self._payloads: list[tuple[int, str]] = []
        self._dependencies: list[Row] = []
        self._others: list[Op] = []
        self._late: list[int] = []
        self._undo: list[tuple[int, Known | None]] = []
        self._effects: list[tuple[int, Statement, Row]] = []

    # One entry ---------------------------------------------------------------

    def add(self, entry: Sequence[Op]) -> bool:
        """Take an entry in; False if it was fenced off, and then nothing of it is in the batch."""
        gathered = (
            self.changed,
            self.events,
            self._results,
            self._payloads,
            self._dependencies,
            self._others,
            self._late,
        )
        marks = [(kept, len(kept)) for kept in gathered]
        self._undo.clear()
        self._effects.clear()
        event_seq = self.event_seq
        try:
            for op in entry:
                _HANDLERS[type(op)](self, op)
        except BaseException as error:
            for kept, length in marks:
                del kept[length:]
            for seq, known in reversed(self._undo):
                if known is None:
                    self.tasks.pop(seq, None)
                else:
                    self.tasks[seq] = known
            self.event_seq = event_seq
            if not isinstance(error, Fenced):
                raise
            self.fenced += 1
            return False
        for seq, statement, row in self._effects:
            self._place(seq, statement, row)
        return True

    def _place(self, seq: int, statement: Statement, row: Row) -> None:
        """Rows of one statement are written together; a task whose next step would be overtaken by that begins a new wave."""
        stage = _STAGE[statement]
        if self._stages.get(seq, -1) > stage or (statement in UPDATES and self._stages.get(seq, -1) == stage):
            self._waves.append({})
            self._stages.clear()
        self._stages[seq] = stage
        self._waves[-1].setdefault(statement, []).append(row)

    def _find(self, seq: int) -> Known:
        known = self.tasks.get(seq) or self._memory.get(seq)
        if known is None:
            row = self._connection.execute(
                "SELECT queue, state, epoch, attempt FROM tasks WHERE seq = ?", (seq,)
            ).fetchone()
            if row is None:
                raise Fenced
            known = Known(*row)
        return known

    def _running(self, seq: int, attempt: int) -> Known:
        known = self._find(seq)
        if known.state != "processing" or known.epoch != self._epoch or known.attempt != attempt:
            raise Fenced
        return known

    def _waiting(self, seq: int) -> Known:
        known = self._find(seq)
        if known.state not in _WAITING:
            raise Fenced
        return known

    def _set(self, seq: int, before: str | None, known: Known, came_from: str | None = None) -> None:
        self._undo.append((seq, self.tasks.get(seq)))
        self.tasks[seq] = known
        self.changed.append(ChangedTask(seq, known.queue, before, known.state, came_from))

    def _move(self, seq: int, known: Known, state: str) -> None:
        self._set(seq, known.state, Known(known.queue, state, known.epoch, known.attempt))

    # One operation -----------------------------------------------------------

    def _insert(self, op: ops.InsertTask) -> None:
        state = op.state.value
        if state not in _WAITING:
            raise AiwmError(Code.internal, f"a new task cannot be {state}", field="state")
        self._set(op.seq, None, Known(op.queue, state, 0, 0))
        capabilities = _encode(op.capabilities).decode() if op.capabilities else "[]"
        row: Row = (
            op.seq, op.queue, state, op.priority, op.rank, op.tenant, criteria_key(op.definition, op.capabilities),
            op.definition, capabilities, op.by, op.batch, op.idempotency_key, op.durability.value, op.on_crash,
            op.max_attempts, op.submitted_ms, op.due_ms, op.deadline_ms, op.definition,
        )  # fmt: skip
        if op.more:
            more = (
                op.blocked,
                op.adapter,
                op.template,
                op.supervisor,
                _text(op.sources),
                _text(op.metadata),
                op.parent,
            )
            self._effects.append((op.seq, INSERT_TASK_MORE, (*row, *more)))
        else:
            self._effects.append((op.seq, INSERT_TASK, row))
        self._dependencies += [(op.seq, seq) for seq in op.after]
        if op.seq <= self._memory.indexed:
            self._late.append(op.seq)
        self._effects.append((op.seq, INSERT_PAYLOAD, (op.seq, op.payload.decode())))

    def _start(self, op: ops.StartTask) -> None:
        known = self._waiting(op.seq)
        if op.attempt <= known.attempt:
            raise Fenced
        self._set(op.seq, known.state, Known(known.queue, "processing", self._epoch, op.attempt))
        row = (op.seq, op.attempt, self._epoch, op.instance, op.pool, op.definition, op.at_ms)
        if op.adapter is None:
            self._effects.append((op.seq, START, row))
        else:
            self._effects.append((op.seq, START_ADAPTED, (*row, op.adapter)))

    def _end(self, op: ops.EndTask) -> None:
        known = self._running(op.seq, op.attempt)
        state = op.state.value
        if not op.state.ended:
            raise AiwmError(Code.internal, f"a task cannot end as {state}", field="state")
        self._move(op.seq, known, state)
        code, reason = _error_code(op.error), op.reason[:REASON_LENGTH]
        row: Row = (op.seq, op.attempt, self._epoch, state, op.at_ms, code, reason)
        if op.tokens_in is None and op.tokens_out is None and not op.detailed:
            self._effects.append((op.seq, END, row))
            self._effects.append((op.seq, INSERT_RECORD, (op.seq,)))
        else:
            used = (op.tokens_in, op.tokens_out, op.cost_usd, op.adapter, op.fail)
            said = (
                op.summary[:SUMMARY_LENGTH] or None,
                op.model,
                op.finish_reason,
                op.calls,
                op.input_chars,
                op.reflection,
            )
            self._effects.append((op.seq, END_DETAILED, (*row, *used)))
            self._effects.append((op.seq, INSERT_RECORD_DETAILED, (op.seq, *said)))
        self._outcome(op, op.result)

    def _retry(self, op: ops.RetryTask) -> None:
        known = self._running(op.seq, op.attempt)
        self._move(op.seq, known, "retrying")
        row = (
            op.seq, op.attempt, self._epoch, op.due_ms, op.at_ms, _error_code(op.error), op.reason[:REASON_LENGTH],
            op.tokens_in, op.tokens_out, op.cost_usd, op.fail,
        )  # fmt: skip
        self._effects.append((op.seq, RETRY, row))
        self._outcome(op, None)

    def _outcome(self, op: ops.EndTask | ops.RetryTask, result: bytes | None) -> None:
        # An attempt without a body still takes the place of an earlier attempt's.
        if result is not None or op.error is not None or op.prompt is not None or op.attempt > 1:
            self._results.append((op.seq, _text(result), _text(op.error), op.prompt))

    def _release(self, op: ops.ReleaseTask) -> None:
        self._move(op.seq, self._running(op.seq, op.attempt), "pending")
        self._effects.append(
            (op.seq, RELEASE, (op.seq, op.attempt, self._epoch, op.crashed, op.reason[:REASON_LENGTH]))
        )

    def _due(self, op: ops.DueTask) -> None:
        known = self._waiting(op.seq)
        if known.state == "pending":
            raise Fenced
        self._move(op.seq, known, "pending")
        self._effects.append((op.seq, DUE, (op.seq,)))

    def _cancel(self, op: ops.CancelTask) -> None:
        self._move(op.seq, self._waiting(op.seq), "cancelled")
        row = (op.seq, "cancelled", op.at_ms, str(Code.task_cancelled), op.reason[:REASON_LENGTH], None)
        self._effects.append((op.seq, CLOSE, row))

    def _expire(self, op: ops.ExpireTask) -> None:
        self._move(op.seq, self._waiting(op.seq), "failed")
        row = (op.seq, "failed", op.at_ms, _error_code(op.error), op.reason[:REASON_LENGTH], op.fail)
        self._effects.append((op.seq, CLOSE, row))
        self._results.append((op.seq, None, _text(op.error), None))

    def _revive(self, op: ops.ReviveTask) -> None:
        known = self._find(op.seq)
        if known.state not in _REVIVABLE:
            raise Fenced
        self._move(op.seq, known, "pending")
        self._effects.append((op.seq, REVIVE, (op.seq, op.rank, op.attempts, op.blocked, op.priority, op.adapter)))
        if op.payload is not None:
            self._payloads.append((op.seq, op.payload.decode()))

    def _block(self, op: ops.SetBlocked) -> None:
        known = self._waiting(op.seq)
        self._move(op.seq, known, known.state)
        self._effects.append((op.seq, BLOCK, (op.seq, op.blocked)))

    def _change_queue(self, op: ops.MoveTask) -> None:
        known = self._waiting(op.seq)
        moved = Known(op.queue, known.state, known.epoch, known.attempt)
        self._set(op.seq, known.state, moved, known.queue)
        self._effects.append((op.seq, MOVE, (op.seq, op.queue, op.rank)))

    def _prioritize(self, op: ops.SetPriority) -> None:
        known = self._waiting(op.seq)
        self._move(op.seq, known, known.state)
        self._effects.append((op.seq, PRIORITIZE, (op.seq, op.priority, op.rank)))

    def _event(self, op: ops.AppendEvent) -> None:
        self.event_seq += 1
        self.events.append(
            (self.event_seq, op.at_ms, op.level, op.type, op.who, op.about, op.text, op.task_seq, op.correlation,
             op.causation)
        )  # fmt: skip

    def _side(self, op: Op) -> None:
        self._others.append(op)

    def _delete(self, op: ops.DeleteTasks) -> None:
        seqs: list[int] = []
        for seq in op.seqs:
            try:
                known = self._find(seq)
            except Fenced:
                continue
            if known.state in ENDED:
                self._undo.append((seq, self.tasks.get(seq)))
                self.tasks[seq] = Known(known.queue, GONE, known.epoch, known.attempt)
                self.changed.append(ChangedTask(seq, known.queue, known.state, None))
                seqs.append(seq)
        self._others.append(ops.DeleteTasks(tuple(seqs)))

    # All of them -------------------------------------------------------------

    def write(self) -> None:
        """Run the statements. Raises sqlite3.Error; the transaction is the caller's."""
        connection = self._connection
        for wave in self._waves:
            for group in ORDERED:
                for statement in group:
                    rows = wave.get(statement)
                    if rows and statement.run(connection, rows) != len(rows):
                        raise sqlite3.IntegrityError("a fenced statement changed fewer rows than it should")
        for table, rows in (
            (PUT_RESULT, self._results),
            (INSERT_DEPENDENCY, self._dependencies),
            (INSERT_EVENT, self.events),
        ):
            if rows:
                table.run(connection, rows)
        if self._payloads:
            words.put_payloads(connection, self._payloads)
        self.counts, self.records = count_tasks(self.changed), count_records(self.changed)
        if self.counts:
            COUNT_TASKS.run(connection, [(*key, n) for key, n in self.counts.items() if n])
        if self.records:
            COUNT_RECORDS.run(connection, list(self.records.items()))
        if self.events:
            COUNT_EVENTS.run(connection, list(Counter(row[2] for row in self.events).items()))
        for seq in self._late:
            words.add(connection, seq)
        self.side.write(self._others)


def count_tasks(changed: Sequence[ChangedTask]) -> Counter[tuple[str, str]]:
    """By how much each counter (queue, state) changes."""
    deltas: Counter[tuple[str, str]] = Counter()
    for change in changed:
        if change.before is not None:
            deltas[change.came_from or change.queue, change.before] -= 1
        if change.after is not None:
            deltas[change.queue, change.after] += 1
    return deltas


def count_records(changed: Sequence[ChangedTask]) -> Counter[str]:
    """New performance records by state: a running task that ends leaves one."""
    found: Counter[str] = Counter()
    for change in changed:
        if change.before == "processing" and change.after in ENDED:
            found[change.after] += 1
    return found


def _error_code(error: bytes | None) -> str | None:
    return _code_of(error).code or None if error is not None else None


def _text(json: bytes | None) -> str | None:
    return None if json is None else json.decode()


_HANDLERS: dict[type[Op], Callable[[Batch, Any], None]] = {
    ops.InsertTask: Batch._insert,
    ops.StartTask: Batch._start,
    ops.EndTask: Batch._end,
    ops.RetryTask: Batch._retry,
    ops.ReleaseTask: Batch._release,
    ops.DueTask: Batch._due,
    ops.CancelTask: Batch._cancel,
    ops.ExpireTask: Batch._expire,
    ops.ReviveTask: Batch._revive,
    ops.AppendEvent: Batch._event,
    ops.SetBlocked: Batch._block,
    ops.MoveTask: Batch._change_queue,
    ops.SetPriority: Batch._prioritize,
}
_HANDLERS |= dict.fromkeys(HANDLERS, Batch._side)
_HANDLERS[ops.DeleteTasks] = Batch._delete
