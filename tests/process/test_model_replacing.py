"""What is not simply started: servers of others, memory that strangers hold, definitions that are replaced, routes whose models rest."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest

from engine.clock import SystemClock
from engine.contract.definitions import Backend, ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.memory import ModelPlan
from engine.inference.commands.program import free_port
from engine.inference.commands.server import ServerSettings
from engine.inference.memory.gpus import Gpus
from engine.inference.memory.ledger import Ledger
from engine.inference.memory.plan import Way
from engine.inference.operations import ModelOperations
from engine.inference.remote.connection import Timeouts
from engine.inference.remote.factory import elsewhere
from engine.inference.remote.settings import RemoteSettings
from engine.inference.supervision import Policy
from engine.inference.voices import Voices, routed
from engine.ports import ReplicaState
from engine.requests.caller import Caller
from tests.support.fake_nvml import FakeNvml
from tests.support.models import POLICY, ModelHouse, read
from tests.support.remote import Ring
from tests.support.tiny_model import write_model
from tests.support.waiting import until

PROGRAM = Path(__file__).parents[1] / "support" / "server_program.py"
G = 2**30
CALLER = Caller(id=1, principal="ana", client="test", read_only=False, send=lambda _: True)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    before = set(psutil.Process().children())
    for name in ("tiny", "other"):
        write_model(tmp_path / "models" / name)
    yield tmp_path
    assert set(psutil.Process().children()) <= before


@pytest.fixture
async def house(home: Path) -> AsyncIterator[ModelHouse]:
    house = ModelHouse(home)
    far = elsewhere(
        RemoteSettings(Timeouts(2.0, 20.0, 20.0), 60_000, 60_000, 60_000, 0.2),
        keys=Ring("127.0.0.1"),
        clock=SystemClock(),
        events=house.events,
        member=lambda name: house.service.served(name),
        held=lambda *_: nullcontext(None),
    )
    house.open(elsewhere=far, servers=ServerSettings(probe_every=0.05, policy=POLICY))
    yield house
    await house.service.close()


def states(house: ModelHouse) -> dict[str, str]:
    return {row.id: row.state for row in house.service.rows()}


def latest(house: ModelHouse, replica: str) -> ReplicaState:
    return next(it for it in reversed(house.told) if it.replica == replica)


# -- servers that are not ours -------------------------------------------------------------------------------------------------


async def test_no_work_starts_on_an_adopted_server_before_it_was_seen(house: ModelHouse) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    house.book.defined["m"] = ModelDefinition(name="m", backend=Backend.command, url=url, slots=2)
    house.service.publish("m")
    assert (latest(house, "m.0").total, url in latest(house, "m.0").why) == (0, True)
    await until(lambda: house.replica("m").server.life.crashes > 3)  # looked for again and again
    assert {it.total for it in house.told if it.replica == "m.0"} == {0}
    assert house.events.types.count("model.crashed") == 1  # and told once
    words = [sys.executable, str(PROGRAM), "--port", str(port), "--name", "m"]
    program = await asyncio.create_subprocess_exec(*words, stdout=subprocess.DEVNULL)
    try:
        await until(lambda: latest(house, "m.0").total == 2)  # found by itself
        generation = await house.ask("it is there", model="m")
        assert "".join(await read(generation)).split() == ["it", "is", "there"]
    finally:
        program.kill()
        await program.wait()
    await until(lambda: latest(house, "m.0").total == 0)
    assert latest(house, "m.0").until_ms is not None


# -- memory that others hold ---------------------------------------------------------------------------------------------------


async def test_a_model_waits_for_memory_that_strangers_hold_and_comes_when_they_go(house: ModelHouse) -> None:
    free = [1_000_000]
    house.open(ledger=Ledger(0, Gpus(lambda: FakeNvml(broken=True)), host=lambda: (64 * G, free[0])))
    asked = asyncio.ensure_future(house.ask())
    await until(lambda: states(house).get("tiny.0") == "limited")
    told = latest(house, "tiny.0")
    assert told.total == 0  # no task is started for it, which would fail
    assert told.why.endswith("which processes hold that are not ours: aiwm model plan tiny")
    assert "model.refused" not in house.events.types
    free[0] = 32 * G
    await read(await asked)
    assert states(house)["tiny.0"] in ("ready", "busy")


async def test_what_is_promised_to_one_process_is_not_given_to_another_of_its_model(house: ModelHouse) -> None:
    one = house.service.situation.need(house.service.local("tiny")).bytes
    limit = int(one * 2.5)
    house.open(replicas=3, ledger=Ledger(limit, Gpus(lambda: FakeNvml(broken=True)), host=lambda: (64 * G, 64 * G)))
    await house.service.load("tiny")
    room, situation, model = house.service.room, house.service.situation, house.service.local("tiny")
    second = model.grow()
    assert second is not None
    situation.promise(second, situation.need(model), Way(1, "", 0, 0, "CPU"))
    await room.admit(model, model.processes[0])  # it runs: nothing to do, and nobody's promise is broken
    assert not situation.fits(model)
    await room.admit(model, second)  # it has what was promised to it
    await until(lambda: states(house) == {"tiny.0": "ready", "tiny.1": "ready"})


async def test_growing_pushes_nobody_out(house: ModelHouse, home: Path) -> None:
    write_model(home / "models" / "other", max_position_embeddings=100_000)
    path = str(home / "models" / "other")
    house.book.defined["other"] = ModelDefinition(name="other", path=path, context=120)
    one = house.service.situation.need(house.service.local("tiny")).bytes
    host = [64 * G]
    ledger = Ledger(int(one * 2.5), Gpus(lambda: FakeNvml(broken=True)), host=lambda: (64 * G, host[0]))
    house.open(replicas=2, patience=0.0, context=120, ledger=ledger)
    await house.service.load("tiny")
    model = house.service.local("tiny")
    process = model.grow()
    assert process is not None
    assert house.service.situation.fits(model)  # as the scheduler's wish finds it
    running = await house.ask(model="other", max_tokens=100)  # and somebody else is quicker
    await house.service.room.add(model, process)
    assert (process.startable, model.waits) == (True, "")
    await read(running)
    assert "model.evicted" not in house.events.types
    assert running.outcome.reason == "length"


async def test_a_plan_says_that_a_model_is_over_its_own_limit(house: ModelHouse, home: Path) -> None:
    path = str(home / "models" / "tiny")
    operations = ModelOperations(house.service, SystemClock())
    assert (await operations.plan(ModelPlan(name="tiny"), CALLER)).note == ""
    house.book.defined["tiny"] = ModelDefinition(name="tiny", path=path, memory_bytes=20_000_000)
    house.service.definition_changed("tiny")
    note = (await operations.plan(ModelPlan(name="tiny"), CALLER)).note
    assert note.startswith("a process of it may hold 19M (memory_bytes) and is planned to take ")


# -- definitions that are replaced ---------------------------------------------------------------------------------------------


async def test_what_is_replaced_is_counted_and_shown_until_it_has_gone_and_takes_no_more_work(
    house: ModelHouse, home: Path
) -> None:
    write_model(home / "models" / "tiny", max_position_embeddings=100_000)
    house.service.publish("tiny")
    running = await house.ask(max_tokens=90_000)
    pieces = aiter(running)
    await anext(pieces)
    before = house.service.situation.uses()
    url = f"http://127.0.0.1:{free_port()}/v1"
    house.book.defined["tiny"] = ModelDefinition(name="tiny", backend=Backend.command, url=url)
    house.service.definition_changed("tiny")
    assert latest(house, "tiny.0").gone
    await until(lambda: states(house).get("tiny.0") == "draining")
    assert [use.pid for use in house.service.situation.uses()] == [
        use.pid for use in before
    ]  # its memory is its own still
    assert latest(house, "tiny-2.0").total == 0
    await running.cancel()
    await until(lambda: "tiny.0" not in states(house))
    assert house.service.situation.uses() == []
    assert latest(house, "tiny.0").gone  # nothing was told of it since


async def test_a_replica_too_many_does_not_come_back_from_a_crash(house: ModelHouse, home: Path) -> None:
    house.open(replicas=2, policy=Policy(first_rest=0.2, longest_rest=0.2, max_crashes=9))
    await house.service.load("tiny")
    house.service.grow("tiny")
    await until(lambda: states(house) == {"tiny.0": "ready", "tiny.1": "ready"})
    second = house.replica(number=1)
    os.kill(second.pid, signal.SIGKILL)
    await until(lambda: states(house).get("tiny.1") == "backoff")
    house.book.defined["tiny"] = ModelDefinition(name="tiny", path=str(home / "models" / "tiny"), replicas=1)
    house.service.definition_changed("tiny")
    assert states(house) == {"tiny.0": "ready"}
    assert latest(house, "tiny.1").gone
    house.book.defined["tiny"] = ModelDefinition(name="tiny", path=str(home / "models" / "tiny"), replicas=2)
    house.service.definition_changed("tiny")
    house.service.grow("tiny")
    await until(lambda: states(house) == {"tiny.0": "ready", "tiny.1": "ready"})
    house.book.defined["tiny"] = ModelDefinition(name="tiny", path=str(home / "models" / "tiny"), replicas=1)
    house.service.definition_changed("tiny")
    assert states(house)["tiny.1"] == "ready"  # what runs goes on
    os.kill(second.pid, signal.SIGKILL)
    await until(lambda: not second.life.alive)
    assert states(house) == {"tiny.0": "ready"}
    assert second.life.restarts == 0


# -- routes ----------------------------------------------------------------------------------------------------------------------


async def test_a_route_whose_models_all_rest_takes_no_work_until_one_is_back(house: ModelHouse) -> None:
    closed = f"http://127.0.0.1:{free_port()}/v1"
    for name in ("far", "farther"):
        house.book.defined[name] = ModelDefinition(name=name, backend=Backend.openai, url=closed, remote="m")
    house.book.defined["way"] = ModelDefinition(name="way", backend=Backend.hybrid, route=("far", "farther"))
    house.service.publish("way")
    assert latest(house, "way").total is None
    with pytest.raises(AiwmError) as caught:
        await read(await house.ask(model="way"))
    assert caught.value.code == Code.model_unavailable
    told = latest(house, "way")
    assert (told.total, told.until_ms) == (0, min(it.until_ms or 0 for it in house.told if it.until_ms))
    assert "far: unreachable" in told.why
    house.book.defined["far"] = ModelDefinition(name="far", path=str(house.home / "models" / "tiny"))
    house.service.definition_changed("far")
    assert latest(house, "way").total == 3  # the local one's slots


def test_a_route_is_as_open_as_its_models() -> None:
    def state(model: str, total: int | None, until_ms: int | None = None) -> ReplicaState:
        return ReplicaState(model=model, replica=model, total=total, until_ms=until_ms, why="" if total else "rests")

    own = state("way", None)
    assert routed(own, [[], []]) == own
    assert routed(own, [[state("a", 0, 90)], [state("b", 0, 50)]]).until_ms == 50
    assert routed(own, [[state("a", 0, 90)], []]).total == 0
    assert routed(own, [[state("a", 0)], [state("b", 1)]]).total == 1  # one that is tried by one call: no crowd
    assert routed(own, [[state("a", 2), state("a", 2)], [state("b", None)]]).total is None
    assert routed(state("way", 3), [[state("a", 2), state("a", 2)]]).total == 3


def test_what_was_replaced_is_heard_no_more() -> None:
    told: list[ReplicaState] = []
    voices = Voices(told.append)
    old = voices.of("m")
    old(ReplicaState(model="m", replica="m", total=2))
    new = voices.of("m")
    assert told[-1].gone
    old(ReplicaState(model="m", replica="m", total=2))
    assert told[-1].gone
    new(ReplicaState(model="m", replica="m", total=1))
    assert [it.total for it in told] == [2, 0, 1]
