"""Random operations in random batches, against a model that does one after the other."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

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

    def entry(self, entry: tuple[ops.Op, ...]) -> str:
        """done, fenced or conflict; an entry that is both is fenced, for fences are tested before anything is written."""
        saved = {seq: Task(**vars(task)) for seq, task in self.tasks.items()}
        keys, events = dict(self.keys), self.events
        outcomes = [self._op(op) for op in entry]
        if set(outcomes) == {"done"}:
            return "done"
        self.tasks, self.keys, self.events = saved, keys, events
        return "fenced" if "fenced" in outcomes else "conflict"

    def _op(self, op: ops.Op) -> str:
        if isinstance(op, ops.AppendEvent):
            self.events += 1
            return "done"
        if isinstance(op, ops.InsertTask):
            self.tasks[op.seq] = Task(op.queue, op.state.value)
            if op.idempotency_key is None:
                return "done"
            return "done" if self.keys.setdefault((op.queue, op.idempotency_key), op.seq) == op.seq else "conflict"
        assert isinstance(
            op,
            ops.StartTask
            | ops.EndTask
            | ops.RetryTask
            | ops.ReleaseTask
            | ops.CancelTask
            | ops.ReviveTask
            | ops.DueTask,
        )
        task = self.tasks.get(op.seq)
        return "done" if task is not None and self._step(task, op) else "fenced"

    def _step(self, task: Task, op: ops.Op) -> bool:
        if isinstance(op, ops.StartTask):
            if task.state not in WAITING or op.attempt <= task.attempt:
                return False
            task.state, task.attempt, task.epoch = "processing", op.attempt, self.epoch
        elif isinstance(op, ops.EndTask | ops.RetryTask | ops.ReleaseTask):
            if (task.state, task.attempt, task.epoch) != ("processing", op.attempt, self.epoch):
                return False
            task.state = (
                op.state.value
                if isinstance(op, ops.EndTask)
                else "retrying"
                if isinstance(op, ops.RetryTask)
                else "pending"
            )
            task.max_attempts += isinstance(op, ops.ReleaseTask)
        elif isinstance(op, ops.CancelTask):
            if task.state not in WAITING:
                return False
            task.state = "cancelled"
        elif isinstance(op, ops.DueTask):
            if task.state not in ("scheduled", "retrying"):
                return False
            task.state = "pending"
        elif isinstance(op, ops.ReviveTask):
            if task.state not in ("failed", "cancelled"):
                return False
            task.state, task.max_attempts, task.crashes = "pending", task.attempt + op.attempts, 0
        return True

    def restart(self) -> None:
        self.epoch += 1
        for task in self.tasks.values():
            if task.state == "processing":
                task.crashes += 1
                task.state = "failed" if task.crashes >= 2 else "pending"
                task.max_attempts += task.state == "pending"
                self.events += 1

    def counts(self) -> dict[tuple[str, str], int]:
        return dict(Counter((task.queue, task.state) for task in self.tasks.values()))


@st.composite
def operations(draw: st.DrawFn) -> tuple[ops.Op, ...]:
    """An entry on few tasks, so that they meet often. An InsertTask's number is given when it is written."""
    seq, attempt = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    match draw(
        st.sampled_from(
            ["insert", "insert", "start", "start", "end", "end", "retry", "release", "cancel", "revive", "due"]
        )
    ):
        case "insert":
            key = draw(st.sampled_from([None, None, "k"]))
            state = draw(st.sampled_from([TaskState.pending, TaskState.scheduled]))
            op: ops.Op = insert(0, draw(st.sampled_from(QUEUES)), idempotency_key=key, state=state, due_ms=T0)
        case "start":
            op = start(seq, attempt)
        case "end":
            op = end(
                seq,
                attempt,
                draw(st.sampled_from([TaskState.completed, TaskState.failed, TaskState.cancelled])),
                result=b"1",
            )
        case "retry":
            op = ops.RetryTask(seq=seq, attempt=attempt, due_ms=T0, at_ms=T0)
        case "release":
            op = ops.ReleaseTask(seq=seq, attempt=attempt, at_ms=T0)
        case "cancel":
            op = ops.CancelTask(seq, T0)
        case "due":
            op = ops.DueTask(seq, T0)
        case _:
            op = ops.ReviveTask(seq, T0, 0, 2)
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
                told[change.queue, change.before] -= 1
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
        for seq, task in model.tasks.items():
            row = store.readers.task(seq)
            assert row is not None
            assert (row.queue, row.state, row.attempt, row.epoch) == (task.queue, task.state, task.attempt, task.epoch)
            assert (row.max_attempts, row.crashes) == (task.max_attempts, task.crashes)

    store.journal.on_commit(committed)
    for step in script:
        if isinstance(step, tuple):
            entry = tuple(
                insert(
                    store.journal.next_seq(),
                    op.queue,
                    idempotency_key=op.idempotency_key,
                    state=op.state,
                    due_ms=op.due_ms,
                )
                if isinstance(op, ops.InsertTask)
                else op
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
