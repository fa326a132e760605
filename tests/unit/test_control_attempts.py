"""Attempts with the real scheduler, journal and store, in one process: the moments between a start and an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.contract.errors import AiwmError
from engine.contract.ids import task_seq
from engine.contract.notifications import StreamChunk
from engine.contract.query import matches, parse
from engine.contract.requests.tasks import TaskCancel, TaskShow, TaskSubmit
from engine.contract.states import TaskState
from engine.control import metering
from engine.ports import Delta, GenerateRequest, Message, Outcome
from engine.workers.kinds.template import TemplateWorker
from engine.workers.template import TaskInput, TaskOutput, WorkerContext
from tests.support.room import NoModels, Room


@pytest.fixture
async def room(home: Path) -> AsyncIterator[Room]:
    made = Room(home)
    await made.manager.start(dispatch=True)
    yield made
    await made.close()


Process = Callable[[TemplateWorker, TaskInput, WorkerContext], Any]


async def _forever(self: TemplateWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_cancel_before_the_first_step_ends_the_task(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TemplateWorker, "process", _forever)
    launch = room.manager.attempts._launch
    stopped: list[int] = []

    def launch_and_stop(running: Any) -> None:
        launch(running)
        stopped.append(running.seq)
        room.manager.attempts._stop(running, "cancelled")

    monkeypatch.setattr(room.manager.attempts, "_launch", launch_and_stop)
    outcome = await room.outcome(await room.submit())
    assert stopped
    assert outcome.state == "cancelled"


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_cancel_while_it_runs(room: Room, monkeypatch: pytest.MonkeyPatch, idempotent: bool) -> None:
    monkeypatch.setattr(TemplateWorker, "process", _forever)
    monkeypatch.setattr(TemplateWorker, "idempotent", idempotent)
    identifier = await room.submit()
    while not len(room.manager.attempts):  # noqa: ASYNC110 (every turn of the loop is a moment worth a try)
        await asyncio.sleep(0)
    await room.call(TaskCancel(ids=(identifier,)))
    assert (await room.outcome(identifier)).state == "cancelled"
    assert room.manager.dispatcher.running == 0


@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_stopping_gives_back_what_runs_at_any_moment(
    room: Room, monkeypatch: pytest.MonkeyPatch, idempotent: bool, turns: int
) -> None:
    monkeypatch.setattr(TemplateWorker, "process", _forever)
    monkeypatch.setattr(TemplateWorker, "idempotent", idempotent)
    ids = [await room.submit() for _ in range(4)]
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(4):
        await room.manager.stop()
    states = {room.store.readers.task_row(seq).state for seq in range(1, 5)}  # type: ignore[union-attr]
    assert len(ids) == 4
    assert states == {TaskState.pending.value}


async def test_a_worker_that_raises_is_a_failure_with_its_words(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: TemplateWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
        raise ValueError("the soup is cold")

    monkeypatch.setattr(TemplateWorker, "process", broken)
    ack = await room.call(TaskSubmit(queue="q", max_attempts=1))
    outcome = await room.outcome(ack.id)
    assert outcome.state == "failed"
    assert outcome.error is not None
    assert "the soup is cold" in outcome.error.message


async def test_a_result_that_is_not_json_or_too_large_fails_the_task(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = iter([{1, 2}, "x" * (5 * 2**20)])

    async def strange(self: TemplateWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
        result = next(results)
        return TaskOutput(result=object() if isinstance(result, set) else result)

    monkeypatch.setattr(TemplateWorker, "process", strange)
    for expected in ("not JSON", "more than"):
        ack = await room.call(TaskSubmit(queue="q", max_attempts=1))
        outcome = await room.outcome(ack.id)
        assert outcome.error is not None
        assert expected in outcome.error.message


async def test_a_memory_task_is_seen_and_waited_for_right_after_its_acknowledgement(room: Room) -> None:
    for n in range(30):
        ack = await room.call(TaskSubmit(queue="m", payload={"n": n}))
        assert (await room.call(TaskShow(id=ack.id))).row.queue == "m"
        assert (await room.outcome(ack.id)).result is not None


async def test_one_key_is_one_task_in_a_memory_queue_too(room: Room) -> None:
    first = await room.call(TaskSubmit(queue="m", idempotency_key="k"))
    second = await room.call(TaskSubmit(queue="m", idempotency_key="k"))
    assert (second.id, second.duplicate) == (first.id, True)


async def test_max_length_holds_for_submits_at_once(room: Room) -> None:
    submits = [room.call(TaskSubmit(queue="short")) for _ in range(40)]
    done = await asyncio.gather(*submits, return_exceptions=True)
    refused = [error for error in done if isinstance(error, AiwmError)]
    assert len(refused) == 35
    assert {error.code for error in refused} == {"queue_full"}


async def test_a_retry_without_a_pause_gives_no_further_attempts(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: TemplateWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
        raise ValueError("no")

    monkeypatch.setattr(TemplateWorker, "process", broken)
    outcome = await room.outcome(await room.submit())
    row = room.store.readers.task_row(1)
    assert row is not None
    assert (outcome.state, outcome.attempt, row.attempt, row.max_attempts) == ("failed", 3, 3, 3)


async def test_an_end_that_cannot_be_stored_fails_the_task_and_frees_its_place(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.control import execution

    monkeypatch.setattr(execution, "_count", lambda _: 2**63)
    outcome = await room.outcome(await room.submit())
    assert outcome.state == "failed"
    assert outcome.error is not None
    assert "cannot be stored" in outcome.error.message
    assert len(room.manager.attempts) == 0


async def test_whoever_follows_a_task_hears_that_it_was_cancelled_while_it_waited(room: Room) -> None:
    ack = await room.call(TaskSubmit(queue="short"))
    heard: asyncio.Queue[StreamChunk] = asyncio.Queue()

    def hear(chunk: StreamChunk) -> bool:
        heard.put_nowait(chunk)
        return True

    room.texts.follow(task_seq(ack.id), 0, hear, "me")
    await room.call(TaskCancel(ids=(ack.id,)))
    async with asyncio.timeout(5):
        while not (chunk := await heard.get()).ended:
            pass
    assert chunk.state == "cancelled"


class _Silent:
    """A model that says one word and then nothing; it is its own generation."""

    outcome = Outcome(reason="cancelled", text="a", tokens_in=1, tokens_out=1, first_token_ms=1.0, total_ms=2.0)
    context = 1_000

    async def generate(self, *_: Any) -> _Silent:
        return self

    async def __aiter__(self) -> AsyncIterator[Delta]:
        yield Delta("a", 1)
        await asyncio.Event().wait()

    async def cancel(self) -> None:
        """It never ends by itself."""


async def test_an_instance_whose_model_has_fallen_silent_is_stuck_and_a_fault(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talks(self: TemplateWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
        async for delta in await context.generate(GenerateRequest(messages=(Message(role="user", content="?"),))):
            context.write(delta.text)
        raise AssertionError

    monkeypatch.setattr(TemplateWorker, "process", talks)
    monkeypatch.setattr(NoModels, "handle", lambda *_: _Silent())
    identifier = await room.submit()
    seq = task_seq(identifier)
    while not room.texts.knows(seq):  # noqa: ASYNC110
        await asyncio.sleep(0)
    (row,) = [row for row in room.manager.tables.instances() if row.task == identifier]
    faults = parse(":instances is:fault")
    assert (row.state, matches(faults, row, 0)) == ("busy", False)
    monkeypatch.setattr(metering, "STUCK_S", 0.0)
    (row,) = [row for row in room.manager.tables.instances() if row.task == identifier]
    assert (row.state, row.note, matches(faults, row, 0)) == ("stuck", "no token for 0m00s", True)
    await room.call(TaskCancel(ids=(identifier,)))
    assert (await room.outcome(identifier)).state == "cancelled"
    while any(row.state != "idle" for row in room.manager.tables.instances()):  # noqa: ASYNC110
        await asyncio.sleep(0)
