"""Models in real processes on a home whose memory is too small for all of them: eviction, waiting for room, plans and their ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.clock import SystemClock
from engine.contract.definitions import ModelDefinition
from engine.contract.errors import AiwmError
from engine.contract.requests.memory import ModelKeep, ModelLoad, ModelPlan, ModelRestart, ModelUnload
from engine.inference.memory.gpus import Gpus
from engine.inference.memory.ledger import Ledger
from engine.inference.operations import ModelOperations
from tests.support.fake_nvml import FakeNvml
from tests.support.models import ModelHouse, read
from tests.support.three_models import CALLER, open_models, states, three_models
from tests.support.tiny_model import write_model
from tests.support.waiting import until


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with three_models(tmp_path) as home:
        yield home


@pytest.fixture
async def house(home: Path) -> AsyncIterator[ModelHouse]:
    async with open_models(home) as house:
        yield house


def tight(house: ModelHouse, models: float) -> Ledger:
    """A ledger with room for so many of the house's models (all are of one size)."""
    one = house.service.situation.need(house.service.local("tiny")).bytes
    return Ledger(int(one * models), Gpus(lambda: FakeNvml(broken=True)), host=lambda: (64 * 2**30, 64 * 2**30))


def small(house: ModelHouse, models: float, **settings: Any) -> ModelOperations:
    """The service again, in so little memory."""
    ledger = tight(house, models)
    house.open(ledger=ledger, **settings)
    return ModelOperations(house.service, SystemClock())


async def test_an_idle_model_makes_room_for_one_that_is_needed(house: ModelHouse) -> None:
    small(house, 2.5)
    for name in ("tiny", "other"):
        await read(await house.ask(model=name))
    await until(lambda: (house.process.idle_s or 0) > 0.6)
    await read(await house.ask(model="third"))
    assert states(house) == {"other.0": "ready", "third.0": "ready"}  # the longest idle went
    assert "model.evicted" in house.events.types
    await read(await house.ask(model="tiny"))  # and comes back when it is needed
    assert "tiny.0" in states(house)


async def test_a_kept_model_stays_and_work_for_another_waits_until_it_is_kept_no_longer(house: ModelHouse) -> None:
    operations = small(house, 1.5)
    await house.service.load("tiny")
    await operations.keep(ModelKeep(name="tiny"), CALLER)
    asked = asyncio.ensure_future(house.ask(model="other"))
    await until(lambda: states(house).get("other.0") == "limited")
    told = next(it for it in reversed(house.told) if it.model == "other")
    assert told.total == 0  # no work is started for it, which would cost every task an attempt
    assert told.why.endswith("kept in: aiwm model plan other")
    for evict in ((), ("other.0",)):  # whoever says "load it" is told the numbers at once, and waits for nobody
        with pytest.raises(AiwmError) as caught:
            await operations.load(ModelLoad(name="other", evict=evict), CALLER)
        error = caught.value.info
        assert (error.code, error.fix, error.retryable) == ("model_refused", "aiwm model plan other", True)
        assert "short" in error.message
        assert "kept by somebody" in error.message
    assert states(house)["tiny.0"] == "ready"
    await operations.keep(ModelKeep(name="tiny", keep_ms=0), CALLER)
    await read(await asked)
    assert states(house) == {"other.0": "ready"}


async def test_a_model_that_never_fits_is_refused_once_and_not_when_it_needs_less(house: ModelHouse) -> None:
    small(house, 0.5)
    for _ in range(2):
        with pytest.raises(AiwmError) as caught:
            await house.ask(model="other")
        assert caught.value.code == "model_refused"
    assert states(house) == {"other.0": "refused"}
    assert house.events.types.count("model.refused") == 1  # told once
    house.book.defined["other"] = ModelDefinition(name="other", path=str(house.home / "models" / "other"), slots=1)
    house.service.definition_changed("other")
    assert states(house) == {}


async def test_a_restart_brings_up_as_many_processes_as_the_definition_says_now(house: ModelHouse) -> None:
    house.open(replicas=2)
    operations = ModelOperations(house.service, SystemClock())
    await house.service.load("tiny")
    house.service.grow("tiny")
    await until(lambda: states(house) == {"tiny.0": "ready", "tiny.1": "ready"})
    house.book.defined["tiny"] = ModelDefinition(name="tiny", path=str(house.home / "models" / "tiny"), replicas=1)
    house.service.definition_changed("tiny")
    before = house.process.pid
    await operations.restart(ModelRestart(name="tiny"), CALLER)
    await until(lambda: states(house).get("tiny.0") == "ready" and house.process.pid != before)
    assert not house.replica(number=1).life.alive or house.replica(number=1).life.leaving
    house.service.grow("tiny")
    await until(lambda: states(house) == {"tiny.0": "ready"})


async def test_a_busy_model_is_waited_for_and_gives_way_in_turn(house: ModelHouse, home: Path) -> None:
    write_model(home / "models" / "tiny", max_position_embeddings=100_000)
    house.book.defined["tiny"] = ModelDefinition(name="tiny", path=str(home / "models" / "tiny"), context=120)
    small(house, 1.5, patience=0.3, context=120)
    busy = await house.ask(max_tokens=100)
    asked = asyncio.ensure_future(house.ask(model="other"))
    await until(lambda: states(house).get("other.0") == "limited")
    assert any(it.model == "other" and it.total == 0 for it in house.told)  # no work is started for it meanwhile
    await read(busy)
    assert busy.outcome.reason == "length"  # what ran has ended as it should
    await read(await asked)
    assert states(house) == {"other.0": "ready"}


async def test_a_plan_names_the_ways_and_load_goes_one(house: ModelHouse, home: Path) -> None:
    small(house, 1.5)
    house.open(ledger=house.service.ledger, hits=lambda model: (f"queue of {model}: 7 wait",))
    operations = ModelOperations(house.service, SystemClock())
    await house.service.load("tiny")
    await operations.keep(ModelKeep(name="tiny"), CALLER)
    plan = await operations.plan(ModelPlan(name="other"), CALLER)
    assert not plan.fits
    way = next(it for it in plan.ways if it.text == "unload tiny.0")
    assert way.hit == ("queue of tiny: 7 wait", "somebody keeps it")
    assert (way.fits, way.frees) == (True, plan.estimate.total)
    with pytest.raises(AiwmError) as caught:
        await operations.load(ModelLoad(name="other", way=way.number, plan=plan.id), CALLER)
    assert caught.value.code == "needs_confirmation"
    assert "queue of tiny: 7 wait" in caught.value.info.message
    assert states(house) == {"tiny.0": "ready"}
    loaded = await operations.load(
        ModelLoad(name="other", way=way.number, plan=plan.id, put_back=True, yes=True), CALLER
    )
    assert (loaded.process, loaded.unloaded, loaded.estimate) == ("other.0", ("tiny.0",), plan.estimate.total)
    assert loaded.measured > 0
    assert states(house) == {"other.0": "ready"}
    with pytest.raises(AiwmError) as caught:  # what that plan was made of is not there any more
        await operations.load(ModelLoad(name="other", way=1, plan="p-000000", yes=True), CALLER)
    assert caught.value.code == "conflict"
    await operations.unload(ModelUnload(name="other"), CALLER)
    await until(lambda: states(house) == {"tiny.0": "ready"})  # put back after
    again = await operations.plan(ModelPlan(name="other"), CALLER)
    assert again.measured >= loaded.measured > 0  # beside the estimate
    assert next(it for it in again.ways if it.number == 1).load_ms > 0


async def test_a_shorter_context_is_a_way(house: ModelHouse, home: Path) -> None:
    for name in ("tiny", "other"):
        write_model(home / "models" / name, max_position_embeddings=65_536)
    operations = small(house, 1.4)
    await house.service.load("tiny")
    await operations.keep(ModelKeep(name="tiny"), CALLER)
    plan = await operations.plan(ModelPlan(name="other"), CALLER)
    way = next(it for it in plan.ways if it.text.startswith("a context of"))
    assert way.fits
    await operations.load(ModelLoad(name="other", way=way.number), CALLER)
    context = next(row.context for row in house.service.rows() if row.id == "other.0")
    assert 256 <= context < 65_536
    assert f"{context:,}" in way.text
    assert set(states(house)) == {"tiny.0", "other.0"}


async def test_another_models_context_can_be_halved(house: ModelHouse, home: Path) -> None:
    for name in ("tiny", "other"):
        write_model(home / "models" / name, max_position_embeddings=65_536)
    operations = small(house, 1.85)
    await house.service.load("tiny")
    await operations.keep(ModelKeep(name="tiny"), CALLER)
    plan = await operations.plan(ModelPlan(name="other"), CALLER)
    way = next(it for it in plan.ways if it.text == "half the context of tiny.0, 32,768")
    assert way.fits
    await operations.load(ModelLoad(name="other", way=way.number, yes=True), CALLER)
    await until(lambda: states(house) == {"tiny.0": "ready", "other.0": "ready"})
    assert {row.id: row.context for row in house.service.rows()} == {"tiny.0": 32_768, "other.0": 65_536}
    await operations.unload(ModelUnload(name="other"), CALLER)
    await operations.restart(ModelRestart(name="tiny"), CALLER)  # as it is defined again
    await until(lambda: {row.id: row.context for row in house.service.rows()} == {"tiny.0": 65_536})


async def test_a_model_that_waits_for_room_is_told_when_somebody_holds_it(house: ModelHouse, home: Path) -> None:
    write_model(home / "models" / "tiny", max_position_embeddings=100_000, eos_token_id=None)
    house.open(context=6_000)
    operations = small(house, 1.5, context=6_000)
    busy = await house.ask(max_tokens=5_900)
    asked = asyncio.ensure_future(house.ask(model="other"))
    await until(lambda: states(house).get("other.0") == "limited")
    await operations.unload(ModelUnload(name="other", hold="not tonight"), CALLER)
    with pytest.raises(AiwmError) as caught:
        await asked
    assert (caught.value.code, "not tonight" in caught.value.info.message) == ("model_unavailable", True)
    await busy.cancel()
    await read(busy)


async def test_a_way_that_is_not_enough_is_refused_by_its_number(house: ModelHouse) -> None:
    operations = small(house, 0.05)
    plan = await operations.plan(ModelPlan(name="tiny"), CALLER)
    assert not any(way.fits for way in plan.ways)
    number = plan.ways[0].number if plan.ways else 1
    with pytest.raises(AiwmError) as caught:
        await operations.load(ModelLoad(name="tiny", way=number), CALLER)
    assert caught.value.code in ("model_refused", "bad_request")
    with pytest.raises(AiwmError) as caught:
        await operations.load(ModelLoad(name="tiny", way=0), CALLER)
    assert (caught.value.code, caught.value.info.field) == ("bad_request", "way")
    with pytest.raises(AiwmError) as caught:
        await operations.load(ModelLoad(name="tiny"), CALLER)
    assert caught.value.code == "model_refused"
    longer = await operations.plan(ModelPlan(name="tiny", context=16_384), CALLER)
    assert (longer.context, longer.note) == (128, "tiny is made for 128 tokens: it cannot have 16,384")
    with pytest.raises(AiwmError) as caught:
        await operations.load(ModelLoad(name="tiny", evict=("nobody.0",)), CALLER)
    assert (caught.value.code, caught.value.info.field) == ("not_found", "evict")


async def test_named_processes_are_evicted(house: ModelHouse) -> None:
    operations = small(house, 1.5)
    await house.service.load("tiny")
    await operations.keep(ModelKeep(name="tiny"), CALLER)
    loaded = await operations.load(ModelLoad(name="other", evict=("tiny.0",), drain=True), CALLER)
    assert loaded.unloaded == ("tiny.0",)
    assert states(house) == {"other.0": "ready"}


async def test_one_more_process_is_not_started_where_there_is_no_room_for_it(house: ModelHouse) -> None:
    small(house, 1.5, replicas=2)
    await house.service.load("tiny")
    house.service.grow("tiny")
    assert states(house) == {"tiny.0": "ready"}
