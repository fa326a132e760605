"""Words, retention and usage: what the store does behind the tasks' backs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from engine.contract.errors import AiwmError
from engine.contract.ids import task_seq
from engine.contract.query import matches, parse
from engine.contract.states import Durability, TaskState
from engine.store import ops, words
from engine.store.commit import CommittedBatch
from engine.store.retention import Limits, Retention
from engine.store.store import Store
from tests.support.stored import T0, FakeClock, check_file, end, event, insert, open_store, run, start, submit
from tests.support.waiting import until

OS, MEMORY = Durability.os, Durability.memory
DAY = 86_400_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    found = open_store(tmp_path / "aiwm.db")
    yield found
    await found.close()
    check_file(tmp_path / "aiwm.db")


async def found(store: Store, text: str) -> list[int]:
    """Numbers of the tasks that a filter finds, in order."""
    window = await store.windows.window(parse(f":tasks {text} sort:id"), 0, 100, T0)
    return [task_seq(row.id) for row in window.rows]


# Words -----------------------------------------------------------------------


async def test_words_are_found_in_what_was_asked_and_what_came_out(store: Store) -> None:
    one = await submit(store, payload=b'{"prompt": "The quick brown fox\\njumps", "n": 7}')
    two = await submit(store, payload='{"prompt": "Ünïcode is slow"}'.encode())
    await store.journal.write((start(two), end(two, result=b'{"text": "a quick answer"}')), OS)
    assert await found(store, "text:quick") == [one, two]
    assert await found(store, "text:QUICK") == [one, two]
    assert await found(store, "text:jumps") == [one]
    assert await found(store, 'text:"brown fox"') == [one]
    assert await found(store, 'text:"fox brown"') == []
    assert await found(store, "text:unicode") == [two]
    assert await found(store, "text:answ*") == [two]
    assert await found(store, "text:brown,answer") == [one, two]
    assert await found(store, "text:quick text:slow") == [two]
    assert await found(store, "text:brown text:slow") == []
    assert await found(store, "!text:jumps") == [two]
    assert await found(store, "state:completed text:quick") == [two]
    assert await found(store, "text:prompt") == [], "keys are no words"


@pytest.mark.parametrize(
    "value", ['a"b', "'", "AND", "NOT x", "(", "x OR", "*", "***", "text:x", "-", "^a", "a\x00b", "{}"]
)
async def test_no_value_is_syntax_of_the_index(store: Store, value: str) -> None:
    await submit(store, payload=b'{"prompt": "x"}')
    quoted = '"' + value.replace('"', "") + '"'
    assert isinstance(await found(store, f"text:{quoted}"), list)
    connection = store.readers._connection
    connection.execute("SELECT rowid FROM words_asked WHERE words_asked MATCH ?", (words.match(value),)).fetchall()


async def test_the_error_of_a_failed_task_is_searched_too(store: Store) -> None:
    seq = await submit(store)
    error = b'{"code": "timeout", "message": "no route to host"}'
    await store.journal.write((start(seq), end(seq, state=TaskState.failed, error=error)), OS)
    assert await found(store, 'text:"no route"') == [seq]


async def test_a_revived_task_is_found_by_its_new_payload_and_answer(store: Store) -> None:
    seq = await submit(store, payload=b'{"prompt": "alpha"}')
    await store.journal.write((start(seq), end(seq, state=TaskState.failed, error=b'{"code": "x"}')), OS)
    assert await found(store, "text:alpha") == [seq]
    await store.journal.write((ops.ReviveTask(seq, T0, 0, payload=b'{"prompt": "beta"}'),), OS)
    assert await found(store, "text:alpha") == []
    assert await found(store, "text:beta") == [seq]
    await store.journal.write((start(seq, 2), end(seq, 2, result=b'"gamma"')), OS)
    assert await found(store, "text:gamma text:beta") == [seq]


async def test_a_task_written_after_later_ones_is_found(store: Store) -> None:
    early, late = store.journal.next_seq(), store.journal.next_seq()
    await store.journal.write((insert(late, payload=b'{"prompt": "late"}'),), OS)
    assert await found(store, "text:late") == [late]
    await store.journal.write((insert(early, payload=b'{"prompt": "early"}'),), OS)
    assert await found(store, "text:early") == [early]


async def test_the_index_is_fed_behind_the_tasks_and_then_rests(store: Store) -> None:
    for _ in range(3):
        await run(store, await submit(store))
    assert store.readers.words_behind()
    assert await store.feeder.catch_up()
    assert store.feeder._task is None


async def test_an_index_that_is_behind_is_fed_by_the_next_engine(tmp_path: Path) -> None:
    store = open_store(tmp_path / "aiwm.db")
    for _ in range(70):
        seq = await submit(store, payload=b'{"prompt": "hello"}')
    await store.close()
    store = open_store(tmp_path / "aiwm.db")
    store.feeder.start()
    assert len(await found(store, "text:hello")) == 70
    assert seq == 70
    await store.close()


async def test_an_index_full_of_deleted_tasks_is_built_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "STALE_LEAST", 3)
    seqs = [await submit(store, payload=b'{"prompt": "hello"}') for _ in range(4)]
    for seq in seqs[:3]:
        await run(store, seq)
    await store.feeder.catch_up()
    await store.journal.write((ops.DeleteTasks(tuple(seqs[:3])),), OS)
    assert store.readers.words_behind()
    again = await submit(store, payload=b'{"prompt": "hello"}')
    assert await found(store, "text:hello") == [seqs[3], again]
    count = "SELECT count(*) FROM words_asked_docsize"
    assert store.readers._connection.execute(count).fetchone() == (2,)


def test_words_have_no_order_and_are_known_to_the_store_only() -> None:
    with pytest.raises(AiwmError, match="has no order"):
        parse(":tasks sort:text")
    with pytest.raises(AiwmError, match="has no order"):
        parse(":tasks text>x")
    with pytest.raises(AiwmError, match="only known"):
        matches(parse(":tasks text:x"), None, T0)


# Deleting --------------------------------------------------------------------


async def test_deleting_takes_everything_that_belongs_to_a_task(store: Store) -> None:
    batches: list[CommittedBatch] = []
    first = await submit(store)
    await run(store, first)
    second = await submit(store, after=(first,))
    await store.journal.write(
        (
            start(second),
            end(second, result=b"1"),
            ops.PutDocument("insight", "x", "t-10002", T0, b"{}"),
            ops.PutDocument("lesson", "y", "t-10002", T0, b"{}"),
        ),
        OS,
    )
    waiting = await submit(store)
    store.journal.on_commit(batches.append)
    await store.journal.write((ops.DeleteTasks((first, second, waiting, 99)),), OS)
    assert store.readers.task(second) is None
    assert store.readers.payload(second) is None
    assert store.readers.result(second) == (None, None)
    assert store.readers.document("insight", "x") is None
    assert store.readers.document("lesson", "y") is not None
    assert store.readers.task(waiting) is not None, "a task that has not ended stays"
    assert store.counters() == {("q", "pending"): 1}
    assert [(it.seq, it.before, it.after) for it in batches[0].changed] == [
        (first, "completed", None),
        (second, "completed", None),
    ]
    # Its record stays: it is what usage is made of.
    assert sum(used.tasks for used in await store.windows.usage("queue")) == 2


async def test_a_deleted_task_fences_what_follows_in_its_batch(store: Store) -> None:
    seq = await submit(store)
    await run(store, seq, state=TaskState.failed)
    both = (
        store.journal.write((ops.DeleteTasks((seq,)),), OS),
        store.journal.write((ops.ReviveTask(seq, T0, 0), event("revived")), OS),
    )
    assert [receipt.fenced for receipt in await asyncio.gather(*both)] == [False, True]
    assert store.counters() == {}


def retention(
    store: Store,
    now_ms: int,
    queue_ms: dict[str, int] | None = None,
    before_records: Callable[[], Awaitable[None]] | None = None,
    **limits: int,
) -> Retention:
    own = queue_ms or {}
    return Retention(
        store.journal,
        store.readers,
        store.windows,
        FakeClock(now_ms),
        Limits(**limits),
        lambda queue: own.get(queue),
        before_records or _nothing_before,
    )


async def _nothing_before() -> None:
    pass


async def test_old_rows_go_and_young_and_waiting_ones_stay(store: Store) -> None:
    old, young, waiting = [await submit(store) for _ in range(3)]
    await store.journal.write((start(old), end(old)), OS)
    later = ops.EndTask(seq=young, attempt=1, state=TaskState.completed, at_ms=T0 + 5 * DAY)
    await store.journal.write((start(young), later), OS)
    assert await retention(store, T0 + 29 * DAY).sweep() == 0
    # One task, its record, and all events but the newest.
    assert await retention(store, T0 + 31 * DAY).sweep() == 4
    assert [store.readers.task(seq) is None for seq in (old, young, waiting)] == [True, False, False]
    assert store.journal.record_counts()["completed"] == 1
    assert store.journal.event_counts()["info"] == 1
    assert await retention(store, T0 + 31 * DAY).sweep() == 0


async def test_a_queue_keeps_its_tasks_as_long_as_it_says(store: Store) -> None:
    short, long = await submit(store, "short"), await submit(store, "long")
    for seq in (short, long):
        await run(store, seq)

    async def swept(now_ms: int, queue_ms: dict[str, int]) -> int:
        return await retention(store, now_ms, queue_ms, events_days=0, records_days=0, tasks_days=0).sweep()

    assert await swept(T0 + 60_001, {"short": 60_000, "long": 90 * DAY}) == 1
    assert store.readers.task(short) is None
    assert await swept(T0 + 400 * DAY, {}) == 0
    assert store.readers.task(long) is not None


async def test_the_oldest_go_when_there_are_too_many(store: Store) -> None:
    for number in range(6):
        seq = await submit(store)
        ended = ops.EndTask(seq=seq, attempt=1, state=TaskState.completed, at_ms=T0 + 100 - number)
        await store.journal.write((start(seq), ended), OS)
    await retention(store, T0, max_rows=2).sweep()
    rows = store.readers._connection
    assert rows.execute("SELECT seq FROM tasks ORDER BY seq").fetchall() == [(1,), (2,)], "those that ended last"
    assert rows.execute("SELECT task FROM records ORDER BY seq").fetchall() == [(5,), (6,)]
    assert rows.execute("SELECT seq FROM events ORDER BY seq").fetchall() == [(5,), (6,)]


async def test_numbers_go_on_after_everything_was_deleted(tmp_path: Path) -> None:
    store = open_store(tmp_path / "aiwm.db")
    for _ in range(3):
        await run(store, await submit(store))
    await retention(store, T0 + 99 * DAY).sweep()
    await store.close()
    store = open_store(tmp_path / "aiwm.db")
    assert store.journal.next_seq() == 4
    await store.journal.write((event("next"),), OS)
    numbers = sqlite3.connect(tmp_path / "aiwm.db").execute("SELECT seq FROM events ORDER BY seq").fetchall()
    assert numbers == [(9,), (10,)]
    await store.close()


async def test_a_sweep_that_finds_nothing_old_writes_nothing(store: Store) -> None:
    await run(store, await submit(store))
    await store.journal.write((ops.PutSamples((("cpu", 1_000, T0, 1.0), ("cpu", 300_000, T0, 1.0))),), OS)
    commits: list[object] = []
    store.journal.on_commit(commits.append)
    await retention(store, T0).sweep()
    assert commits == []
    await retention(store, T0 + 600_001).sweep()
    assert len(commits) == 1


async def test_a_read_that_fails_ends_no_retention(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.store.retention._EVERY_S", 0.001)
    swept: list[int] = []
    kept = retention(store, T0)

    async def sweep() -> int:
        swept.append(len(swept))
        if len(swept) == 1:
            raise sqlite3.OperationalError("disk I/O error")
        return 0

    monkeypatch.setattr(kept, "sweep", sweep)
    kept.start()
    await until(lambda: len(swept) > 2)
    await kept.close()


async def test_samples_are_kept_by_their_step(store: Store) -> None:
    points = tuple(
        ("cpu", step, T0 - age, 1.0)
        for step in (1_000, 10_000, 300_000)
        for age in (60_000, 3_600_000, 2 * DAY, 99 * DAY)
    )
    await store.journal.write((ops.PutSamples(points),), OS)
    await retention(store, T0).sweep()
    ages = {step: [T0 - at for at, _ in store.readers.samples("cpu", step, 0)] for step in (1_000, 10_000, 300_000)}
    assert ages == {1_000: [60_000], 10_000: [3_600_000, 60_000], 300_000: [2 * DAY, 3_600_000, 60_000]}


async def test_a_window_follows_deletions(store: Store) -> None:
    seqs = [await submit(store) for _ in range(3)]
    await run(store, seqs[0])
    await store.journal.write((ops.DeleteTasks((seqs[0],)), ops.PruneRecords(2)), OS)
    window = await store.windows.window(parse(":tasks sort:id"), 0, 10, T0)
    assert ([row.id for row in window.rows], window.matched, window.total) == (["t-10002", "t-10003"], 2, 2)
    assert (await store.windows.window(parse(":records"), 0, 10, T0)).total == 0


# Usage -----------------------------------------------------------------------


async def test_usage_sums_what_all_attempts_used(store: Store) -> None:
    for by, state, tokens in (("ann", "completed", 5), ("ann", "failed", 1), ("bob", "completed", 2)):
        seq = await submit(store, by=by)
        await store.journal.write((start(seq),), OS)
        retry = ops.RetryTask(seq=seq, attempt=1, due_ms=T0, at_ms=T0 + 10, tokens_in=1, cost_usd=0.5)
        await store.journal.write((retry, start(seq, 2)), OS)
        ended = ops.EndTask(
            seq=seq, attempt=2, state=TaskState(state), at_ms=T0 + 3, tokens_in=1, tokens_out=tokens, cost_usd=0.25
        )
        await store.journal.write((ended,), OS)
    used = await store.windows.usage("by")
    assert [(it.key, it.tasks, it.failed, it.tokens_in, it.tokens_out, it.cost_usd, it.busy_ms) for it in used] == [
        ("ann", 2, 1, 4, 6, 1.5, 26),
        ("bob", 1, 0, 2, 2, 0.75, 13),
    ]
    assert [it.key for it in await store.windows.usage("batch")] == [""]
    assert await store.windows.usage("by", since_ms=T0 + 4) == []
    assert len(await store.windows.usage("by", until_ms=T0 + 4)) == 2
    with pytest.raises(AiwmError, match="cannot be summed"):
        await store.windows.usage("summary")
