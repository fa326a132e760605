"""Tasks that wait for other tasks: released, failed, at any moment and after any crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.contract.errors import AiwmError
from engine.contract.ids import task_seq
from engine.contract.requests.fleet import QueueExplain, QueueResume
from engine.contract.requests.tasks import TaskCancel, TaskExplain, TaskList, TaskRetry, TaskSubmit
from engine.workers.kinds.template import TemplateWorker
from engine.workers.template import TaskInput, TaskOutput, WorkerContext
from tests.support.room import Room


@pytest.fixture
async def room(home: Path) -> AsyncIterator[Room]:
    made = Room(home)
    await made.manager.start(dispatch=True)
    yield made
    await made.close()


async def _after(room: Room, *ids: str, queue: str = "q", **more: int) -> str:
    return (await room.call(TaskSubmit(queue=queue, after=ids, **more))).id  # type: ignore[arg-type]


async def test_a_chain_runs_in_its_order_whatever_the_priorities_say(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    async def note(self: TemplateWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
        ran.append(task.id)
        return TaskOutput(result=None)

    monkeypatch.setattr(TemplateWorker, "process", note)
    first = (await room.call(TaskSubmit(queue="still"))).id
    second = await _after(room, first, priority=5)
    third = await _after(room, second, first, priority=9)
    assert (await room.call(TaskList(where="after>0"))).total == 2
    await room.call(QueueResume(name="still"))
    assert (await room.outcome(third)).state == "completed"
    assert ran == [first, second, third]


async def test_what_has_completed_holds_nothing_up(room: Room) -> None:
    first = await room.submit()
    await room.outcome(first)
    assert (await room.outcome(await _after(room, first))).state == "completed"


async def test_a_cancel_fails_all_that_waited_with_the_reason(room: Room) -> None:
    first = (await room.call(TaskSubmit(queue="still"))).id
    second = await _after(room, first)
    third = await _after(room, second)
    await room.call(TaskCancel(ids=(first,)))
    outcomes = [await room.outcome(identifier) for identifier in (second, third)]
    assert [outcome.state for outcome in outcomes] == ["failed", "failed"]
    assert [outcome.error.code for outcome in outcomes if outcome.error] == ["dependency_failed"] * 2
    assert outcomes[0].error is not None
    assert first in outcomes[0].error.message
    assert second in outcomes[1].error.message  # type: ignore[union-attr]


async def test_what_cannot_come_true_is_refused(room: Room) -> None:
    with pytest.raises(AiwmError, match="does not exist") as caught:
        await _after(room, "t-zzzzz")
    assert caught.value.info.field == "after"
    first = (await room.call(TaskSubmit(queue="still"))).id
    await room.call(TaskCancel(ids=(first,)))
    with pytest.raises(AiwmError, match="been cancelled") as caught:
        await _after(room, first)
    assert caught.value.info.fix == f"aiwm task retry {first}"


async def test_why_says_after_and_a_queue_counts_them(room: Room) -> None:
    first = (await room.call(TaskSubmit(queue="still"))).id
    second = await _after(room, first)
    why = await room.call(TaskExplain(id=second))
    (gate,) = [gate for gate in why.gates if gate.name == "after"]
    assert gate.closed
    assert first in gate.why
    assert "after" in [gate.name for gate in (await room.call(QueueExplain(name="q"))).gates if gate.closed]
    (row,) = (await room.call(TaskList(where=f"id:{second}"))).rows
    assert (row.after, row.reason) == (1, "after")


async def test_an_end_while_the_dependent_is_being_stored_is_not_missed(room: Room) -> None:
    for _ in range(20):
        first, second = await asyncio.gather(room.submit(), room.submit())
        dependents = [asyncio.ensure_future(_after(room, first, second)) for _ in range(3)]
        for identifier in await asyncio.gather(*dependents):
            assert (await room.outcome(identifier)).state == "completed"


async def test_a_retry_waits_again_for_what_it_waited_for(room: Room) -> None:
    first = (await room.call(TaskSubmit(queue="still"))).id
    second = await _after(room, first)
    await room.call(TaskCancel(ids=(first,)))
    await room.outcome(second)
    refused = await room.call(TaskRetry(ids=(second,)))
    assert first in refused.refused[second]
    await room.call(TaskRetry(ids=(first,)))
    assert (await room.call(TaskRetry(ids=(second,)))).retried == [second]
    assert room.store.readers.task(task_seq(second)).blocked == 1  # type: ignore[union-attr]
    await room.call(QueueResume(name="still"))
    assert (await room.outcome(second)).state == "completed"


async def test_a_start_settles_what_the_last_engine_left(home: Path) -> None:
    room = Room(home)
    await room.manager.start(dispatch=False)
    dependencies = room.manager.desk.dependencies
    lost, done = [(await room.call(TaskSubmit(queue="q"))).id for _ in range(2)]
    waits_for_lost, waits_for_done = await _after(room, lost), await _after(room, done)
    # The engine ends between the end of a task and what follows from it.
    dependencies._awaited.clear()
    await room.call(TaskCancel(ids=(lost,)))
    await room.close()
    room = Room(home)
    await room.manager.start(dispatch=True)
    try:
        assert (await room.outcome(waits_for_lost)).state == "failed"
        assert (await room.outcome(waits_for_done)).state == "completed"
    finally:
        await room.close()


async def test_a_blocked_task_is_cancelled_like_any_other_and_its_deadline_holds(room: Room) -> None:
    first = (await room.call(TaskSubmit(queue="still"))).id
    second = await _after(room, first)
    assert (await room.call(TaskCancel(ids=(second,)))).cancelled == [second]
    late = await _after(room, first, deadline_ms=room.manager._clock.wall_ms() + 100)
    outcome = await room.outcome(late)
    assert (outcome.state, outcome.error.code if outcome.error else "") == ("failed", "deadline_passed")


async def test_hundreds_wait_for_one(room: Room) -> None:
    first = (await room.call(TaskSubmit(queue="still"))).id
    ids = await asyncio.gather(*(_after(room, first) for _ in range(300)))
    await room.call(QueueResume(name="still"))
    for identifier in ids:
        assert (await room.outcome(identifier)).state == "completed"
    assert not room.manager.desk.dependencies._awaited
