"""Random operations in random batches, against a model that does one after the other."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.contract.errors import AiwmError
from engine.contract.states import Durability, TaskState
from engine.store import ops
from engine.store.commit import CommittedBatch
from tests.support.stored import T0, check_file, end, event, insert, open_store, start

WAITING = ("pending", "scheduled", "retrying")
QUEUES = ("a", "b")


@dataclass
class Task:
    queue: str
    state: str
    key: str | None = None
    priority: int = 0
    blocked: int = 0
    tokens: int | None = None
    attempt: int = 0
    epoch: int = 0
    crashes: int = 0
    max_attempts: int = 3


class Model:
    """What the rows must be: one operation at a time, an entry whole or not at all."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.keys: dict[tuple[str, str], int] = {}
        self.epoch = 1
        self.events = 0
        self.records: Counter[str] = Counter()

    def entry(self, entry: tuple[ops.Op, ...]) -> str:
        """done, fenced or conflict; an entry that is both is fenced, for fences are tested before anything is written."""
        saved = {seq: Task(**vars(task)) for seq, task in self.tasks.items()}
        keys, events, records = dict(self.keys), self.events, self.records.copy()
        outcomes = [self._op(op) for op in entry]
        if set(outcomes) == {"done"}:
            return "done"
        self.tasks, self.keys, self.events, self.records = saved, keys, events, records
        return "fenced" if "fenced" in outcomes else "conflict"

    def _op(self, op: ops.Op) -> str:
        if isinstance(op, ops.AppendEvent):
            self.events += 1
            return "done"
        if isinstance(op, ops.InsertTask):
            self.tasks[op.seq] = Task(op.queue, op.state.value, op.idempotency_key, blocked=op.blocked)
            return "done" if self._take_key(op.queue, op.idempotency_key, op.seq) else "conflict"
        assert isinstance(
            op,
            ops.StartTask
            | ops.EndTask
            | ops.RetryTask
            | ops.ReleaseTask
            | ops.CancelTask
            | ops.ReviveTask
            | ops.DueTask
            | ops.SetBlocked
            | ops.SetPriority
            | ops.MoveTask,
        )
        task = self.tasks.get(op.seq)
        if task is None or not self._step(task, op):
            return "fenced"
        if isinstance(op, ops.MoveTask):
            was, task.queue = task.queue, op.queue
            if was != op.queue and not self._take_key(op.queue, task.key, op.seq):
                return "conflict"
            self.keys = {slot: seq for slot, seq in self.keys.items() if slot != (was, task.key) or was == op.queue}
        return "done"

    def _take_key(self, queue: str, key: str | None, seq: int) -> bool:
        return key is None or self.keys.setdefault((queue, key), seq) == seq

    def _step(self, task: Task, op: ops.Op) -> bool:
        if isinstance(op, ops.EndTask | ops.RetryTask | ops.ReleaseTask):
            return self._run_step(task, op)
        if isinstance(op, ops.ReviveTask):
            if task.state not in ("failed", "cancelled"):
                return False
            task.state, task.max_attempts, task.crashes = "pending", task.attempt + op.attempts, 0
            task.blocked, task.tokens = op.blocked, None
            task.priority = task.priority if op.priority is None else op.priority
            return True
        return task.state in WAITING and self._waiting_step(task, op)

    def _run_step(self, task: Task, op: ops.EndTask | ops.RetryTask | ops.ReleaseTask) -> bool:
        if (task.state, task.attempt, task.epoch) != ("processing", op.attempt, self.epoch):
            return False
        if isinstance(op, ops.ReleaseTask):
            task.state = "pending"
            task.max_attempts += 1
            return True
        if op.tokens_in is not None:
            task.tokens = (task.tokens or 0) + op.tokens_in
        task.state = op.state.value if isinstance(op, ops.EndTask) else "retrying"
        self.records[task.state] += isinstance(op, ops.EndTask)
        return True

    def _waiting_step(self, task: Task, op: ops.Op) -> bool:
        if isinstance(op, ops.StartTask):
            if op.attempt <= task.attempt:
                return False
            task.state, task.attempt, task.epoch = "processing", op.attempt, self.epoch
        elif isinstance(op, ops.CancelTask):
            task.state = "cancelled"
        elif isinstance(op, ops.DueTask):
            if task.state == "pending":
                return False
            task.state = "pending"
        elif isinstance(op, ops.SetBlocked):
            task.blocked = op.blocked
        elif isinstance(op, ops.SetPriority):
            task.priority = op.priority
        return True

    def restart(self) -> None:
        self.epoch += 1
        for task in self.tasks.values():
            if task.state == "processing":
                task.crashes += 1
                task.state = "failed" if task.crashes >= 2 else "pending"
                task.max_attempts += task.state == "pending"
                self.records["failed"] += task.state == "failed"
                self.events += 1

    def counts(self) -> dict[tuple[str, str], int]:
        return dict(Counter((task.queue, task.state) for task in self.tasks.values()))


@st.composite
def operations(draw: st.DrawFn) -> tuple[ops.Op, ...]:
    """An entry on few tasks, so that they meet often. An InsertTask's number is given when it is written."""
    seq, attempt = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    match draw(
        st.sampled_from(
            [
                "insert",
                "insert",
                "start",
                "start",
                "end",
                "end",
                "retry",
                "release",
                "cancel",
                "revive",
                "due",
                "block",
                "move",
                "priority",
            ]
        )
    ):
        case "insert":
            key = draw(st.sampled_from([None, None, "k"]))
            state = draw(st.sampled_from([TaskState.pending, TaskState.scheduled]))
            blocked = draw(st.sampled_from([0, 0, 2]))
            queue = draw(st.sampled_from(QUEUES))
            op: ops.Op = insert(0, queue, idempotency_key=key, state=state, due_ms=T0, blocked=blocked)
        case "start":
            op = start(seq, attempt)
        case "end":
            op = end(
                seq,
                attempt,
                draw(st.sampled_from([TaskState.completed, TaskState.failed, TaskState.cancelled])),
                result=b"1",
                tokens_in=draw(st.sampled_from([None, None, 3])),
                fail=draw(st.sampled_from([None, None, "F-1"])),
            )
        case "retry":
            op = ops.RetryTask(
                seq=seq, attempt=attempt, due_ms=T0, at_ms=T0, tokens_in=draw(st.sampled_from([None, 2]))
            )
        case "release":
            op = ops.ReleaseTask(seq=seq, attempt=attempt, at_ms=T0)
        case "cancel":
            op = ops.CancelTask(seq, T0)
        case "due":
            op = ops.DueTask(seq, T0)
        case "block":
            op = ops.SetBlocked(seq, draw(st.integers(0, 2)), T0)
        case "move":
            op = ops.MoveTask(seq, draw(st.sampled_from(QUEUES)), 1)
        case "priority":
            op = ops.SetPriority(seq, draw(st.integers(0, 2)), 1)
        case _:
            op = ops.ReviveTask(seq, T0, 0, 2, priority=draw(st.sampled_from([None, 7])))
    return (event("before"), op) if draw(st.booleans()) else (op,)


ENTRIES = st.lists(operations(), min_size=2).map(lambda entries: tuple(op for entry in entries[:2] for op in entry))
STEPS = st.one_of(*[operations()] * 7, *[ENTRIES] * 2, st.sampled_from(["settle", "settle", "restart"]))
SCRIPTS = st.lists(STEPS, min_size=30, max_size=50)


async def _play(path: Path, script: list[tuple[ops.Op, ...] | str]) -> None:
    model, store = Model(), open_store(path)
    told: Counter[tuple[str, str]] = Counter()
    open_futures: list[tuple[str, asyncio.Future[ops.Receipt]]] = []

    def committed(batch: CommittedBatch) -> None:
        for change in batch.changed:
            if change.before is not None:
                told[change.came_from or change.queue, change.before] -= 1
            assert change.after is not None
            told[change.queue, change.after] += 1

    async def settle() -> None:
        for expected, future in open_futures:
            try:
                outcome = "fenced" if (await future).fenced else "done"
            except AiwmError as error:
                outcome = error.code
            assert outcome == expected
        open_futures.clear()
        assert store.counters() == model.counts()
        assert sum(store.journal.event_counts().values()) == model.events
        assert store.journal.record_counts() == +model.records
        for seq, task in model.tasks.items():
            row = store.readers.task(seq)
            assert row is not None
            assert (row.queue, row.state, row.attempt, row.epoch) == (task.queue, task.state, task.attempt, task.epoch)
            assert (row.max_attempts, row.crashes) == (task.max_attempts, task.crashes)
            assert (row.priority, row.blocked, row.tokens_in) == (task.priority, task.blocked, task.tokens)

    store.journal.on_commit(committed)
    for step in script:
        if isinstance(step, tuple):
            entry = tuple(
                msgspec.structs.replace(op, seq=store.journal.next_seq()) if isinstance(op, ops.InsertTask) else op
                for op in step
            )
            open_futures.append((model.entry(entry), store.journal.write(entry, Durability.os)))
            continue
        await settle()
        if step == "restart":
            await store.close()
            check_file(path)
            store = open_store(path)
            model.restart()
            told = Counter(model.counts())
            store.journal.on_commit(committed)
            await settle()
    await settle()
    assert {key: n for key, n in told.items() if n} == model.counts()
    await store.close()
    check_file(path)


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(script=SCRIPTS)
def test_rows_counters_and_receipts_are_the_models(script: list[tuple[ops.Op, ...] | str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_play(Path(folder) / "aiwm.db", script))
