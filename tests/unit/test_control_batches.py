"""Batches: order, keys, progress, results by page; samples; and who leaves while he waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.errors import AiwmError
from engine.contract.requests.batches import (
    BatchAdd,
    BatchAdded,
    BatchCancel,
    BatchItem,
    BatchList,
    BatchResults,
    BatchShow,
    BatchWait,
)
from engine.contract.requests.fleet import QueueResume
from engine.contract.requests.tasks import TaskExport, TaskList, TaskRun, TaskShow, TaskSubmit
from engine.contract.requests.usage import ReportRead, SamplesRead, UsageRead
from engine.control.batches import Order
from engine.control.sampling import Means
from engine.requests.table import decode_request
from tests.support.room import CALLER, Room


@pytest.fixture
async def room(home: Path) -> AsyncIterator[Room]:
    made = Room(home)
    await made.manager.start(dispatch=True)
    yield made
    await made.close()


def _items(*numbers: int) -> list[BatchItem]:
    return [BatchItem(index=n, key=f"k{n}", payload={"n": n}) for n in numbers]


async def _add(room: Room, *numbers: int, queue: str = "q", batch: str = "b") -> BatchAdded:
    return await room.call(BatchAdd(batch=batch, queue=queue, items=_items(*numbers)))


@given(st.lists(st.tuples(st.none() | st.integers(0, 50), st.integers(1, 10_000)), max_size=60))
def test_places_rise_strictly_and_nobody_is_lost(members: list[tuple[int | None, int]]) -> None:
    order = Order(members)
    places = list(order.places)
    assert places == sorted(set(places))
    assert sorted(order.seqs) == sorted(seq for _, seq in members)
    for index, place in enumerate(places):
        assert order.after(place) == index + 1
    placed = [place for place, _ in members if place is not None]
    if len(set(placed)) == len(placed) == len(members):
        assert places == sorted(placed)


async def test_an_item_added_again_is_known_and_the_order_is_that_of_the_file(room: Room) -> None:
    assert (await _add(room, 3, 4, 5)).added == 3
    again = await _add(room, 0, 1, 2, 3, 4, 5)
    assert (again.added, again.known) == (3, 3)
    assert (await room.call(BatchWait(name="b", timeout_ms=10_000))).state == "completed"
    page = await room.call(BatchResults(name="b", limit=4))
    assert [(it.index, it.key, it.result) for it in page.results] == [(n, f"k{n}", {"n": n}) for n in range(4)]
    assert (page.upto, page.more) == (3, True)
    rest = await room.call(BatchResults(name="b", after=page.upto))
    assert [it.index for it in rest.results] == [4, 5]
    assert not rest.more


async def test_the_same_key_in_two_batches_is_two_tasks_and_a_batch_stays_in_its_queue(room: Room) -> None:
    await _add(room, 0)
    assert (await _add(room, 0, batch="c")).added == 1
    with pytest.raises(AiwmError, match='is one of queue "q"'):
        await _add(room, 1, queue="still")


async def test_bad_items_are_named_and_a_dry_run_stores_nothing(room: Room) -> None:
    items = [BatchItem(index=0, payload={"count": 1}), BatchItem(index=1, payload={"count": "x"})]
    checked = await room.call(BatchAdd(batch="b", template="part", items=items, dry_run=True))
    assert [(it.index, it.error.field) for it in checked.refused] == [(1, "payload.count")]
    assert room.manager.tally.queues() == set()
    with pytest.raises(AiwmError, match="does not exist"):
        await room.call(BatchShow(name="b"))
    added = await room.call(BatchAdd(batch="b", template="part", items=items))
    assert (added.added, len(added.refused)) == (1, 1)


@pytest.mark.parametrize(
    "request_",
    [
        BatchAdd(batch="no such name!", queue="q", items=_items(0)),
        BatchAdd(batch="b", queue="q", items=[]),
        BatchAdd(batch="b", queue="q", items=_items(-1)),
        BatchAdd(batch="b", queue="nope", items=_items(0)),
        BatchAdd(batch="b", template="nope", items=_items(0)),
        BatchResults(name="nope"),
        BatchWait(name="nope"),
        BatchCancel(name="nope"),
    ],
)
async def test_what_cannot_be_is_refused(room: Room, request_: BatchAdd) -> None:
    with pytest.raises(AiwmError):
        await room.call(request_)


async def test_a_batch_says_how_far_it_is_and_waits_no_longer_than_asked(room: Room) -> None:
    await _add(room, *range(4), queue="still")
    row = await room.call(BatchWait(name="b", timeout_ms=20))
    assert (row.state, row.total, row.waiting, row.eta_ms) == ("pending", 4, 4, None)
    page = await room.call(BatchResults(name="b", ended_only=True, wait_ms=10))
    assert (page.results, page.more) == ([], True)
    waiting = asyncio.ensure_future(room.call(BatchResults(name="b", ended_only=True, wait_ms=10_000)))
    await room.call(QueueResume(name="still"))
    assert (await waiting).results[0].index == 0
    assert (await room.call(BatchWait(name="b"))).completed == 4
    assert [it.id for it in await room.call(BatchList())] == ["b"]


async def test_a_cancel_ends_what_has_not_ended(room: Room) -> None:
    await _add(room, 0, 1)
    await room.call(BatchWait(name="b"))
    room.manager.enable(False, "test")
    await _add(room, 2, 3, 4)
    plan = (await room.call(BatchCancel(name="b", dry_run=True))).plan
    assert plan is not None
    assert plan.count == 3
    done = await room.call(BatchCancel(name="b"))
    assert len(done.cancelled) == 3
    row = await room.call(BatchShow(name="b"))
    assert (row.state, row.completed, row.cancelled) == ("cancelled", 2, 3)


async def test_tasks_that_only_name_a_batch_are_one_too(room: Room) -> None:
    for n in range(3):
        await room.call(TaskSubmit(queue="q", payload={"n": n}, batch="loose"))
    await room.call(BatchWait(name="loose"))
    page = await room.call(BatchResults(name="loose"))
    assert [(it.index, it.result) for it in page.results] == [(n, {"n": n}) for n in range(3)]


async def test_export_gives_the_bodies_by_page(room: Room) -> None:
    ids = [await room.submit(n=n) for n in range(3)]
    for identifier in ids:
        await room.outcome(identifier)
    first = await room.call(TaskExport(where="queue:q sort:-id", limit=2))
    assert [(it.row.id, it.payload, it.result) for it in first.tasks] == [
        (ids[n], {"n": n}, {"n": n}) for n in range(2)
    ]
    assert (first.total, first.next) == (3, 2)
    rest = await room.call(TaskExport(where="queue:q", offset=2))
    assert ([it.row.id for it in rest.tasks], rest.next) == ([ids[2]], None)
    assert [row.id for row in (await room.call(TaskList(where="sort:id", offset=2))).rows] == [ids[2]]


async def test_an_export_goes_on_behind_what_is_counted(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.store.window.COUNT_LIMIT", 4)
    ids = [await room.submit(n=n) for n in range(7)]
    found: list[str] = []
    offset: int | None = 0
    while offset is not None:
        page = await room.call(TaskExport(where="submitted>1h", offset=offset, limit=2))
        found += [it.row.id for it in page.tasks]
        offset = page.next
    assert found == ids


async def test_samples_do_not_wait_in_memory_for_a_storage_that_failed(room: Room) -> None:
    journal, sampling = room.store.journal, room.manager.desk.sampling
    journal._failure = "no space left"
    sampling._write([("running", 1_000, 1_000, 1.0)])
    journal._failure = None
    await room.outcome(await room.submit())
    assert room.store.readers.samples("running", 1_000, 0) == []
    sampling._write([("running", 1_000, 2_000, 1.0)])
    await room.outcome(await room.submit())
    assert room.store.readers.samples("running", 1_000, 0) == [(2_000, 1.0)]


async def test_usage_and_the_report_count_what_ended(room: Room) -> None:
    since = room.manager._clock.wall_ms()
    for n in range(3):
        await room.outcome(await room.submit(n=n))
    (row,) = await room.call(UsageRead(by="queue", since_ms=since))
    assert (row.name, row.tasks, row.completed, row.failed) == ("q", 3, 3, 0)
    assert await room.call(UsageRead(by="agent")) == []
    report = await room.call(ReportRead(since_ms=since))
    assert (report.completed, report.failed, report.healed) == (3, 0, 0)
    assert report.queues == [row]


def test_means_are_given_when_their_step_is_over() -> None:
    means = Means(10_000)
    assert means.add(1_000, {"a": 1.0}) == []
    assert means.add(9_000, {"a": 3.0, "b": 5.0}) == []
    assert sorted(means.add(12_000, {"a": 7.0})) == [("a", 10_000, 0, 2.0), ("b", 10_000, 0, 5.0)]
    assert means.take() == [("a", 10_000, 10_000, 7.0)]
    assert means.take() == []


async def test_samples_are_taken_while_something_moves_and_then_no_more(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.control import sampling

    monkeypatch.setattr(sampling, "_IDLE_S", 1)
    sampler = room.manager.desk.sampling
    await room.outcome(await room.submit())
    timer = sampler._timer
    assert timer is not None
    # As the timer does, without waiting for it.
    timer.cancel()
    sampler._tick()
    assert getattr(sampler, "_timer") is None  # noqa: B009 (the type checker does not know of the tick)
    async with asyncio.timeout(5):
        while not (found := await room.call(SamplesRead(names=("queue.q.*",), step_ms=1_000))):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert {one.name for one in found} == {
        f"queue.q.{name}" for name in ("waiting", "running", "in", "out", "p50", "p95")
    }
    assert {"pool.p.busy", "running"} <= set(room.store.readers.series())
    with pytest.raises(AiwmError):
        await room.call(SamplesRead(step_ms=7))


async def test_a_run_ends_with_the_connection_of_whoever_asked(room: Room) -> None:
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    caller = msgspec.structs.replace(CALLER, gone=gone)
    running = asyncio.ensure_future(room.manager.desk.tasks.run(TaskRun(queue="still"), caller))
    async with asyncio.timeout(5):
        while not room.manager.waiters._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        gone.set_result(None)
        outcome = await running
    assert outcome.state == "pending"
    await asyncio.sleep(0)
    assert not room.manager.waiters._waiting


async def test_the_seeds_names_of_a_submits_arguments_are_understood(room: Room) -> None:
    params = {
        "queueName": "still",
        "workItemDefinitionName": "part",
        "payloadOverrideJSON": '{"count": 3}',
        "targetWorkerCriteriaOverrideJSON": {"definitionName": "echo"},
        "priorityOverride": 0,
        "dataSourceRefsOverrideList": ["docs"],
    }
    request = decode_request(TaskSubmit, msgspec.Raw(msgspec.json.encode(params)))
    assert isinstance(request, TaskSubmit)
    task = await room.call(TaskShow(id=(await room.call(request)).id))
    assert (task.row.queue, task.row.priority, task.row.definition) == ("still", 0, "echo")
    assert task.payload["count"] == 3
    with pytest.raises(AiwmError) as caught:
        decode_request(TaskSubmit, msgspec.Raw(b'{"queueNam": "q"}'))
    assert caught.value.info.field == "queueNam"
