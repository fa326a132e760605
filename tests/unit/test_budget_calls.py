"""The budget before every call: what waits, what goes on, what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract.definitions import RateLimits, Sampling, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.records import ChatTurn
from engine.contract.requests.fleet import WorkerReload
from engine.contract.requests.instances import InstanceChat, InstanceList, InstanceRetire, InstanceSpawn
from engine.contract.requests.limits import LimitRow, LimitsList, LimitsShow
from engine.contract.requests.tasks import TaskCancel, TaskExplain, TaskSubmit
from engine.control.budget import KIND, Call, estimate
from engine.ports import GenerateRequest, Message
from engine.workers.kinds.goat import GoatWorker
from engine.workers.template import TaskInput, TaskOutput, WorkerContext
from tests.support.manager import House
from tests.support.waiting import until

CALL = Call(task="t", attempt=1, definition="anna", model="m", tokens=1)


def _anna(**limits: int) -> WorkerDefinition:
    return WorkerDefinition(name="anna", model="m", sampling=Sampling(max_tokens=10), limits=RateLimits(**limits))


async def _spawn(house: House) -> str:
    detail = await house.call(InstanceSpawn(definition="anna"))
    assert detail.row is not None
    return detail.row.id


async def _say(house: House, identifier: str, **given: Any) -> ChatTurn:
    return await house.call(InstanceChat(id=identifier, message="hello", **given))


async def _limits(house: House) -> LimitRow:
    return await house.call(LimitsShow(name="anna"))


def _state(house: House, identifier: str) -> str:
    instance = house.manager.instances.get(identifier)
    return "gone" if instance is None else instance.state.value


async def _twice(self: GoatWorker, task: TaskInput, context: WorkerContext) -> TaskOutput:
    """A worker that calls its model twice."""
    for _ in range(2):
        request = GenerateRequest(messages=(Message(role="user", content="hello"),), sampling=Sampling(max_tokens=4))
        async for delta in await context.generate(request):
            context.write(delta.text)
    return TaskOutput(result={"text": "done"})


@pytest.fixture
async def house(home: Path) -> AsyncIterator[House]:
    async with House(home, _anna(requests_per_minute=2), pool=2) as made:
        yield made


async def test_a_definition_without_limits_pays_nothing(home: Path) -> None:
    async with House(home, _anna(max_instances=5)) as house:
        await _say(house, await _spawn(house))
        assert house.model.reservations[0].grant == 0
        assert house.store.readers.documents(KIND) == []


async def test_the_third_call_of_a_minute_waits_and_goes_on_when_it_opens(house: House) -> None:
    identifier = await _spawn(house)
    for _ in range(2):
        await _say(house, identifier)
    third = asyncio.create_task(_say(house, identifier))
    await until(lambda: _state(house, identifier) == "limited")
    (row,) = await house.call(InstanceList())
    now = house.clock.wall_ms()
    assert row.until_ms is not None
    assert now + 50_000 < row.until_ms <= now + 60_200
    assert row.note == "anna has used its 2 requests per minute"
    limits = await _limits(house)
    assert (limits.state, limits.requests_per_minute.used, limits.waiting) == ("limited", 2, 1)
    assert limits.opens_ms is not None
    # Whoever comes now goes behind the one that waits.
    assert limits.opens_ms >= row.until_ms - 2

    house.jump(30_000)
    await asyncio.sleep(0.01)
    assert not third.done()
    house.jump(30_200)
    assert (await third).n == 3
    assert _state(house, identifier) == "idle"
    assert (await _limits(house)).opens_ms is None


async def test_the_third_task_waits_at_its_gate_and_says_until_when(house: House) -> None:
    for _ in range(2):
        assert (await house.outcome(await house.submit("anna", prompt="hello"))).state == "completed"
    third = await house.submit("anna", prompt="hello")
    why = await house.call(TaskExplain(id=third))
    closed = [gate for gate in why.gates if gate.closed]
    assert closed[0].name == "rate"
    assert closed[0].opens_ms is not None
    assert house.clock.wall_ms() < closed[0].opens_ms <= house.clock.wall_ms() + 60_200
    house.jump(60_200)
    assert (await house.outcome(third)).state == "completed"


async def test_what_was_used_survives_the_engine(home: Path) -> None:
    async with House(home, _anna(requests_per_minute=2, tokens_per_day=1_000)) as house:
        identifier = await _spawn(house)
        for _ in range(2):
            await _say(house, identifier)
        used = (await _limits(house)).tokens_per_day.used
        assert used > 0
    async with House(home, _anna(requests_per_minute=2, tokens_per_day=1_000)) as house:
        limits = await _limits(house)
        assert (limits.requests_per_minute.used, limits.tokens_per_day.used) == (2, used)
        with pytest.raises(AiwmError, match="2 requests per minute") as caught:
            await _say(house, identifier, wait_ms=0)
        assert caught.value.code == Code.rate_limited
        assert caught.value.info.retryable
        assert "rate_limited" in (await house.call(InstanceList()))[0].note


async def test_a_grant_is_on_disk_before_the_call_is_made(home: Path) -> None:
    async with House(home, _anna(requests_per_minute=5)) as house:
        house.model.hold = asyncio.Event()
        chat = asyncio.create_task(_say(house, await _spawn(house)))
        await until(lambda: house.model.running == 1)
        (document,) = house.store.readers.documents(KIND)
        buckets = msgspec.json.decode(document.json, type=list[tuple[int, int, int]])
        assert sum(calls for _, calls, _ in buckets) == 1
        reserved = sum(tokens for _, _, tokens in buckets)
        house.model.hold.set()
        turn = await chat
        limits = await _limits(house)
        assert limits.tokens_per_minute.used == turn.tokens_in + turn.tokens_out < reserved


async def test_tokens_are_reserved_by_estimate_and_what_was_not_taken_is_given_back(home: Path) -> None:
    async with House(home, _anna(tokens_per_minute=30)) as house:
        house.model.hold = asyncio.Event()
        first, second = await _spawn(house), await _spawn(house)
        one = asyncio.create_task(_say(house, first))
        await until(lambda: house.model.running == 1)
        two = asyncio.create_task(_say(house, second))
        # The first may take 15, so a second call of 15 fits, a third does not; but it takes 4 in the end.
        await until(lambda: house.model.running == 2)
        third = await _spawn(house)
        three = asyncio.create_task(_say(house, third))
        await until(lambda: _state(house, third) == "limited")
        house.model.hold.set()
        assert {(await chat).n for chat in (one, two, three)} == {1}
        assert (await _limits(house)).tokens_per_minute.used == 12


async def test_a_day_that_is_used_up_is_another_state(home: Path) -> None:
    async with House(home, _anna(tokens_per_day=40)) as house:
        identifier = await _spawn(house)
        for _ in range(2):
            await _say(house, identifier, wait_ms=0)
        chat = asyncio.create_task(_say(house, identifier))
        await until(lambda: _state(house, identifier) == "spent")
        await house.call(InstanceRetire(id=identifier))
        with pytest.raises(AiwmError):
            await chat
        assert (await _limits(house)).waiting == 0


async def test_a_call_that_no_window_holds_is_refused_at_once(home: Path) -> None:
    async with House(home, _anna(tokens_per_minute=12), pool=1) as house:
        with pytest.raises(AiwmError, match="needs 15 tokens, anna may use 12 tokens per minute") as caught:
            await _say(house, await _spawn(house))
        assert caught.value.info.fix is not None
        outcome = await house.outcome(
            (await house.call(TaskSubmit(queue="anna", payload={"prompt": "hello"}, max_attempts=1))).id
        )
        assert outcome.error is not None
        assert outcome.error.code == Code.rate_limited


async def test_who_waits_longest_goes_first(house: House) -> None:
    ids = [await _spawn(house) for _ in range(5)]
    for identifier in ids[:2]:
        await _say(house, identifier)
    order: list[str] = []

    async def wait(identifier: str) -> None:
        await _say(house, identifier)
        order.append(identifier)

    waits = []
    for identifier in ids[2:]:
        waits.append(asyncio.create_task(wait(identifier)))
        await until(lambda identifier=identifier: _state(house, identifier) == "limited")  # type: ignore[misc]
    house.jump(60_200)
    await until(lambda: len(order) == 2)
    await asyncio.sleep(0.01)
    assert order == ids[2:4]
    house.jump(60_200)
    await asyncio.gather(*waits)
    assert order == ids[2:]


async def test_raised_limits_let_waiting_calls_go(house: House) -> None:
    identifier = await _spawn(house)
    for _ in range(2):
        await _say(house, identifier)
    task = await house.submit("anna", prompt="hello")
    house.write_workers(_anna(requests_per_minute=20))
    await house.call(WorkerReload())
    assert (await house.outcome(task)).state == "completed"


async def test_a_task_that_waits_in_the_middle_can_be_cancelled(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GoatWorker, "process", _twice)
    await house.manager.budget.reserve(CALL, lambda _: None)
    waits = await house.submit("anna", prompt="x")
    await until(lambda: any(it.state.value == "limited" for it in house.manager.instances.of_pool("anna")))
    await house.call(TaskCancel(ids=(waits,)))
    assert (await house.outcome(waits)).state == "cancelled"
    await until(lambda: all(it.state.value == "idle" for it in house.manager.instances.of_pool("anna")))
    assert (await _limits(house)).waiting == 0


async def test_a_task_that_waits_in_the_middle_keeps_to_its_deadline(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GoatWorker, "process", _twice)
    await house.manager.budget.reserve(CALL, lambda _: None)
    deadline_ms = house.clock.wall_ms() + 300
    request = TaskSubmit(queue="anna", payload={"prompt": "x"}, deadline_ms=deadline_ms, max_attempts=1)
    outcome = await house.outcome((await house.call(request)).id)
    assert outcome.error is not None
    assert (outcome.state, outcome.error.code) == ("failed", Code.deadline_passed)
    assert (await _limits(house)).waiting == 0


async def test_a_call_that_could_not_begin_is_given_back(house: House) -> None:
    async def refuse(*_: object) -> None:
        raise AiwmError(Code.model_crashed, "no", retryable=True)

    house.model.generate = refuse  # type: ignore[method-assign, assignment]
    identifier = await _spawn(house)
    for _ in range(3):
        with pytest.raises(AiwmError, match="no"):
            await _say(house, identifier, wait_ms=0)
    assert (await _limits(house)).requests_per_minute.used == 0


async def test_a_call_that_fails_counts_with_what_it_read(house: House) -> None:
    house.model.fails = AiwmError(Code.model_crashed, "no", retryable=True)
    with pytest.raises(AiwmError, match="no"):
        await _say(house, await _spawn(house))
    limits = await _limits(house)
    assert (limits.requests_per_minute.used, limits.tokens_per_minute.used) == (1, 5)
    assert limits.under_way == 0


async def test_only_definitions_with_limits_are_listed(home: Path) -> None:
    free = WorkerDefinition(name="free", model="m")
    async with House(home, _anna(requests_per_minute=2, max_instances=3), free) as house:
        await _spawn(house)
        (row,) = await house.call(LimitsList())
        assert (row.id, row.state, row.instances.used, row.instances.limit) == ("anna", "open", 1, 3)


def test_an_estimate_is_a_quarter_of_the_prompts_characters_and_the_answers_bound() -> None:
    request = GenerateRequest(
        messages=(Message(role="system", content="x" * 40), Message(role="user", content="y")),
        sampling=Sampling(max_tokens=7),
    )
    assert estimate(request) == 10 + 4 + 0 + 4 + 7


async def test_a_reservation_that_is_given_up_leaves_the_line(house: House) -> None:
    identifier = await _spawn(house)
    for _ in range(2):
        await _say(house, identifier)
    waiting = asyncio.create_task(house.manager.budget.reserve(CALL, lambda _: None))
    await until(lambda: house.manager.budget.held("anna")[0] == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert house.manager.budget.held("anna") == (0, None)
    assert house.manager.dispatcher.budget("anna").waiting == 0
