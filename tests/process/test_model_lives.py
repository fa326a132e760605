"""Models in real processes: how many there are and who waits for them, how long they stay, how they die and what their logs keep."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest

from engine.clock import SystemClock
from engine.contract.definitions import Backend, ModelDefinition
from engine.contract.errors import AiwmError
from engine.contract.requests.logs import LogList, LogRead
from engine.contract.requests.memory import ModelCrashes, ModelKeep, ModelLoad, ModelPlan, ModelRestart, ModelUnload
from engine.contract.requests.metrics import MetricsRead
from engine.inference.commands.server import ServerSettings
from engine.inference.log_operations import LogOperations
from engine.inference.operations import ModelOperations
from engine.inference.process_log import MAX_BYTES, bound
from engine.inference.remote.connection import Timeouts
from engine.inference.remote.factory import elsewhere
from engine.inference.remote.settings import RemoteSettings
from engine.inference.supervision import ProcessState
from engine.ports import Generation
from tests.support.models import POLICY, ModelHouse, read
from tests.support.remote import Ring
from tests.support.three_models import CALLER, open_models, states, three_models
from tests.support.tiny_model import write_model
from tests.support.waiting import until

LONG = 90_000


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with three_models(tmp_path) as home:
        yield home


@pytest.fixture
async def house(home: Path) -> AsyncIterator[ModelHouse]:
    async with open_models(home) as house:
        yield house


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
