"""Models in real processes on a home whose memory is too small for all of them: replicas, queues, eviction, crashes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from engine.clock import SystemClock
from engine.contract.definitions import Backend, ModelDefinition
from engine.contract.errors import AiwmError
from engine.contract.requests.logs import LogList, LogRead
from engine.contract.requests.memory import ModelCrashes, ModelKeep, ModelLoad, ModelPlan, ModelRestart, ModelUnload
from engine.contract.requests.metrics import MetricsRead
from engine.inference.commands.server import ServerSettings
from engine.inference.log_operations import LogOperations
from engine.inference.memory.gpus import Gpus
from engine.inference.memory.ledger import Ledger
from engine.inference.operations import ModelOperations
from engine.inference.process_log import MAX_BYTES, bound
from engine.inference.remote.connection import Timeouts
from engine.inference.remote.factory import elsewhere
from engine.inference.remote.settings import RemoteSettings
from engine.inference.supervision import ProcessState
from engine.ports import Generation
from engine.requests.caller import Caller
from tests.support.fake_nvml import FakeNvml
from tests.support.models import POLICY, ModelHouse, read
from tests.support.remote import Ring
from tests.support.tiny_model import write_model
from tests.support.waiting import until

CALLER = Caller(id=1, principal="ana", client="test", read_only=False, send=lambda _: True)
LONG = 90_000


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    before = set(psutil.Process().children())
    for name in ("tiny", "other", "third"):
        write_model(tmp_path / "models" / name)
    yield tmp_path
    assert set(psutil.Process().children()) <= before


@pytest.fixture
async def house(home: Path) -> AsyncIterator[ModelHouse]:
    house = ModelHouse(home)
    house.open()
    yield house
    await house.service.close()


def tight(house: ModelHouse, models: float) -> Ledger:
    """A ledger with room for so many of the house's models (all are of one size)."""
    one = house.service.situation.need(house.service.local("tiny")).bytes
    return Ledger(int(one * models), Gpus(lambda: FakeNvml(broken=True)), host=lambda: (64 * 2**30, 64 * 2**30))


def small(house: ModelHouse, models: float, **settings: Any) -> ModelOperations:
    """The service again, in so little memory."""
    ledger = tight(house, models)
    house.open(ledger=ledger, **settings)
    return ModelOperations(house.service, SystemClock())


def states(house: ModelHouse) -> dict[str, str]:
    return {row.id: row.state for row in house.service.rows()}


# -- replicas and queues -----------------------------------------------------------------------------------------------------


async def test_a_model_grows_by_one_process_when_it_is_asked_to(house: ModelHouse) -> None:
    house.open(replicas=2)
    house.service.grow("tiny")
    assert states(house) == {}  # nothing runs yet: there is nothing to add to
    await house.service.load("tiny")
    house.service.grow("tiny")
    await until(lambda: states(house) == {"tiny.0": "ready", "tiny.1": "ready"})
    house.service.grow("tiny")
    assert len(house.service.local("tiny").processes) == 2  # as many as it may have
    latest = {it.replica: it for it in house.told}
    assert {name: it.total for name, it in latest.items()} == {"tiny.0": 3, "tiny.1": 3}
    generation = await house.ask(replica="tiny.1")
    await read(generation)
    assert generation.outcome.process == "tiny.1"
    house.replica(number=1).stop()
    await until(lambda: any(it.gone and it.replica == "tiny.1" for it in house.told))
    fallen_back = await house.ask(replica="tiny.1")
    await read(fallen_back)
    assert fallen_back.outcome.process == "tiny.0"


async def two_at_once(house: ModelHouse, tokens: int) -> tuple[Generation, Generation]:
    one, two = await asyncio.gather(*(house.ask(max_tokens=tokens, replica=f"tiny.{n}") for n in range(2)))
    await asyncio.gather(read(one), read(two))
    return one, two


async def test_two_processes_write_at_the_same_time(house: ModelHouse, home: Path) -> None:
    write_model(home / "models" / "tiny", max_position_embeddings=100_000, eos_token_id=None)
    house.open(slots=1, replicas=2)
    await house.service.load("tiny")
    house.service.grow("tiny")
    await until(lambda: states(house).get("tiny.1") == "ready")
    one, two = await two_at_once(house, 1_000)
    assert {one.outcome.process, two.outcome.process} == {"tiny.0", "tiny.1"}
    first, second = one.outcome, two.outcome
    # Both began at once: had one waited for the other, its first token would have come after the other's last.
    assert max(first.first_token_ms, second.first_token_ms) < min(first.total_ms, second.total_ms)


async def test_requests_beyond_the_depth_wait_and_none_is_lost(house: ModelHouse) -> None:
    """One runs, ten wait in the process, nine in the engine; all twenty are answered."""
    house.open(slots=1, depth=10)
    await house.service.load("tiny")
    asking = [asyncio.ensure_future(house.ask(max_tokens=20)) for _ in range(20)]
    await until(lambda: house.process.line.waiting == 9)
    assert house.process.requests == 11
    row = house.service.rows()[0]
    assert row.running + row.waiting == 20
    generations = await asyncio.gather(*(answered(asked) for asked in asking))
    assert [generation.outcome.reason for generation in generations] == ["length"] * 20
    assert house.process.line.waiting == house.process.requests == 0
    assert (
        await ModelOperations(house.service, SystemClock()).metrics(MetricsRead(), CALLER)
    ).total_requests_processed == 20


async def answered(asked: asyncio.Task[Generation]) -> Generation:
    generation = await asked
    await read(generation)
    return generation


async def test_who_waits_in_line_when_its_process_dies_is_answered_by_the_next(house: ModelHouse, home: Path) -> None:
    write_model(home / "models" / "tiny", max_position_embeddings=100_000)
    house.open(slots=1, depth=1)
    streaming = await house.ask(max_tokens=LONG)
    reading = asyncio.ensure_future(read(streaming))
    await until(lambda: house.process.tokens_per_second() > 0)
    silent = asyncio.ensure_future(house.ask(max_tokens=5))
    in_line = asyncio.ensure_future(house.ask(max_tokens=5))
    await until(lambda: house.process.line.waiting == 1)
    os.kill(house.process.pid, signal.SIGKILL)
    with pytest.raises(AiwmError) as caught:
        await reading
    assert (caught.value.code, caught.value.info.retryable) == ("model_crashed", True)
    for asked in (silent, in_line):
        generation = await asked
        await read(generation)
        assert generation.outcome.tokens_out == 5


async def test_a_cancelled_wait_gives_its_place_back(house: ModelHouse, home: Path) -> None:
    write_model(home / "models" / "tiny", max_position_embeddings=100_000)
    house.open(slots=1, depth=0)
    running = await house.ask(max_tokens=LONG)
    waiting = [asyncio.ensure_future(house.ask(max_tokens=5)) for _ in range(2)]
    await until(lambda: house.process.line.waiting == 2)
    waiting[0].cancel()
    await until(lambda: house.process.line.waiting == 1)
    await running.cancel()
    await read(running)
    generation = await waiting[1]
    await read(generation)
    assert generation.outcome.tokens_out == 5


async def test_a_deadline_also_ends_the_wait_in_line(house: ModelHouse, home: Path) -> None:
    write_model(home / "models" / "tiny", max_position_embeddings=100_000)
    house.open(slots=1, depth=0)
    running = await house.ask(max_tokens=LONG)
    with pytest.raises(AiwmError) as caught:
        await house.ask(deadline_ms=100)
    assert caught.value.code == "deadline_passed"
    await running.cancel()
    await read(running)


# -- room ------------------------------------------------------------------------------------------------------------------------


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


# -- how long they stay --------------------------------------------------------------------------------------------------------


async def test_idle_models_are_unloaded_and_kept_ones_are_not(house: ModelHouse) -> None:
    house.book.defined["other"] = ModelDefinition(name="other", path=str(house.home / "models" / "other"), idle_ms=-1)
    house.open(idle=0.3)
    operations = ModelOperations(house.service, SystemClock())
    for name in ("tiny", "other", "third"):
        await house.service.load(name)
    await operations.keep(ModelKeep(name="third", keep_ms=3_600_000), CALLER)
    await until(lambda: "tiny.0" not in states(house))
    assert states(house) == {"other.0": "ready", "third.0": "ready"}
    assert "model.idle" in house.events.types
    row = next(row for row in house.service.rows() if row.id == "third.0")
    assert (row.idle_ms, row.keep_until_ms is not None) == (300, True)
    await operations.keep(ModelKeep(name="third", keep_ms=0), CALLER)
    await until(lambda: states(house) == {"other.0": "ready"})
    await read(await house.ask())  # unloaded is not gone


async def test_what_somebody_wished_outlives_the_engine(house: ModelHouse) -> None:
    operations = ModelOperations(house.service, SystemClock())
    await operations.keep(ModelKeep(name="tiny"), CALLER)
    await operations.unload(ModelUnload(name="other", hold="it is broken"), CALLER)
    house.open()
    assert house.service.local("tiny").keep_ms == -1
    with pytest.raises(AiwmError) as caught:
        await house.ask(model="other")
    assert caught.value.code == "model_unavailable"
    assert "stopped by ana: it is broken" in caught.value.info.message
    house.service.publish("other")
    assert (house.told[-1].model, house.told[-1].total) == ("other", 0)
    assert states(house)["other.0"] == "paused"
    await ModelOperations(house.service, SystemClock()).load(ModelLoad(name="other"), CALLER)
    await read(await house.ask(model="other"))


async def test_a_load_says_how_far_it_is_by_what_the_last_one_took(house: ModelHouse) -> None:
    await house.service.load("tiny")
    record = house.service.loads.of("tiny")
    assert record is not None
    assert (record.slots, record.context, record.load_ms > 0) == (3, 128, True)
    house.service.loads.note("tiny", msgspec.structs.replace(record, load_ms=60_000))
    await house.service.close()
    house.open([sys.executable, "-c", "import time; time.sleep(60)"])  # it never gets there; another engine remembers
    house.service.ensure("tiny")
    await until(lambda: house.process.pid is not None)
    (row,) = house.service.rows()
    assert row.state == "starting"
    assert row.progress is not None
    assert 0 <= row.progress < 0.99
    assert row.eta_ms == row.since_ms + 60_000


async def test_a_gentle_unload_lets_what_runs_end(house: ModelHouse) -> None:
    operations = ModelOperations(house.service, SystemClock())
    running = await house.ask(max_tokens=100)
    told = await operations.unload(ModelUnload(name="tiny.0"), CALLER)
    assert (told.processes, told.running) == (("tiny.0",), 1)
    await read(running)
    assert running.outcome.reason == "length"
    await until(lambda: states(house) == {})


async def test_unload_now_ends_what_runs(house: ModelHouse, home: Path) -> None:
    write_model(home / "models" / "tiny", max_position_embeddings=100_000)
    house.open()
    operations = ModelOperations(house.service, SystemClock())
    running = await house.ask(max_tokens=LONG)
    iterator = aiter(running)
    await anext(iterator)
    await operations.unload(ModelUnload(name="tiny", now=True), CALLER)
    with pytest.raises(AiwmError) as caught:
        async for _ in iterator:
            pass
    assert caught.value.code == "model_crashed"
    await until(lambda: states(house) == {})


async def test_a_server_program_is_planned_unloaded_and_remembered_like_our_own(house: ModelHouse) -> None:
    server = Path(__file__).parents[1] / "support" / "server_program.py"
    house.book.defined["server"] = ModelDefinition(
        name="server",
        backend=Backend.command,
        command=(sys.executable, str(server), "--port", "{port}", "--name", "{name}"),
        path=str(house.home / "models" / "tiny"),
        slots=2,
        idle_ms=400,
    )
    ring = Ring("127.0.0.1")
    far = elsewhere(
        RemoteSettings(Timeouts(2.0, 20.0, 20.0), 30, 500, 60_000, 0.2),
        keys=ring,
        clock=SystemClock(),
        events=house.events,
        member=lambda name: house.service.served(name),
        held=lambda *_: nullcontext(None),
    )
    house.open(elsewhere=far, servers=ServerSettings(policy=POLICY))
    operations = ModelOperations(house.service, SystemClock())
    house.service.publish("server")
    assert (house.told[-1].replica, house.told[-1].total) == ("server.0", 2)
    generation = await house.ask("a quick answer", model="server")
    await read(generation)
    assert (generation.outcome.text.split(), generation.outcome.process) == (["a", "quick", "answer"], "server.0")
    plan = await operations.plan(ModelPlan(name="third"), CALLER)
    assert plan.backend == "reference"
    (use,) = house.service.local("server").uses()
    assert use.estimate.total > 0  # it counts, as its file says
    assert house.service.ledger.measured(use) > 1_000_000
    await until(lambda: "server.0" not in states(house))  # idle
    await read(await house.ask("again", model="server"))
    os.kill(house.replica("server").pid, signal.SIGKILL)
    await until(lambda: len(house.service.crashes("server", 3)) == 1)
    (crash,) = house.service.crashes("server", 3)
    assert (crash.signal, crash.process) == ("SIGKILL", "server.0")
    await read(await house.ask("and again", model="server"))


# -- crashes and logs ------------------------------------------------------------------------------------------------------------


async def test_crashes_are_remembered_with_what_they_mean(house: ModelHouse) -> None:
    operations = ModelOperations(house.service, SystemClock())
    for number in range(2):
        await house.service.load("tiny")
        pid = house.process.pid
        os.kill(pid, signal.SIGKILL if number else signal.SIGSEGV)
        await until(lambda pid=pid: house.process.pid not in (pid, None))  # type: ignore[misc]
    first, second = await operations.crashes(ModelCrashes(name="tiny"), CALLER)
    assert (first.process, first.signal, first.code) == ("tiny.0", "SIGKILL", -9)
    assert first.verdict == "killed from outside; the kernel did not count it as a want of memory"
    assert (second.signal, second.verdict) == ("SIGSEGV", "crashed in native code: the log ends with where")
    assert any("Segmentation fault" in line for line in second.stderr)
    assert second.ended_ms >= second.started_ms > 0
    await house.service.close()
    house.open()  # another engine
    assert len(await ModelOperations(house.service, SystemClock()).crashes(ModelCrashes(name="tiny.0"), CALLER)) == 2


async def test_a_given_up_model_is_tried_again_when_somebody_says_so(house: ModelHouse, home: Path) -> None:
    weights = home / "models" / "tiny" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-9])
    with pytest.raises(AiwmError):
        await house.ask()
    weights.write_bytes(whole)
    with pytest.raises(AiwmError):  # it is not tried again at once by itself
        await house.ask()
    await ModelOperations(house.service, SystemClock()).restart(ModelRestart(name="tiny"), CALLER)
    await until(lambda: house.process.state is ProcessState.ready)
    await read(await house.ask())


async def test_a_model_whose_files_went_is_tried_when_they_are_back(house: ModelHouse, home: Path) -> None:
    operations = ModelOperations(house.service, SystemClock())
    await house.service.load("tiny")
    await operations.unload(ModelUnload(name="tiny"), CALLER)
    await until(lambda: states(house) == {})
    folder = home / "models" / "tiny"
    folder.rename(home / "models" / "away")
    with pytest.raises(AiwmError):
        await house.service.load("tiny")
    with pytest.raises(AiwmError) as caught:
        await operations.plan(ModelPlan(name="tiny"), CALLER)
    assert (caught.value.code, "is not there" in caught.value.info.message) == ("model_invalid", True)
    (home / "models" / "away").rename(folder)
    await read(await house.ask())


async def test_a_process_that_passes_its_memory_is_ended(house: ModelHouse, home: Path) -> None:
    path = str(home / "models" / "tiny")
    house.book.defined["tiny"] = ModelDefinition(name="tiny", path=path, memory_bytes=20_000_000)
    house.open()

    async def work() -> None:
        for _ in range(20):
            await read(await house.ask(max_tokens=100))

    with pytest.raises(AiwmError):
        await work()
    crashes = await ModelOperations(house.service, SystemClock()).crashes(ModelCrashes(name="tiny"), CALLER)
    assert crashes[0].verdict == "killed by the engine: it passed its memory_bytes"


async def test_logs_of_this_life_and_the_one_before(house: ModelHouse) -> None:
    logs = LogOperations(house.home, lambda: False, lambda: None)
    await house.service.load("tiny")
    house.process.log.write_text("first life\nsecond line\n")
    os.kill(house.process.pid, signal.SIGKILL)
    await until(lambda: house.process.life.restarts == 1 and house.process.up)
    before = await logs.read(LogRead(name="tiny.0", previous=1, lines=1), CALLER)
    assert before.text == "second line\n"
    (row,) = await logs.all(LogList(), CALLER)
    assert (row.id, row.lives) == ("tiny.0", 1)
    now = await logs.read(LogRead(name="tiny.0"), CALLER)
    assert now.text == ""
    with house.process.log.open("a") as log:
        log.write("more\n")
    more = await logs.read(LogRead(name="tiny.0", after=now.next, life=now.life), CALLER)
    assert more.text == "more\n"
    another = await logs.read(LogRead(name="tiny.0", after=10_000, life=0), CALLER)
    assert another.text == "more\n"  # another file is read from its beginning
    for name in ("../aiwm", "tiny.0/../x", "nobody", ""):
        with pytest.raises(AiwmError) as caught:
            await logs.read(LogRead(name=name), CALLER)
        assert caught.value.code == "not_found"


async def test_a_life_that_wrote_nothing_is_a_life(house: ModelHouse) -> None:
    await house.service.load("tiny")
    os.kill(house.process.pid, signal.SIGKILL)
    await until(lambda: house.process.life.restarts == 1 and house.process.up)
    before = await LogOperations(house.home, lambda: False, lambda: None).read(
        LogRead(name="tiny.0", previous=1), CALLER
    )
    assert before.text == ""
    with pytest.raises(AiwmError) as caught:
        await LogOperations(house.home, lambda: False, lambda: None).read(LogRead(name="tiny.0", previous=2), CALLER)
    assert "no life so long ago" in caught.value.info.message


async def test_a_log_that_a_process_fills_stays_bounded(house: ModelHouse, tmp_path: Path) -> None:
    log = tmp_path / "noisy.log"
    with log.open("ab") as file:
        file.write(b"an old line\n" * (MAX_BYTES // 8))
        file.flush()
        bound(log)
        assert log.stat().st_size < MAX_BYTES / 2
        file.write(b"the newest line\n")
        file.flush()
    lines = log.read_bytes().splitlines()
    assert lines[0] == b"[what was here before is cut]"
    assert set(lines[1:-1]) == {b"an old line"}
    assert lines[-1] == b"the newest line"
