"""What tasks, records and documents carry, written and read back."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from engine.contract.errors import AiwmError, ErrorInfo
from engine.contract.states import Durability, TaskState
from engine.store import ops
from engine.store.commit import CommittedBatch
from engine.store.store import Store
from tests.support.stored import T0, check_file, end, event, insert, open_store, run, start, submit

OS, MEMORY = Durability.os, Durability.memory
ERROR = msgspec.json.encode(ErrorInfo(code="timeout", message="m"))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    found = open_store(tmp_path / "aiwm.db")
    yield found
    await found.close()
    check_file(tmp_path / "aiwm.db")


async def test_what_a_task_may_carry_is_in_its_row(store: Store) -> None:
    parent = await submit(store)
    seq = await submit(
        store,
        template="mail",
        supervisor="rules/default",
        sources=b'["docs","logs"]',
        metadata=b'{"a":1}',
        adapter="tone",
        parent=parent,
    )
    task = store.readers.task(seq)
    assert task is not None
    assert (task.template, task.supervisor, task.sources, task.metadata) == (
        "mail",
        "rules/default",
        ("docs", "logs"),
        b'{"a":1}',
    )
    assert (task.adapter, task.parent, task.row.template, task.row.adapter) == ("tone", parent, "mail", "tone")
    assert store.readers.task_row(seq) == task.row
    assert store.readers.children(parent) == [seq]
    plain = store.readers.task(parent)
    assert plain is not None
    assert (plain.template, plain.sources, plain.metadata, plain.parent, plain.blocked) == (None, (), None, None, 0)


async def test_an_unwritten_task_of_a_memory_queue_carries_the_same(store: Store) -> None:
    seq = store.journal.next_seq()
    store.journal.write((insert(seq, durability=MEMORY, template="mail", sources=b'["docs"]', blocked=1),), MEMORY)
    before = store.readers.task(seq)
    assert store.readers.page("q", "", "", None, 10) == []
    await store.journal.write((event("a"),), OS)
    assert store.readers.task(seq) == before
    assert before is not None
    assert (before.template, before.sources, before.blocked) == ("mail", ("docs",), 1)


async def test_a_blocked_task_is_in_no_page_until_it_is_released(store: Store) -> None:
    first = await submit(store)
    second = await submit(store, after=(first,), blocked=1)
    third = await submit(store, after=(first, second), blocked=2, state=TaskState.scheduled, due_ms=T0)
    assert [task.seq for task in store.readers.page("q", "", "", None, 10)] == [first]
    assert store.readers.due_before(T0, 10) == []
    assert store.readers.next_due() is None
    assert store.readers.blocked_tasks(10) == [second, third]
    assert store.readers.blocked_tasks(10, after=second) == [third]
    assert (store.readers.after(third), store.readers.dependents(first)) == ([first, second], [second, third])
    assert store.readers.unmet(third) == [(first, "pending"), (second, "pending")]
    await run(store, first)
    assert store.readers.unmet(third) == [(second, "pending")]
    await store.journal.write((ops.SetBlocked(second, 0, T0), ops.SetBlocked(third, 1, T0)), OS)
    assert [task.seq for task in store.readers.page("q", "", "", None, 10)] == [second]
    row = store.readers.task_row(third)
    assert row is not None
    assert row.after == 1
    await store.journal.write((ops.SetBlocked(third, 0, T0),), OS)
    assert [task.seq for task in store.readers.due_before(T0, 10)] == [third]


async def test_classes_of_blocked_tasks_only_are_none(store: Store) -> None:
    await submit(store, "held", blocked=1)
    await submit(store, "open")
    assert [it.queue for it in store.readers.classes()] == ["open"]


async def test_a_waiting_task_moves_to_another_queue(store: Store) -> None:
    batches: list[CommittedBatch] = []
    seq = await submit(store, idempotency_key="k")
    other = await submit(store, "r", idempotency_key="k")
    with pytest.raises(AiwmError, match="idempotency key"):
        await store.journal.write((ops.MoveTask(seq, "r", 5),), OS)
    store.journal.on_commit(batches.append)
    await store.journal.write((ops.MoveTask(seq, "s", 5),), OS)
    task = store.readers.task(seq)
    assert task is not None
    assert (task.queue, task.rank, task.state) == ("s", 5, "pending")
    assert store.counters() == {("s", "pending"): 1, ("r", "pending"): 1}
    assert [(it.queue, it.before, it.after, it.came_from) for it in batches[0].changed] == [
        ("s", "pending", "pending", "q")
    ]
    await store.journal.write((start(other),), OS)
    assert (await store.journal.write((ops.MoveTask(other, "s", 1),), OS)).fenced


async def test_a_priority_is_changed_while_a_task_waits(store: Store) -> None:
    seq = await submit(store)
    await store.journal.write((ops.SetPriority(seq, 9, -50),), OS)
    task = store.readers.task(seq)
    assert task is not None
    assert (task.priority, task.rank) == (9, -50)
    await run(store, seq)
    assert (await store.journal.write((ops.SetPriority(seq, 1, 1),), OS)).fenced


async def test_a_revived_task_may_get_another_payload_and_priority(store: Store) -> None:
    seq = await submit(store, priority=3)
    await run(store, seq, state=TaskState.failed)
    await store.journal.write((ops.ReviveTask(seq, T0, 7, 1, payload=b'{"n": 2}', priority=8),), OS)
    task = store.readers.task(seq)
    assert task is not None
    assert (task.priority, task.rank, task.max_attempts, store.readers.payload(seq)) == (8, 7, 2, b'{"n": 2}')


async def test_a_fenced_entry_changes_no_document_and_no_payload(store: Store) -> None:
    seq = await submit(store)
    entry = (ops.PutDocument("lesson", "L-1", "", T0, b"{}"), ops.ReviveTask(seq, T0, 0, payload=b'{"n": 9}'))
    assert (await store.journal.write(entry, OS)).fenced
    assert store.readers.document("lesson", "L-1") is None
    assert store.readers.payload(seq) == b'{"n": 1}'


# Performance records ---------------------------------------------------------


async def test_a_task_that_ends_leaves_one_record_with_the_sums_of_its_attempts(store: Store) -> None:
    seq = await submit(store, batch="b-1", template="mail")
    await store.journal.write((start(seq),), OS)
    retry = ops.RetryTask(
        seq=seq, attempt=1, due_ms=T0, at_ms=T0 + 40, error=ERROR, tokens_in=2, cost_usd=0.5, fail="F-1"
    )
    await store.journal.write((retry,), OS)
    waiting = store.readers.task_row(seq)
    assert waiting is not None
    assert (waiting.tokens_in, waiting.cost_usd, waiting.fail) == (2, 0.5, "F-1")
    assert store.readers.record_of(seq) is None
    await store.journal.write((start(seq, 2),), OS)
    ended = ops.EndTask(
        seq=seq,
        attempt=2,
        state=TaskState.completed,
        at_ms=T0 + 7,
        reason="short",
        tokens_in=3,
        tokens_out=4,
        cost_usd=0.25,
        adapter="tone@v2",
        summary="long " * 100,
        model="nano",
        finish_reason="stop",
        calls=2,
        input_chars=99,
    )
    await store.journal.write((ended,), OS)
    record = store.readers.record_of(seq)
    assert record is not None
    assert (record.success, record.state, record.attempt, record.task) == (True, "completed", 2, "t-10001")
    assert (record.duration_ms, record.spent_ms) == (7, 40)
    assert (record.tokens_in, record.tokens_out, record.cost_usd) == (5, 4, 0.75)
    assert (record.queue, record.pool, record.definition, record.instance) == ("q", "pool", "nano", "i-01")
    assert (record.by, record.batch, record.template, record.adapter) == ("test", "b-1", "mail", "tone@v2")
    assert (record.model, record.finish_reason, record.calls, record.input_chars) == ("nano", "stop", 2, 99)
    assert (len(record.summary), record.error, record.fail) == (256, None, None)
    row = store.readers.task_row(seq)
    assert row is not None
    assert (row.tokens_in, row.cost_usd, row.adapter, row.fail) == (5, 0.75, "tone@v2", None)
    assert store.journal.record_counts() == {"completed": 1}


async def test_a_task_without_a_model_has_no_tokens_and_its_reason_as_summary(store: Store) -> None:
    seq = await submit(store)
    await store.journal.write((start(seq), end(seq, state=TaskState.failed, error=ERROR, reason="no answer")), OS)
    record = store.readers.record_of(seq)
    assert record is not None
    assert (record.tokens_in, record.cost_usd, record.summary, record.error) == (None, None, "no answer", "timeout")
    assert not record.success


async def test_each_end_of_a_revived_task_has_a_record_that_begins_at_nothing(store: Store) -> None:
    seq = await submit(store)
    entry = (
        start(seq),
        end(seq, state=TaskState.failed, tokens_in=3, error=ERROR, fail="F-1"),
        ops.ReviveTask(seq, T0, 0),
        start(seq, 2),
        end(seq, 2, tokens_in=4),
    )
    await store.journal.write(entry, OS)
    found = store.readers._connection.execute("SELECT attempt, state, tokens_in, fail FROM records").fetchall()
    assert found == [(1, "failed", 3, "F-1"), (2, "completed", 4, None)]


async def test_tasks_that_never_ran_leave_no_record(store: Store) -> None:
    cancelled, expired = await submit(store), await submit(store)
    await store.journal.write((ops.CancelTask(cancelled, T0), ops.ExpireTask(expired, T0, ERROR, fail="F-2")), OS)
    assert store.journal.record_counts() == {}
    row = store.readers.task_row(expired)
    assert row is not None
    assert row.fail == "F-2"


async def test_a_rating_goes_into_the_last_record(store: Store) -> None:
    batches: list[CommittedBatch] = []
    seq = await submit(store)
    await run(store, seq, state=TaskState.failed)
    await store.journal.write((ops.ReviveTask(seq, T0, 0),), OS)
    await run(store, seq, 2)
    store.journal.on_commit(batches.append)
    await store.journal.write((ops.RateRecord(seq, 0.5, "fine"),), OS)
    found = store.readers._connection.execute("SELECT rating, comments FROM records ORDER BY seq").fetchall()
    assert found == [(None, None), (0.5, "fine")]
    assert batches[0].rated
    assert not (await store.journal.write((ops.RateRecord(99, 0.5, ""),), OS)).fenced


# Documents, samples, batches ---------------------------------------------------


async def test_documents_are_found_by_key_by_what_they_are_about_and_by_time(store: Store) -> None:
    puts = [ops.PutDocument("note", f"n-{n}", f"t-{n % 2}", T0 + n, b'{"n":%d}' % n) for n in range(5)]
    await store.journal.write((*puts, ops.PutDocument("other", "n-1", "t-1", T0, b"[]")), OS)
    one = store.readers.document("note", "n-1")
    assert one is not None
    assert (one.ref, one.at_ms, one.json) == ("t-1", T0 + 1, b'{"n":1}')
    assert store.readers.document("note", "n-9") is None
    assert [it.key for it in store.readers.documents("note")] == ["n-4", "n-3", "n-2", "n-1", "n-0"]
    assert [it.key for it in store.readers.documents("note", ref="t-0", newest_first=False)] == ["n-0", "n-2", "n-4"]
    assert [it.key for it in store.readers.documents("note", since_ms=T0 + 2, limit=2)] == ["n-4", "n-3"]
    await store.journal.write(
        (
            ops.PutDocument("note", "n-1", "t-9", T0, b"1"),
            ops.DeleteDocument("note", "n-2"),
            ops.DeleteDocument("x", "y"),
        ),
        OS,
    )
    assert [it.key for it in store.readers.documents("note", ref="t-9")] == ["n-1"]
    assert store.readers.document("note", "n-2") is None


async def test_a_document_that_is_no_json_costs_its_own_entry_only(store: Store) -> None:
    good = store.journal.write((ops.PutDocument("note", "good", "", T0, b"{}"),), OS)
    bad = store.journal.write((ops.PutDocument("note", "bad", "", T0, b"{"),), OS)
    await good
    with pytest.raises(AiwmError, match="cannot be written"):
        await bad
    assert [it.key for it in store.readers.documents("note")] == ["good"]


async def test_samples_are_kept_by_series_and_step(store: Store) -> None:
    await store.journal.write(
        (ops.PutSamples((("a", 1000, T0, 1.0), ("a", 1000, T0 + 1000, 2.5), ("b", 1000, T0, 9))),), OS
    )
    await store.journal.write((ops.PutSamples((("a", 1000, T0, 1.5), ("a", 10_000, T0, 3.0))),), OS)
    assert store.readers.samples("a", 1000, T0) == [(T0, 1.5), (T0 + 1000, 2.5)]
    assert store.readers.samples("a", 1000, T0 + 1) == [(T0 + 1000, 2.5)]
    assert store.readers.series() == ["a", "b"]


async def test_batches_are_counted_by_state_and_listed_in_order(store: Store) -> None:
    seqs = [await submit(store, batch="b-1") for _ in range(4)]
    await submit(store, batch="b-2")
    await submit(store)
    await run(store, seqs[1])
    assert store.readers.batches() == {"b-1": {"completed": 1, "pending": 3}, "b-2": {"pending": 1}}
    assert store.readers.batch("b-1") == {"completed": 1, "pending": 3}
    assert store.readers.batch("b-9") == {}
    assert store.readers.batch_tasks("b-1", 10) == seqs
    assert store.readers.batch_tasks("b-1", 2, after=seqs[0]) == seqs[1:3]


async def test_a_row_that_carries_nothing_more_is_as_small_as_it_was(tmp_path: Path) -> None:
    """Columns that few tasks use stand at the end, so that they cost a byte each."""
    store = open_store(tmp_path / "aiwm.db")
    await submit(store)
    await store.close()
    connection = sqlite3.connect(tmp_path / "aiwm.db")
    names = [row[1] for row in connection.execute("PRAGMA table_info(tasks)")]
    row = connection.execute("SELECT * FROM tasks").fetchone()
    connection.close()
    assert [value for name, value in zip(names, row, strict=True) if names.index(name) > names.index("blocked")] == [
        None
    ] * 9
