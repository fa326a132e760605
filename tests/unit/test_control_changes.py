"""Changes of tasks as operations: what they are about, later, first the canaries, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract.definitions import PoolDefinition, QueueDefinition, RetryPolicy
from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_seq
from engine.contract.records import EventRow
from engine.contract.requests.fleet import PoolShow, QueueCreate, QueueResume
from engine.contract.requests.operations import (
    OperationDefer,
    OperationDetail,
    OperationList,
    OperationShow,
    OperationUndo,
)
from engine.contract.requests.tasks import (
    TaskCancel,
    TaskExplain,
    TaskMove,
    TaskPriority,
    TaskRetry,
    TaskShow,
    TaskSubmit,
)
from engine.store.rows import EVENT_COLUMNS, event_row
from engine.workers.kinds.template import TemplateWorker
from engine.workers.template import TaskInput, TaskOutput, WorkerContext
from tests.support.room import Room


@pytest.fixture
async def room(home: Path) -> AsyncIterator[Room]:
    made = Room(home)
    await made.manager.start(dispatch=True)
    yield made
    await made.close()


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Payloads' names that work; everything else fails."""
    good: set[str] = set()

    async def process(self: TemplateWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
        if task.payload.get("name") not in good:
            raise ValueError("not yet")
        return TaskOutput(result=task.payload)

    monkeypatch.setattr(TemplateWorker, "process", process)
    return good


async def _failed(room: Room, *names: str) -> list[str]:
    ids = []
    for name in names:
        ids.append((await room.call(TaskSubmit(queue="q", payload={"name": name}, max_attempts=1))).id)
    for identifier in ids:
        assert (await room.outcome(identifier)).state == "failed"
    return ids


async def _still(room: Room, count: int, **more: Any) -> list[str]:
    return [(await room.call(TaskSubmit(queue="still", **more))).id for _ in range(count)]


async def _operation(room: Room, identifier: str, wanted: Callable[[OperationDetail], bool]) -> OperationDetail:
    async with asyncio.timeout(10):
        while not wanted(found := await room.call(OperationShow(id=identifier))):  # noqa: ASYNC110 (it is in the store)
            await asyncio.sleep(0.005)
    return found


def _state(room: Room, identifier: str) -> str:
    row = room.store.readers.task_row(task_seq(identifier))
    assert row is not None
    return row.state


def _events(room: Room, **wanted: str) -> list[EventRow]:
    found = room.store.readers._connection.execute("SELECT seq FROM events ORDER BY seq").fetchall()
    rows = [
        event_row(
            room.store.readers._connection.execute(f"SELECT {EVENT_COLUMNS} FROM events WHERE seq = ?", seq).fetchone()
        )
        for seq in found
    ]
    return [row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]


# -- what it is about ------------------------------------------------------------------------------------------------------


async def test_a_filter_is_resolved_once_to_the_tasks_that_fit(room: Room, works: set[str]) -> None:
    failed = await _failed(room, "a", "b")
    waiting = await _still(room, 2)
    plan = (await room.call(TaskRetry(where="submitted>1h", dry_run=True))).plan
    assert plan is not None
    assert (plan.request, plan.effect, plan.ids, plan.count) == ("task.retry", "write", failed, 2)
    plan = (await room.call(TaskCancel(where=":tasks submitted>1h", dry_run=True))).plan
    assert plan is not None
    assert (plan.effect, plan.ids) == ("destructive", waiting)
    assert [_state(room, it) for it in (*failed, *waiting)] == ["failed", "failed", "pending", "pending"]
    assert await room.call(OperationList()) == []


async def test_a_filter_that_fits_more_than_are_counted_is_refused_not_cut(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.store.window.COUNT_LIMIT", 5)
    monkeypatch.setattr("engine.control.operations.changes.MOST", 5)
    waiting = await _still(room, 6)
    with pytest.raises(AiwmError, match="one change takes at most 5"):
        await room.call(TaskCancel(where="submitted>1h"))
    assert {_state(room, it) for it in waiting} == {"pending"}
    await room.call(TaskCancel(ids=(waiting[0],)))
    assert len((await room.call(TaskCancel(where="submitted>1h state:pending"))).cancelled) == 5


async def test_ids_or_a_filter_but_not_neither_nor_both(room: Room) -> None:
    for request in (TaskCancel(), TaskCancel(ids=("t-10001",), where="queue:q"), TaskCancel(where="  ")):
        with pytest.raises(AiwmError, match="either by ids or by where"):
            await room.call(request)
    with pytest.raises(AiwmError, match="does not exist"):
        await room.call(TaskCancel(ids=("t-zzzzz",)))


async def test_each_refusal_says_why_and_holds_up_no_other(room: Room, works: set[str]) -> None:
    works.add("good")
    done = (await room.call(TaskSubmit(queue="q", payload={"name": "good"}))).id
    await room.outcome(done)
    (failed,) = await _failed(room, "bad")
    works.add("bad")
    retried = await room.call(TaskRetry(ids=(done, failed)))
    assert retried.retried == [failed]
    assert retried.refused == {done: "it has completed"}
    assert (await room.call(OperationShow(id=retried.operation))).refused == retried.refused


async def test_every_change_is_an_audit_event_with_its_operation_and_so_are_its_tasks(room: Room) -> None:
    (waiting,) = await _still(room, 1)
    done = await room.call(TaskCancel(ids=(waiting,), reason="enough"))
    (audit,) = _events(room, level="audit", about=done.operation)
    assert (audit.type, audit.who, audit.correlation) == ("task.cancel", "operator", done.operation)
    assert "enough" in audit.text
    (cancelled,) = _events(room, type="task.cancelled")
    assert (cancelled.task, cancelled.correlation) == (waiting, done.operation)


# -- retry with changes ------------------------------------------------------------------------------------------------------


async def test_a_retry_changes_what_it_says(room: Room, works: set[str]) -> None:
    (failed,) = await _failed(room, "bad")
    works.add("fine")
    await room.call(TaskRetry(ids=(failed,), set={"name": "fine", "deep": {"x": 1}}, priority=3))
    outcome = await room.outcome(failed)
    assert outcome.result == {"name": "fine", "deep": {"x": 1}}
    assert (await room.call(TaskShow(id=failed))).row.priority == 3


async def test_a_task_that_was_cancelled_before_it_ran_runs_with_what_its_retry_changed(
    room: Room, works: set[str]
) -> None:
    works.update(("old", "new"))
    (waiting,) = await _still(room, 1, payload={"name": "old"})
    await room.call(TaskCancel(ids=(waiting,)))
    await room.call(TaskRetry(ids=(waiting,), set={"name": "new"}))
    await room.call(QueueResume(name="still"))
    assert (await room.outcome(waiting)).result == {"name": "new"}


async def test_a_task_that_waits_for_its_time_is_let_go(room: Room, works: set[str]) -> None:
    works.add("fine")
    later = (await room.call(TaskSubmit(queue="q", payload={"name": "fine"}, due_ms=2**52))).id
    refused = (await room.call(TaskRetry(ids=(later,), set={"name": "other"}))).refused
    assert "waits for its time" in refused[later]
    assert _state(room, later) == "scheduled"
    done = await room.call(TaskRetry(ids=(later,)))
    assert (await room.outcome(later)).result == {"name": "fine"}
    undone = await room.call(OperationUndo(id=done.operation or ""))
    assert "waits no longer" in undone.refused[later]
    assert _state(room, later) == "completed"


async def _closed(room: Room, task: str) -> list[tuple[str, str | None]]:
    return [(gate.name, gate.fix) for gate in (await room.call(TaskExplain(id=task))).gates if gate.closed]


async def test_a_backoff_is_cut_short(room: Room, works: set[str]) -> None:
    patient = QueueDefinition(name="patient", pools=("p",), retry=RetryPolicy(max_retries=1, delay_ms=600_000))
    await room.call(QueueCreate(definition=patient))
    task = (await room.call(TaskSubmit(queue="patient", payload={"name": "fine"}))).id
    async with asyncio.timeout(10):
        while _state(room, task) != "retrying":  # noqa: ASYNC110 (it is in the store)
            await asyncio.sleep(0.005)
        # It is stored as waiting a moment before the instance that tried it is free again.
        while await _closed(room, task) != [("backoff", f"aiwm task retry {task}")]:  # noqa: ASYNC110 (the engine tells nobody)
            await asyncio.sleep(0.005)
    works.add("fine")
    await room.call(TaskRetry(ids=(task,)))
    assert (await room.outcome(task)).attempt == 2


async def test_an_adapter_goes_into_the_payload(room: Room, works: set[str]) -> None:
    (failed,) = await _failed(room, "bad")
    works.add("bad")
    await room.call(TaskRetry(ids=(failed,), adapter="invoice-de@v4"))
    assert (await room.outcome(failed)).result["adapters"] == [{"name": "invoice-de@v4"}]  # type: ignore[index]


async def test_a_change_that_the_template_forbids_is_refused(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    ack = await room.call(TaskSubmit(template="part", queue="still", payload={"count": 1}))
    await room.call(TaskCancel(ids=(ack.id,)))
    refused = (await room.call(TaskRetry(ids=(ack.id,), set={"count": 0}))).refused
    assert "minimum" in refused[ack.id]
    assert _state(room, ack.id) == "cancelled"


async def test_the_front_is_before_everything_and_first_come_first_served(room: Room) -> None:
    important = await _still(room, 1, priority=1000)
    ids = await _still(room, 3)
    await room.call(TaskCancel(ids=tuple(ids[1:])))
    for identifier in ids[1:]:
        await room.call(TaskRetry(ids=(identifier,), front=True))
    page = room.store.readers.page("still", "", "", None, 10)
    order = [task.seq for task in page]
    assert order == [task_seq(it) for it in (ids[1], ids[2], important[0], ids[0])]


# -- move and priority -------------------------------------------------------------------------------------------------------


async def test_waiting_tasks_move_and_run_where_they_came_to(room: Room) -> None:
    ids = await _still(room, 3)
    moved = await room.call(TaskMove(ids=tuple(ids), queue="q"))
    assert moved.changed == ids
    for identifier in ids:
        assert (await room.outcome(identifier)).state == "completed"
    refused = (await room.call(TaskMove(ids=(ids[0],), queue="still"))).refused
    assert refused == {ids[0]: "it has completed"}


async def test_a_priority_decides_who_runs_first_and_can_be_taken_back(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    async def note(self: TemplateWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
        ran.append(task.id)
        return TaskOutput(result=None)

    monkeypatch.setattr(TemplateWorker, "process", note)
    ids = await _still(room, 4)
    await room.call(TaskPriority(ids=(ids[3],), priority=10))
    second = await room.call(TaskPriority(ids=(ids[2],), priority=20))
    await room.call(OperationUndo(id=second.operation))
    await room.call(TaskMove(ids=(ids[1],), front=True))
    await room.call(QueueResume(name="still"))
    for identifier in ids:
        await room.outcome(identifier)
    assert ran == [ids[1], ids[3], ids[0], ids[2]]


async def test_a_scheduled_task_keeps_its_time_when_it_moves(room: Room) -> None:
    now = room.manager._clock.wall_ms()
    ack = await room.call(TaskSubmit(queue="still", due_ms=now + 150))
    await room.call(TaskMove(ids=(ack.id,), queue="q"))
    assert _state(room, ack.id) == "scheduled"
    assert (await room.outcome(ack.id)).state == "completed"
    assert room.manager._clock.wall_ms() >= now + 150


# -- later, and back ---------------------------------------------------------------------------------------------------------


async def test_what_is_undone_before_it_is_due_never_happens(room: Room) -> None:
    ids = await _still(room, 2)
    later = await room.call(TaskCancel(ids=tuple(ids), delay_ms=300))
    assert later.due_ms is not None
    assert (await room.call(OperationShow(id=later.operation))).row.state == "waiting"
    undone = await room.call(OperationUndo(id=later.operation))
    assert (undone.state, undone.taken_back) == ("undone", ids)
    soon = await room.call(TaskCancel(ids=(ids[0],), delay_ms=350))
    await _operation(room, soon.operation, lambda it: it.row.state == "done")
    assert [_state(room, it) for it in ids] == ["cancelled", "pending"]
    with pytest.raises(AiwmError, match="was undone already"):
        await room.call(OperationUndo(id=later.operation))


async def test_a_delay_outlives_the_engine(home: Path) -> None:
    room = Room(home)
    await room.manager.start(dispatch=False)
    kept, gone, taken = await _still(room, 3)
    due = await room.call(TaskCancel(ids=(gone,), delay_ms=50))
    undone = await room.call(TaskCancel(ids=(kept,), delay_ms=50))
    far = await room.call(TaskCancel(ids=(taken,), delay_ms=60_000))
    await room.call(OperationUndo(id=undone.operation))
    room.manager.desk.close()
    await asyncio.sleep(0.06)
    await room.close()
    room = Room(home)
    await room.manager.start(dispatch=False)
    try:
        await _operation(room, due.operation, lambda it: it.row.state == "done")
        assert [_state(room, it) for it in (kept, gone, taken)] == ["pending", "cancelled", "pending"]
        assert (await room.call(OperationUndo(id=far.operation))).state == "undone"
        # Numbers go on where they were.
        assert (await room.call(TaskCancel(ids=(kept,)))).operation == "op-4"
    finally:
        await room.close()


async def test_what_was_due_while_nothing_could_be_stored_is_done_when_it_can_be(room: Room) -> None:
    (waiting,) = await _still(room, 1)
    later = await room.call(TaskCancel(ids=(waiting,), delay_ms=30))
    journal, undertakings = room.store.journal, room.manager.desk.undertakings
    journal._failure = "no space left"
    async with asyncio.timeout(10):
        while later.operation in undertakings._timers:  # noqa: ASYNC110 (it is the clock's)
            await asyncio.sleep(0.005)
        while undertakings._under_way:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert _state(room, waiting) == "pending"
    with pytest.raises(AiwmError, match="no space left"):
        await room.call(TaskCancel(ids=(waiting,)))
    journal._failure = None
    room.manager._storage_recovered()
    await _operation(room, later.operation, lambda it: it.row.state == "done")
    assert _state(room, waiting) == "cancelled"
    assert [row.id for row in await room.call(OperationList())] == [later.operation]


async def test_undo_of_a_cancel_puts_back_what_waited_where_it_was(room: Room) -> None:
    ids = await _still(room, 3)
    done = await room.call(TaskCancel(ids=tuple(ids)))
    await room.call(TaskRetry(ids=(ids[0],)))
    undone = await room.call(OperationUndo(id=done.operation))
    assert undone.taken_back == ids[1:]
    assert undone.refused == {ids[0]: "it is pending"}
    page = room.store.readers.page("still", "", "", None, 10)
    assert [task.seq for task in page] == [task_seq(it) for it in (*ids[1:], ids[0])]


async def test_undo_of_a_retry_puts_back_what_has_not_run(room: Room, works: set[str]) -> None:
    failed = await _failed(room, "a", "b")
    fail = room.store.readers.task_row(task_seq(failed[0])).fail  # type: ignore[union-attr]
    room.manager.enable(False, "test")
    done = await room.call(TaskRetry(ids=tuple(failed)))
    assert [_state(room, it) for it in failed] == ["pending", "pending"]
    undone = await room.call(OperationUndo(id=done.operation))
    assert undone.taken_back == failed
    row = room.store.readers.task_row(task_seq(failed[0]))
    assert row is not None
    assert (row.state, row.fail, row.error) == ("failed", fail, "task_failed")
    room.manager.enable(True)
    works |= {"a", "b"}
    again = await room.call(TaskRetry(ids=tuple(failed)))
    for identifier in failed:
        assert (await room.outcome(identifier)).state == "completed"
    undone = await room.call(OperationUndo(id=again.operation))
    assert undone.taken_back == []
    assert undone.refused == dict.fromkeys(failed, "it has completed")


async def test_undo_of_a_retry_gives_the_payload_back_too(room: Room, works: set[str]) -> None:
    failed = await _failed(room, "a")
    room.manager.enable(False, "test")
    done = await room.call(
        TaskRetry(ids=tuple(failed), adapter="x@v2", set={"name": "b", "new": 1}, priority=5, front=True)
    )
    task = await room.call(TaskShow(id=failed[0]))
    assert (task.row.priority, task.row.adapter, task.payload["name"]) == (5, "x@v2", "b")
    assert (await room.call(OperationUndo(id=done.operation))).taken_back == failed
    task = await room.call(TaskShow(id=failed[0]))
    assert (task.row.state, task.row.priority, task.row.adapter) == ("failed", 0, "")
    assert task.payload == {"name": "a"}


async def test_any_request_can_be_done_later(room: Room) -> None:
    row = await room.call(OperationDefer(request="pool.scale", params={"name": "p", "max_total": 3}, delay_ms=50))
    await _operation(room, row.id, lambda it: it.row.state == "done")
    assert (await room.call(PoolShow(name="p"))).definition.max_total == 3
    assert isinstance((await room.call(PoolShow(name="p"))).definition, PoolDefinition)
    with pytest.raises(AiwmError, match="cannot be taken back"):
        await room.call(OperationUndo(id=row.id))
    bad = await room.call(OperationDefer(request="pool.scale", params={"name": "nope"}, delay_ms=1))
    failed = await _operation(room, bad.id, lambda it: it.row.state == "failed")
    assert "nope" in failed.row.text
    for request, params in (("task.list", {}), ("pool.scale", {"nome": "p"})):
        with pytest.raises(AiwmError):
            await room.call(OperationDefer(request=request, params=params))


# -- canaries ----------------------------------------------------------------------------------------------------------------


async def test_the_rest_follows_when_the_canary_has_completed(room: Room, works: set[str]) -> None:
    failed = await _failed(room, *"abcd")
    works |= set("abcd")
    done = await room.call(TaskRetry(ids=tuple(failed), canary=1))
    assert (done.retried, done.held) == ([failed[0]], 3)
    over = await _operation(room, done.operation, lambda it: it.row.state == "done")
    assert set(over.done) == set(failed)
    for identifier in failed:
        assert (await room.outcome(identifier)).state == "completed"


async def test_the_rest_stays_when_the_canary_fails(room: Room, works: set[str]) -> None:
    failed = await _failed(room, *"abc")
    done = await room.call(TaskRetry(ids=tuple(failed), canary=1))
    held = await _operation(room, done.operation, lambda it: it.row.state == "held")
    assert f"{failed[0]} did not complete" in held.row.text
    assert [room.store.readers.task(task_seq(it)).attempt for it in failed[1:]] == [1, 1]  # type: ignore[union-attr]


async def test_an_undo_that_cannot_be_stored_leaves_the_rest_to_follow(
    room: Room, works: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = asyncio.Event()

    async def process(self: TemplateWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
        if "good" not in works:
            raise ValueError("not yet")
        await hold.wait()
        return TaskOutput(result={})

    monkeypatch.setattr(TemplateWorker, "process", process)
    ids = await _failed(room, "a", "b")
    works.add("good")
    retried = await room.call(TaskRetry(ids=tuple(ids), canary=1))
    undertakings = room.manager.desk.undertakings

    async def no_room(*_: Any) -> None:
        raise AiwmError(Code.storage_failed, "no space left")

    monkeypatch.setattr(undertakings._changes, "put_back", no_room)
    with pytest.raises(AiwmError, match="no space left"):
        await room.call(OperationUndo(id=retried.operation))
    hold.set()
    for identifier in ids:
        async with asyncio.timeout(10):
            while _state(room, identifier) != "completed":  # noqa: ASYNC110 (it is in the store)
                await asyncio.sleep(0.005)
    await _operation(room, retried.operation, lambda it: it.row.state == "done")


async def test_a_canary_that_is_refused_gives_its_place_to_the_next(room: Room, works: set[str]) -> None:
    failed = await _failed(room, *"abc")
    works |= set("abc")
    room.manager.enable(False, "test")
    first = await room.call(TaskRetry(ids=(failed[0],)))
    done = await room.call(TaskRetry(ids=tuple(failed), canary=1))
    assert (done.retried, done.refused) == ([failed[1]], {failed[0]: "it is pending"})
    assert first.retried == [failed[0]]
    undone = await room.call(OperationUndo(id=done.operation))
    assert undone.taken_back == [failed[1]]
    room.manager.enable(True)
    await room.outcome(failed[0])
    assert [_state(room, it) for it in failed] == ["completed", "failed", "failed"]


@pytest.mark.parametrize("good", [True, False])
async def test_a_canary_outlives_the_engine(home: Path, works: set[str], good: bool) -> None:
    room = Room(home)
    await room.manager.start(dispatch=True)
    failed = await _failed(room, *"abc")
    room.manager.enable(False, "test")
    done = await room.call(TaskRetry(ids=tuple(failed), canary=1))
    await room.close()
    works |= set("abc") if good else set()
    room = Room(home)
    await room.manager.start(dispatch=True)
    try:
        over = await _operation(room, done.operation, lambda it: it.row.state in ("done", "held"))
        assert over.row.state == ("done" if good else "held")
        for identifier in failed if good else failed[:1]:
            assert (await room.outcome(identifier)).state == ("completed" if good else "failed")
        attempts = [room.store.readers.task(task_seq(it)).attempt for it in failed]  # type: ignore[union-attr]
        assert attempts[1:] == ([2, 2] if good else [1, 1])
    finally:
        await room.close()


async def test_what_was_being_done_is_finished_and_nothing_is_done_twice(home: Path, works: set[str]) -> None:
    room = Room(home)
    await room.manager.start(dispatch=True)
    failed = await _failed(room, *"abc")
    log, changes = room.manager.desk.operation_log, room.manager.desk.undertakings._changes
    running = log.begin("task.retry", "operator", ids=tuple(failed), settings={"set": {}}, state="running")
    await log.write(running)
    # The engine ends when one of three is done, has run, and has failed again.
    await changes.retry(running, TaskRetry(), failed[:1])
    await room.outcome(failed[0])
    await room.close()
    works |= set("abc")
    room = Room(home)
    await room.manager.start(dispatch=True)
    try:
        over = await _operation(room, running.id, lambda it: it.row.state == "done")
        assert set(over.done) == set(failed)
        for identifier in failed[1:]:
            assert (await room.outcome(identifier)).state == "completed"
        assert _state(room, failed[0]) == "failed"
    finally:
        await room.close()


def test_the_settings_of_every_change_can_be_stored() -> None:
    from engine.control.undertakings import CHANGES

    for kind in CHANGES.values():
        more = {"priority": 3} if kind is TaskPriority else {}
        request = kind(ids=("t-10001",), **more)
        assert msgspec.convert(msgspec.to_builtins(request), kind) == request
