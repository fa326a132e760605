"""Directly spawned instances: spawned, talked to, kept, retired."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.contract.definitions import (
    AdapterUse,
    Cost,
    DefinitionStatus,
    Interaction,
    RateLimits,
    Sampling,
    WorkerDefinition,
)
from engine.contract.errors import AiwmError, Code
from engine.contract.records import ChatTurn, InstanceDetail, Overrides
from engine.contract.requests.base import Request
from engine.contract.requests.fleet import WorkerReload
from engine.contract.requests.instances import (
    InstanceChat,
    InstanceList,
    InstanceRetire,
    InstanceRetired,
    InstanceSet,
    InstanceShow,
    InstanceSpawn,
    InstanceStop,
)
from engine.contract.requests.maintenance import EngineDrain, EngineResume
from engine.contract.states import SEED_INSTANCE_STATES, InstanceState
from engine.control.sessions import store
from engine.control.sessions.session import final_state
from engine.ports import ReplicaState
from tests.support.manager import House, Model, client
from tests.support.waiting import until

ANNA = WorkerDefinition(
    name="anna",
    model="m",
    system="be brief",
    sampling=Sampling(max_tokens=10),
    cost=Cost(input_usd_per_1k=1.0, output_usd_per_1k=2.0),
)


async def _spawn(house: House, **given: Any) -> str:
    detail = await house.call(InstanceSpawn(definition="anna", **given))
    assert detail.row is not None
    return detail.row.id


async def test_a_conversation_is_kept_and_counted(home: Path) -> None:
    async with House(home, ANNA) as house:
        identifier = await _spawn(house, overrides=Overrides(temperature=0.1, adapters=(AdapterUse(name="a"),)))
        first = await house.call(InstanceChat(id=identifier, message="two plus two"))
        assert (first.n, first.text, first.tokens_in, first.tokens_out) == (1, "it is four", 5, 3)
        second = await house.call(InstanceChat(id=identifier, message="sure?"))
        assert second.tokens_in > first.tokens_in
        said = [(message.role, message.content) for message in house.model.asked[1].messages]
        assert said == [
            ("system", "be brief"),
            ("user", "two plus two"),
            ("assistant", "it is four"),
            ("user", "sure?"),
        ]
        assert house.model.asked[1].sampling.temperature == 0.1

        detail = await house.call(InstanceShow(id=identifier))
        assert detail.definition is not None
        assert detail.definition.sampling == Sampling(temperature=0.1, max_tokens=10)
        assert detail.overrides.temperature == 0.1
        assert [turn.message for turn in detail.turns] == ["two plus two", "sure?"]
        assert (detail.tokens_in, detail.tokens_out) == (5 + second.tokens_in, 6)
        assert detail.cost_usd == pytest.approx(detail.tokens_in / 1000 + detail.tokens_out * 2 / 1000)
        assert first.adapters == ("a",)
        (row,) = await house.call(InstanceList(where="definition:anna state:idle"))
        assert (row.done, row.tokens, row.context, row.context_max) == (2, detail.tokens_in + 6, second.context, 100)


async def test_a_session_outlives_its_engine_and_its_number_is_not_used_again(home: Path) -> None:
    async with House(home, ANNA) as house:
        identifier = await _spawn(house)
        await house.call(InstanceChat(id=identifier, message="remember seven"))
    async with House(home, ANNA) as house:
        assert [row.id for row in await house.call(InstanceList())] == [identifier]
        turn = await house.call(InstanceChat(id=identifier, message="what was it"))
        assert turn.n == 2
        assert [message.content for message in house.model.asked[0].messages][1] == "remember seven"
        other = await _spawn(house)
        assert other != identifier


async def test_the_retired_stay_in_the_history_with_reason_and_conversation(home: Path) -> None:
    async with House(home, ANNA) as house:
        identifier = await _spawn(house)
        await house.call(InstanceChat(id=identifier, message="hello"))
        await house.call(InstanceRetire(id=identifier, reason="enough", status="retired_error"))
        assert await house.call(InstanceList()) == []
        (gone,) = await house.call(InstanceRetired(where="definition:anna"))
        assert (gone.id, gone.state, gone.reason, gone.done, gone.by) == (identifier, "failed", "enough", 1, "operator")
        detail = await house.call(InstanceShow(id=identifier))
        assert detail.row is None
        assert [turn.text for turn in detail.turns] == ["it is four"]
        with pytest.raises(AiwmError, match="was retired: enough") as caught:
            await house.call(InstanceChat(id=identifier, message="hello?"))
        assert caught.value.info.fix == "aiwm instance spawn anna"
    async with House(home, ANNA) as house:
        assert [row.id for row in await house.call(InstanceRetired())] == [identifier]


async def test_old_history_is_trimmed_with_its_conversations(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with House(home, ANNA) as house:
        ids = [await _spawn(house) for _ in range(3)]
        for identifier in ids:
            await house.call(InstanceChat(id=identifier, message="hello"))
            await house.call(InstanceRetire(id=identifier))
            house.clock.jump(1_000)
    monkeypatch.setattr(store, "MOST_RETIRED", 1)
    async with House(home, ANNA) as house:
        await until(lambda: len(house.store.readers.documents("turn")) == 1)
        assert [row.id for row in await house.call(InstanceRetired())] == ids[2:]
        with pytest.raises(AiwmError, match="does not exist"):
            await house.call(InstanceShow(id=ids[0]))


async def test_a_full_context_refuses_the_next_turn_with_numbers(home: Path) -> None:
    async with House(home, ANNA, model=Model(context=60)) as house:
        identifier = await _spawn(house)
        house.model.answer = "word " * 30
        await house.call(InstanceChat(id=identifier, message="go on"))
        (row,) = await house.call(InstanceList())
        assert (row.state, row.context) == ("full", 34)
        assert "next turn is refused" in row.note
        with pytest.raises(AiwmError) as caught:
            await house.call(InstanceChat(id=identifier, message="more"))
        assert caught.value.code == Code.context_full
        assert "34 of 60 tokens" in caught.value.info.message
    async with House(home, ANNA, model=Model(context=60)) as house:
        (row,) = await house.call(InstanceList())
        assert row.state == "full"


async def test_a_definition_may_hold_less_than_its_model(home: Path) -> None:
    async with House(home, ANNA) as house:
        identifier = await _spawn(house, overrides=Overrides(context_tokens=50))
        with pytest.raises(AiwmError, match="0 of 50 tokens"):
            await house.call(InstanceChat(id=identifier, message="x" * 400))
        turn = await house.call(InstanceChat(id=identifier, message="short"))
        assert turn.context < 50
        # What is left bounds the answer.
        await house.call(InstanceChat(id=identifier, message="x" * 110))
        assert house.model.asked[-1].sampling.max_tokens < 10


async def test_a_prompt_that_only_the_model_finds_too_long_makes_it_full(home: Path) -> None:
    async with House(home, ANNA, model=Model(context=None)) as house:
        identifier = await _spawn(house)
        house.model.context = 40

        async def refuse(*_: object) -> None:
            raise AiwmError(Code.prompt_too_long, "the prompt has 41 tokens; this model holds 40")

        house.model.generate = refuse  # type: ignore[method-assign, assignment]
        with pytest.raises(AiwmError, match="the prompt has 41 tokens") as caught:
            await house.call(InstanceChat(id=identifier, message="a b"))
        assert caught.value.code == Code.context_full
        assert (await house.call(InstanceList()))[0].state == "full"


async def test_the_answer_comes_in_pieces_and_a_slow_reader_gets_larger_ones(home: Path) -> None:
    async with House(home, ANNA) as house:
        identifier = await _spawn(house)
        pieces: list[Any] = []
        refusals = iter([False, True])

        def send(note: Any) -> bool:
            if next(refusals, True):
                pieces.append(note)
                return True
            return False

        turn = await house.call(InstanceChat(id=identifier, message="hello", stream=True), client(send))
        assert [(piece.offset, piece.text) for piece in pieces] == [(0, "it is "), (6, "four ")]
        assert {piece.turn for piece in pieces} == {turn.n}


async def test_one_turn_at_a_time_and_a_stop_keeps_what_was_said(home: Path) -> None:
    async with House(home, ANNA) as house:
        house.model.hold = asyncio.Event()
        identifier = await _spawn(house)
        with pytest.raises(AiwmError, match="is not answering"):
            await house.call(InstanceStop(id=identifier))
        answer = asyncio.create_task(house.call(InstanceChat(id=identifier, message="hello")))
        await until(lambda: house.model.running == 1)
        assert (await house.call(InstanceList()))[0].state == "busy"
        with pytest.raises(AiwmError) as caught:
            await house.call(InstanceChat(id=identifier, message="and?"))
        assert caught.value.code == Code.busy
        with pytest.raises(AiwmError, match="is answering"):
            await house.call(InstanceSet(id=identifier, state="idle"))
        await house.call(InstanceStop(id=identifier))
        turn = await answer
        assert (turn.text, turn.reason) == ("it is", "cancelled")
        assert (await house.call(InstanceList()))[0].state == "idle"


async def test_a_caller_that_leaves_frees_the_slot(home: Path) -> None:
    async with House(home, ANNA, pool=1) as house:
        house.manager.slots.changed(ReplicaState(model="m", replica="m.0", total=1))
        house.model.hold = asyncio.Event()
        identifier = await _spawn(house)
        chat = asyncio.create_task(
            house.call(InstanceChat(id=identifier, message="hello"), client(lambda _: True, identifier=7))
        )
        await until(lambda: house.model.running == 1)
        task = await house.submit("anna", prompt="hello")
        assert "slots" in (house.manager.dispatcher.gate(1) or "")
        house.manager.sessions.close_client(8)
        assert not chat.done()
        house.manager.sessions.close_client(7)
        with pytest.raises(AiwmError, match="given up"):
            await chat
        house.model.hold.set()
        assert (await house.outcome(task)).state == "completed"
        detail = await house.call(InstanceShow(id=identifier))
        assert detail.turns == ()
        assert detail.row is not None
        assert detail.row.state == "idle"
        # What it read and wrote before counts all the same.
        assert detail.tokens_in > 0


async def test_retiring_ends_an_answer_and_stopping_the_engine_too(home: Path) -> None:
    async with House(home, ANNA) as house:
        house.model.hold = asyncio.Event()
        identifier, other = await _spawn(house), await _spawn(house)
        chats = [asyncio.create_task(house.call(InstanceChat(id=it, message="hello"))) for it in (identifier, other)]
        await until(lambda: house.model.running == 2)
        await house.call(InstanceRetire(id=identifier))
        with pytest.raises(AiwmError):
            await chats[0]
        assert house.model.running == 1
        # What the answer took until then is in the history, and the session is nowhere else.
        assert [(row.id, row.tokens_in > 0) for row in await house.call(InstanceRetired())] == [(identifier, True)]
        assert [row.id for row in await house.call(InstanceList())] == [other]
    with pytest.raises(AiwmError):
        await chats[1]
    assert house.model.running == 0
    async with House(home, ANNA) as house:
        assert [row.id for row in await house.call(InstanceList())] == [other]


async def test_nothing_brings_a_session_back_that_is_being_retired(home: Path) -> None:
    async with House(home, ANNA) as house:
        identifier = await _spawn(house)
        retiring = asyncio.ensure_future(house.call(InstanceRetire(id=identifier)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not retiring.done()
        late: tuple[Request[Any], ...] = (
            InstanceChat(id=identifier, message="hello"),
            InstanceSet(id=identifier, note="x", state="broken"),
            InstanceRetire(id=identifier),
        )
        for request in late:
            with pytest.raises(AiwmError, match="is being retired"):
                await house.call(request)
        await retiring
        other = await _spawn(house)
        setting = house.call(InstanceSet(id=other, note="x", state="broken"))
        await asyncio.gather(setting, house.call(InstanceRetire(id=other)), return_exceptions=True)
        assert await house.call(InstanceList()) == []
    async with House(home, ANNA) as house:
        assert await house.call(InstanceList()) == []


async def test_a_session_stays_when_its_end_cannot_be_stored(home: Path) -> None:
    async with House(home, ANNA) as house:
        identifier = await _spawn(house)
        house.store.journal._failure = "no space left"
        with pytest.raises(AiwmError, match="no space left"):
            await house.call(InstanceRetire(id=identifier))
        house.store.journal._failure = None
        assert (await house.call(InstanceChat(id=identifier, message="hello"))).text == "it is four"


async def test_a_failed_turn_is_told_and_the_next_one_may_work(home: Path) -> None:
    async with House(home, ANNA) as house:
        identifier = await _spawn(house)
        house.model.fails = AiwmError(Code.model_crashed, "it fell over", retryable=True)
        with pytest.raises(AiwmError, match="it fell over"):
            await house.call(InstanceChat(id=identifier, message="hello"))
        (row,) = await house.call(InstanceList(where="is:fault"))
        assert (row.state, row.failed, row.note) == ("broken", 1, "model_crashed: it fell over")
        house.model.fails = None
        await house.call(InstanceChat(id=identifier, message="hello"))
        (row,) = await house.call(InstanceList())
        assert (row.state, row.note, row.done) == ("idle", "", 1)


async def test_who_may_not_be_talked_to_is_refused_by_name(home: Path) -> None:
    workers = (
        ANNA,
        WorkerDefinition(name="off", model="m", status=DefinitionStatus.disabled),
        WorkerDefinition(name="once", model="m", interaction=Interaction.stateless_task),
        WorkerDefinition(name="echo", kind="template"),
    )
    async with House(home, *workers) as house:
        for name, said in (("off", '"off" is disabled'), ("once", '"once" takes single tasks'), ("echo", "no model")):
            with pytest.raises(AiwmError, match=said):
                await house.call(InstanceSpawn(definition=name))
        with pytest.raises(AiwmError) as caught:
            await house.call(InstanceSpawn(definition="ana"))
        assert "anna" in (caught.value.info.fix or "")
        with pytest.raises(AiwmError, match=r"temperature is 11") as caught:
            await house.call(InstanceSpawn(definition="anna", overrides=Overrides(temperature=11)))
        assert caught.value.info.field == "overrides.temperature"
        assert await house.call(InstanceList()) == []


async def test_no_turn_begins_in_maintenance(home: Path) -> None:
    async with House(home, ANNA) as house:
        identifier = await _spawn(house)
        await house.call(EngineDrain(reason="driver"))
        with pytest.raises(AiwmError, match="no new turn begins: maintenance: driver") as caught:
            await house.call(InstanceChat(id=identifier, message="hello"))
        assert caught.value.info.fix == "aiwm engine resume"
        await house.call(EngineResume())
        await house.call(InstanceChat(id=identifier, message="hello"))


async def test_a_pools_instance_is_not_talked_to(home: Path) -> None:
    async with House(home, ANNA, pool=1) as house:
        await house.outcome(await house.submit("anna", prompt="hello"))
        (row,) = await house.call(InstanceList())
        assert (row.pool, row.done, row.context) == ("anna", 1, 6)
        with pytest.raises(AiwmError, match='belongs to pool "anna"'):
            await house.call(InstanceChat(id=row.id, message="hello"))
        detail = await house.call(InstanceRetire(id=row.id, reason="enough"))
        assert detail.retired is not None
        assert (detail.retired.pool, detail.retired.done, detail.retired.tokens_out) == ("anna", 1, 3)
        assert [gone.id for gone in await house.call(InstanceRetired(where="pool:anna"))] == [row.id]


async def test_limits_of_instances_hold_for_sessions_and_pools_together(home: Path) -> None:
    worker = WorkerDefinition(name="anna", model="m", limits=RateLimits(max_instances=2))
    async with House(home, worker, pool=4) as house:
        await house.outcome(await house.submit("anna", prompt="hello"))
        identifier = await _spawn(house)
        with pytest.raises(AiwmError, match="has 2 of at most 2 instances"):
            await _spawn(house)
        await house.call(InstanceRetire(id=identifier))
        await _spawn(house)


async def test_a_session_goes_when_its_definition_changes_not_when_it_is_disabled(home: Path) -> None:
    import msgspec

    async with House(home, ANNA) as house:
        identifier = await _spawn(house)
        house.write_workers(msgspec.structs.replace(ANNA, status=DefinitionStatus.disabled))
        await house.call(WorkerReload())
        with pytest.raises(AiwmError, match='"anna" is disabled'):
            await house.call(InstanceChat(id=identifier, message="hello"))
        house.write_workers(msgspec.structs.replace(ANNA, system="be long"))
        await house.call(WorkerReload())
        await until(lambda: house.manager.instances.get(identifier) is None)
        (gone,) = await house.call(InstanceRetired())
        assert (gone.state, gone.reason) == ("exhausted", 'its definition "anna" changed')


async def test_an_instance_is_set_by_hand(home: Path) -> None:
    async with House(home, ANNA) as house:
        identifier = await _spawn(house)
        detail = await house.call(InstanceSet(id=identifier, state="error", note="odd", tokens_in=5, tokens_out=2))
        assert detail.row is not None
        assert (detail.row.state, detail.row.note, detail.tokens_in, detail.tokens_out) == ("broken", "odd", 5, 2)
        detail = await house.call(InstanceSet(id=identifier, state="idle"))
        assert detail.row is not None
        assert (detail.row.state, detail.row.note) == ("idle", "")
        with pytest.raises(AiwmError, match='cannot be set to "busy"'):
            await house.call(InstanceSet(id=identifier, state="busy"))


def test_the_seeds_words_for_states_are_understood() -> None:
    assert {SEED_INSTANCE_STATES[word] for word in ("context_full", "rate_limited", "error")} == {
        InstanceState.full,
        InstanceState.limited,
        InstanceState.broken,
    }
    given = [
        "retired_completed",
        "completed",
        "token_limit_reached",
        "context_full",
        "retired_error",
        "busy",
        "nonsense",
    ]
    assert [final_state(word).value for word in given] == [
        "completed",
        "completed",
        "spent",
        "full",
        "failed",
        "exhausted",
        "exhausted",
    ]


def test_what_a_turn_and_a_detail_are_survives_the_pipe() -> None:
    import msgspec

    turn = ChatTurn(n=1, at_ms=1, message="a", text="b", reason="stop", tokens_in=1, tokens_out=1, context=2)
    detail = InstanceDetail(turns=(turn,))
    assert msgspec.json.decode(msgspec.json.encode(detail), type=InstanceDetail) == detail
