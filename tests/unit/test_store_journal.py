"""The journal: order, fences, group commit, counters, conflicts."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract.errors import AiwmError, ErrorInfo
from engine.contract.states import Durability, TaskState
from engine.store import ops
from engine.store.commit import CommittedBatch
from engine.store.store import Store
from tests.support.stored import T0, check_file, end, event, insert, open_store, run, start, submit

DISK, OS, MEMORY = Durability.disk, Durability.os, Durability.memory


def _note(order: list[int], seq: int, _: asyncio.Future[ops.Receipt]) -> None:
    order.append(seq)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    found = open_store(tmp_path / "aiwm.db")
    yield found
    await found.close()
    check_file(tmp_path / "aiwm.db")


async def test_a_task_goes_its_way(store: Store) -> None:
    seq = await submit(
        store, payload=b'{"prompt": "hi"}', capabilities=("b", "a"), definition="nano", tenant="ann", batch="b-1"
    )
    stored = store.readers.task(seq)
    assert stored is not None
    assert (stored.state, stored.attempt, stored.criteria, stored.wanted) == ("pending", 0, "nano+a,b", "nano")
    assert stored.row.id == "t-10001"
    assert store.readers.payload(seq) == b'{"prompt": "hi"}'
    await store.journal.write((start(seq), event("task.started", seq)), DISK)
    row = store.readers.task_row(seq)
    assert row is not None
    assert (row.state, row.attempt, row.instance, row.pool, row.started_ms) == ("processing", 1, "i-01", "pool", T0)
    receipt = await store.journal.write(
        (end(seq, result=b'{"text": "ho"}', reason="ho", tokens_in=3, tokens_out=4),), DISK
    )
    assert not receipt.fenced
    row = store.readers.task_row(seq)
    assert row is not None
    assert (row.state, row.reason, row.tokens_in, row.tokens_out, row.ended_ms) == ("completed", "ho", 3, 4, T0)
    assert store.readers.result(seq) == (b'{"text": "ho"}', None)
    assert [it.type for it in store.readers.events_of(seq)] == ["task.submitted", "task.started"]
    assert store.counters() == {("q", "completed"): 1}


async def test_what_does_not_exist_is_none(store: Store) -> None:
    assert store.readers.task(9) is None
    assert store.readers.task_row(9) is None
    assert store.readers.payload(9) is None
    assert store.readers.result(9) == (None, None)
    assert store.readers.events_of(9) == []


async def test_nothing_is_visible_before_it_is_acknowledged(store: Store) -> None:
    future = store.journal.write((insert(store.journal.next_seq()),), DISK)
    assert not future.done()
    assert store.counters() == {}
    await future
    assert store.counters() == {("q", "pending"): 1}


@pytest.mark.parametrize(
    "entry",
    [
        (end(1),),
        (start(7),),
        (end(2, attempt=2),),
        (end(2, attempt=0),),
        (start(2, attempt=2),),
        (start(3, attempt=1),),
        (ops.CancelTask(2, T0),),
        (ops.CancelTask(3, T0),),
        (ops.ExpireTask(3, T0, b"{}"),),
        (ops.ReviveTask(1, T0, 0),),
        (ops.DueTask(1, T0),),
        (ops.ReleaseTask(seq=1, attempt=1, at_ms=T0),),
        (ops.RetryTask(seq=3, attempt=1, due_ms=T0, at_ms=T0),),
        (end(2), start(2, attempt=1)),
    ],
    ids=lambda entry: "+".join(type(op).__name__ for op in entry),
)
async def test_a_fenced_entry_has_no_effect_at_all(store: Store, entry: tuple[ops.Op, ...]) -> None:
    for _ in range(3):
        await submit(store)
    await store.journal.write((start(2),), OS)
    await run(store, 3)
    before = [store.readers.task(seq) for seq in (1, 2, 3)]
    events = store.journal.event_counts().copy()
    receipt = await store.journal.write((event("witness"), *entry, event("witness")), OS)
    assert receipt.fenced
    assert [store.readers.task(seq) for seq in (1, 2, 3)] == before
    assert store.journal.event_counts() == events
    assert store.journal.fenced == 1


async def test_a_fenced_entry_is_forgotten(store: Store) -> None:
    """Operations of it that would have been possible must not be remembered, neither in the batch nor after it."""
    seq = await submit(store)
    entries: list[tuple[ops.Op, ...]] = [
        (start(seq), end(99)),
        (ops.CancelTask(seq, T0), end(99)),
        (start(seq),),
        (end(seq), end(99)),
        (end(seq, state=TaskState.failed),),
    ]
    receipts = await asyncio.gather(*(store.journal.write(entry, OS) for entry in entries))
    assert [receipt.fenced for receipt in receipts] == [True, True, False, True, False]
    row = store.readers.task_row(seq)
    assert row is not None
    assert row.state == "failed"


async def test_a_zombie_of_an_older_epoch_is_fenced(tmp_path: Path) -> None:
    first = open_store(tmp_path / "aiwm.db")
    seq = await submit(first)
    await first.journal.write((start(seq),), OS)
    await first.close()
    second = open_store(tmp_path / "aiwm.db")
    assert (await second.journal.write((end(seq),), OS)).fenced
    assert not (await second.journal.write((start(seq, 2),), OS)).fenced
    assert (await second.journal.write((end(seq, 1),), OS)).fenced
    assert not (await second.journal.write((end(seq, 2),), OS)).fenced
    await second.close()


async def test_a_retry_waits_and_keeps_its_error(store: Store) -> None:
    seq = await submit(store)
    await store.journal.write((start(seq),), OS)
    error = msgspec.json.encode(ErrorInfo(code="timeout", message="no answer"))
    await store.journal.write(
        (ops.RetryTask(seq=seq, attempt=1, due_ms=T0 + 50, at_ms=T0, error=error, reason="no answer"),), OS
    )
    row = store.readers.task_row(seq)
    assert row is not None
    assert (row.state, row.due_ms, row.error, row.reason, row.ended_ms) == (
        "retrying",
        T0 + 50,
        "timeout",
        "no answer",
        None,
    )
    assert [task.seq for task in store.readers.due_before(T0 + 50, 10)] == [seq]
    assert store.readers.due_before(T0 + 49, 10) == []
    await run(store, seq, 2)
    row = store.readers.task_row(seq)
    assert row is not None
    assert (row.state, row.error, row.reason) == ("completed", None, "")
    assert store.readers.result(seq) == (None, None)


async def test_released_due_cancelled_expired_and_revived(store: Store) -> None:
    seq = await submit(store, state=TaskState.scheduled, due_ms=T0 + 10, max_attempts=1)
    await store.journal.write((ops.DueTask(seq, T0),), OS)
    await store.journal.write((start(seq),), OS)
    await store.journal.write((ops.ReleaseTask(seq=seq, attempt=1, at_ms=T0, reason="stopped"),), OS)
    stored = store.readers.task(seq)
    assert stored is not None
    assert (stored.state, stored.attempt, stored.max_attempts, stored.started_ms) == ("pending", 1, 2, None)
    await store.journal.write((start(seq, 2), ops.ReleaseTask(seq=seq, attempt=2, at_ms=T0, crashed=True)), OS)
    assert [(it.seq, it.attempt, it.crashes) for it in store.readers.page("q", "", "", None, 9)] == [(seq, 2, 1)]
    await store.journal.write((ops.CancelTask(seq, T0, "not needed"),), OS)
    stored = store.readers.task(seq)
    assert stored is not None
    assert (stored.state, stored.reason, stored.error, stored.ended_ms) == (
        "cancelled",
        "not needed",
        "task_cancelled",
        T0,
    )
    await store.journal.write((ops.ReviveTask(seq, T0, 7, attempts=3),), OS)
    stored = store.readers.task(seq)
    assert stored is not None
    assert (stored.state, stored.rank, stored.attempt, stored.max_attempts, stored.ended_ms) == (
        "pending",
        7,
        2,
        5,
        None,
    )
    error = msgspec.json.encode(ErrorInfo(code="deadline_passed", message="too late"))
    await store.journal.write((ops.ExpireTask(seq, T0 + 1, error, "too late"),), OS)
    stored = store.readers.task(seq)
    assert stored is not None
    assert (stored.state, stored.error) == ("failed", "deadline_passed")
    assert store.readers.failed_since(T0 + 1) == 1
    assert store.readers.failed_since(T0 + 2) == 0


async def test_a_whole_life_in_one_batch(store: Store) -> None:
    seq = store.journal.next_seq()
    entries: list[tuple[ops.Op, ...]] = [
        (insert(seq), event("a", seq)),
        (start(seq),),
        (end(seq, state=TaskState.failed),),
        (ops.ReviveTask(seq, T0, 1, 2),),
        (start(seq, 2),),
        (ops.RetryTask(seq=seq, attempt=2, due_ms=T0, at_ms=T0),),
        (start(seq, 3),),
        (end(seq, 3, result=b"1"), event("z", seq)),
    ]
    batches: list[CommittedBatch] = []
    store.journal.on_commit(batches.append)
    receipts = await asyncio.gather(*(store.journal.write(entry, OS) for entry in entries))
    assert not any(receipt.fenced for receipt in receipts)
    row = store.readers.task_row(seq)
    assert row is not None
    assert (row.state, row.attempt) == ("completed", 3)
    assert [(change.before, change.after) for batch in batches for change in batch.changed] == [
        (None, "pending"),
        ("pending", "processing"),
        ("processing", "failed"),
        ("failed", "pending"),
        ("pending", "processing"),
        ("processing", "retrying"),
        ("retrying", "processing"),
        ("processing", "completed"),
    ]


async def test_what_waits_is_committed_together_and_answered_in_order(store: Store) -> None:
    batches: list[CommittedBatch] = []
    store.journal.on_commit(batches.append)
    order: list[int] = []
    futures = []
    for _ in range(500):
        seq = store.journal.next_seq()
        future = store.journal.write((insert(seq), event("task.submitted", seq)), OS)
        future.add_done_callback(partial(_note, order, seq))
        futures.append(future)
    await asyncio.gather(*futures)
    assert order == list(range(1, 501))
    assert [change.seq for batch in batches for change in batch.changed] == list(range(1, 501))
    assert [row.id for batch in batches for row in batch.events] == [str(n) for n in range(1, 501)]
    assert len(batches) < 100
    assert sum((batch.counts.get(("q", "pending"), 0) for batch in batches), 0) == 500


async def test_a_known_idempotency_key_is_a_conflict_of_its_entry_only(store: Store) -> None:
    first = await submit(store, idempotency_key="k")
    seqs = [store.journal.next_seq() for _ in range(4)]
    futures = [
        store.journal.write((insert(seqs[0]), event("a", seqs[0])), OS),
        store.journal.write((insert(seqs[1], idempotency_key="k"), event("b", seqs[1])), OS),
        store.journal.write((insert(seqs[2], queue="other", idempotency_key="k"),), OS),
        store.journal.write((start(first), end(first)), OS),
        store.journal.write((end(seqs[0]),), OS),
        store.journal.write((start(seqs[0]),), OS),
    ]
    found = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(found[1], AiwmError)
    assert found[1].code == "conflict"
    assert [outcome.fenced for outcome in found if isinstance(outcome, ops.Receipt)] == [
        False,
        False,
        False,
        True,
        False,
    ]
    assert store.readers.by_idempotency_key("q", "k") == first
    assert store.readers.by_idempotency_key("other", "k") == seqs[2]
    assert store.readers.task(seqs[1]) is None
    assert [it.type for it in store.readers.events_of(seqs[0])] == ["a"]
    assert store.journal.event_counts() == {"info": 2}


@pytest.mark.parametrize(
    "bad",
    [
        {"payload": b"{not json"},
        {"payload": b"\xff\xfe"},
        {"rank": 2**70},
        {"by": "\ud800"},
        {"state": TaskState.completed},
    ],
    ids=lambda bad: next(iter(bad)),
)
async def test_a_value_that_cannot_be_written_costs_its_entry_only(store: Store, bad: dict[str, Any]) -> None:
    one, two, three = (store.journal.next_seq() for _ in range(3))
    entries = [(insert(one),), (insert(two, **bad),), (insert(three), event("a", three))]
    found = await asyncio.gather(*(store.journal.write(entry, OS) for entry in entries), return_exceptions=True)
    assert [type(outcome).__name__ for outcome in found] == ["Receipt", "AiwmError", "Receipt"]
    assert store.counters() == {("q", "pending"): 2}
    assert store.journal.state == "working"


async def test_memory_is_acknowledged_at_once_and_written_then(store: Store) -> None:
    seq = store.journal.next_seq()
    future = store.journal.write((insert(seq, durability=MEMORY, rank=5), event("a", seq)), MEMORY)
    assert future.done()
    assert store.readers.payload(seq) == b'{"n": 1}'
    assert [task.seq for task in store.readers.page("q", "", "", None, 10)] == [seq]
    await store.journal.write((event("b"),), OS)
    assert store.readers.task(seq) is not None
    assert [task.seq for task in store.readers.page("q", "", "", None, 10)] == [seq]


async def test_an_overfull_buffer_refuses_new_tasks_but_no_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await submit(store)
    await store.journal.write((start(running),), OS)
    monkeypatch.setattr("engine.store.journal.MAX_WAITING_ENTRIES", 5)
    hold, entered = threading.Event(), threading.Event()
    commit = store._writer.commit

    def slow(*args: object, **kwargs: object) -> object:
        entered.set()
        hold.wait(10)
        return commit(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(store._writer, "commit", slow)
    futures = [store.journal.write((event("first"),), OS)]
    await asyncio.to_thread(entered.wait, 10)
    futures += [store.journal.write((insert(store.journal.next_seq()),), OS) for _ in range(8)]
    futures.append(store.journal.write((end(running),), OS))
    hold.set()
    found = await asyncio.gather(*futures, return_exceptions=True)
    assert [outcome.code for outcome in found if isinstance(outcome, AiwmError)] == ["queue_full"] * 3
    assert isinstance(found[-1], ops.Receipt)


async def test_durability_decides_how_a_batch_is_synchronised(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    keep = store._writer._set_synchronous

    def watched(full: bool) -> None:
        seen.append(full)
        keep(full)

    monkeypatch.setattr(store._writer, "_set_synchronous", watched)
    await store.journal.write((event("a"),), OS)
    await store.journal.write((event("a"),), DISK)
    store.journal.write((event("a"),), MEMORY)
    await store.journal.write((event("a"),), DISK)
    assert seen[0] is False
    assert seen[1] is True
    assert seen[-1] is True
    assert store._writer._connection.execute("PRAGMA synchronous").fetchone()[0] == 2


async def test_close_writes_what_waits_and_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "aiwm.db"
    store = open_store(path)
    futures = [store.journal.write((insert(store.journal.next_seq()),), OS) for _ in range(50)]
    await store.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(AiwmError, match="the engine is stopping"):
        await store.journal.write((event("late"),), OS)
    assert os.listdir(tmp_path) == ["aiwm.db"]
    check_file(path)


async def test_a_listener_that_fails_keeps_nobody_waiting(store: Store) -> None:
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))

    def listener(_: CommittedBatch) -> None:
        raise ValueError("mistake")

    store.journal.on_commit(listener)
    await store.journal.write((event("a"),), OS)
    assert [str(problem["exception"]) for problem in problems] == ["mistake"]


async def test_pages_classes_and_due_times(store: Store) -> None:
    for number in range(10):
        await submit(store, rank=100 - number % 3)
    await submit(store, tenant="ann")
    await submit(store, definition="nano")
    await submit(store, queue="z", state=TaskState.scheduled, due_ms=T0 + 5)
    await submit(store, queue="z", state=TaskState.scheduled, due_ms=T0 + 3, deadline_ms=T0 + 9)
    classes = store.readers.classes()
    assert [(it.queue, it.tenant, it.criteria) for it in classes] == [
        ("q", "", ""),
        ("q", "", "nano+"),
        ("q", "ann", ""),
    ]
    everything = store.readers.page("q", "", "", None, 100)
    assert [(it.rank, it.seq) for it in everything] == sorted((100 - n % 3, n + 1) for n in range(10))
    pages, after = [], None
    while page := store.readers.page("q", "", "", after, 3):
        pages += page
        after = (page[-1].rank, page[-1].seq)
    assert pages == everything
    assert [it.seq for it in store.readers.due_before(T0 + 5, 9)] == [14, 13]
    assert [it.seq for it in store.readers.due_before(T0 + 5, 9, (T0 + 3, 14))] == [13]
    assert store.readers.next_due() == T0 + 3
    assert store.readers.next_due(T0 + 3) == T0 + 5
    assert [it.seq for it in store.readers.deadlines_before(T0 + 9, 9)] == [14]
    assert store.readers.head_ms("q") == T0 + 1
    assert store.readers.seqs("scheduled", "z", 9) == [13, 14]


async def test_definitions_are_put_replaced_and_deleted(store: Store) -> None:
    put = [ops.PutDefinition("queue", name, b'{"name": "%s"}' % name.encode(), "d1", T0) for name in ("b", "a")]
    await store.journal.write(put, DISK)
    await store.journal.write(
        (ops.PutDefinition("queue", "a", b"{}", "d2", T0), ops.DeleteDefinition("queue", "b")), DISK
    )
    await store.journal.write((ops.DeleteDefinition("pool", "none"),), DISK)
    assert [(it.name, it.json, it.digest) for it in store.readers.definitions("queue")] == [("a", b"{}", "d2")]
