"""A real model process over a real pipe: streams, cancels, deadlines, crashes, hangs, stray prints, and the death of its engine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from engine.contract.definitions import AdapterUse
from engine.contract.errors import AiwmError
from engine.inference.supervision import ProcessState
from tests.support.models import ModelHouse, read
from tests.support.tiny_model import write_adapter, write_model
from tests.support.waiting import until


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ModelHouse]:
    # Other tests in this process may have left children of their own.
    before = set(psutil.Process().children())
    write_model(tmp_path / "models" / "tiny")
    write_adapter(tmp_path / "adapters" / "style")
    house = ModelHouse(tmp_path)
    house.open()
    yield house
    await house.service.close()
    assert set(psutil.Process().children()) <= before


async def test_text_streams_and_the_outcome_adds_up(house: ModelHouse) -> None:
    house.service.publish("tiny")
    assert house.slots == [("tiny", 3)]  # before the first need: what it will have
    generation = await house.ask(max_tokens=100)
    pieces = await read(generation)
    outcome = generation.outcome
    assert outcome.text == "".join(pieces) != ""
    assert (outcome.reason, outcome.tokens_out) == ("length", 100)
    assert 0 < outcome.first_token_ms <= outcome.total_ms
    row = house.service.rows()[0]
    assert (row.id, row.model, row.state, row.backend, row.slots, row.restarts) == (
        "tiny.0",
        "tiny",
        "ready",
        "reference",
        3,
        0,
    )
    assert row.pid == house.process.pid
    assert row.rss_bytes > 10_000_000
    assert house.service.tokens_per_second() == 10.0  # 100 tokens in the last 10 s, exactly
    assert house.slots[-1] == ("tiny", 3)
    assert house.events.types == ["model.ready"]


async def test_the_same_seed_gives_the_same_text_in_company(house: ModelHouse) -> None:
    alone = await house.ask("same")
    await read(alone)
    together = [await house.ask(text) for text in ("same", "other", "third", "same", "waits for a slot")]
    await asyncio.gather(*(read(generation) for generation in together))
    assert together[0].outcome.text == together[3].outcome.text == alone.outcome.text


async def test_adapters_are_applied_and_named(house: ModelHouse) -> None:
    plain, styled = await house.ask(), await house.ask(adapters=(AdapterUse(name="style", weight=0.8),))
    await read(plain)
    await read(styled)
    assert styled.outcome.text != plain.outcome.text
    (used,) = styled.outcome.adapters
    assert (used.name, used.weight, len(used.digest)) == ("style", 0.8, 64)
    await until(lambda: house.service.rows()[0].adapters == 1)
    with pytest.raises(AiwmError) as caught:
        await house.ask(adapters=(AdapterUse(name="stile"),))
    assert caught.value.code == "adapter_not_found"
    (house.home / "adapters" / "style" / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(AiwmError) as caught:
        await read(await house.ask(adapters=(AdapterUse(name="style"),)))
    assert caught.value.code == "adapter_invalid"
    await read(await house.ask())  # nobody else is harmed


async def test_cancel_ends_a_generation_and_frees_its_slot(house: ModelHouse) -> None:
    long = [await house.ask(max_tokens=100_000) for _ in range(4)]  # one of them waits for a slot
    iterators = [generation.__aiter__() for generation in long[:3]]
    for iterator in iterators:
        await anext(iterator)
    for generation in reversed(long):
        await generation.cancel()
    for iterator in iterators:
        async for _ in iterator:
            pass
    await read(long[3])
    # Without the cancel they would end too, by the context's length; the cancelled end is what shows that it worked.
    assert {generation.outcome.reason for generation in long} <= {"cancelled", "length"}
    assert long[3].outcome.reason == "cancelled"
    await until(lambda: house.process.requests == 0)


async def test_a_reader_that_is_cancelled_cancels_its_generation(house: ModelHouse, tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "tiny", max_position_embeddings=100_000)
    generation = await house.ask(max_tokens=90_000)
    reading = asyncio.ensure_future(read(generation))
    await until(lambda: house.process.steps_per_second() > 0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await until(lambda: house.process.requests == 0)
    await until(lambda: house.process.status is not None and house.process.status.active == 0)


async def test_a_deadline_ends_a_generation(house: ModelHouse, tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "tiny", max_position_embeddings=100_000)
    await read(await house.ask())
    generation = await house.ask(max_tokens=90_000, deadline_ms=150)
    await read(generation)
    assert generation.outcome.reason == "deadline"
    assert generation.outcome.total_ms >= 140


async def test_bad_requests_are_answered_and_harm_nobody(house: ModelHouse) -> None:
    other = await house.ask(max_tokens=60)
    with pytest.raises(AiwmError) as caught:
        await house.ask("x" * 500)
    assert caught.value.code == "prompt_too_long"
    assert (await read(other), other.outcome.reason)[1] == "length"


async def kill(house: ModelHouse) -> None:
    os.kill(house.process.pid, signal.SIGKILL)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_killed_process_is_restarted(house: ModelHouse, tmp_path: Path, streamed: bool) -> None:
    """What has shown text fails as retryable; what has shown none is made again by itself and nobody notices."""
    write_model(tmp_path / "models" / "tiny", max_position_embeddings=100_000)
    await house.service.load("tiny")
    first_pid = house.process.pid
    if streamed:
        generation = await house.ask(max_tokens=90_000)
        iterator = generation.__aiter__()
        await anext(iterator)
        await kill(house)
        with pytest.raises(AiwmError) as caught:
            async for _ in iterator:
                pass
        assert caught.value.code == "model_crashed"
        assert caught.value.info.retryable
        assert "SIGKILL" in caught.value.info.message
    else:
        os.kill(first_pid, signal.SIGSTOP)
        asking = asyncio.ensure_future(house.ask(max_tokens=5))
        await until(lambda: house.process.requests == 1)
        await kill(house)
        generation = await asking
        await read(generation)
        assert generation.outcome.tokens_out == 5
    await house.service.load("tiny")
    assert house.process.pid != first_pid
    assert house.service.rows()[0].restarts == 1
    assert ("tiny", 0) in house.slots  # no work for it while it rests
    assert house.events.types == ["model.ready", "model.crashed", "model.ready"]
    await read(await house.ask())


async def test_a_request_that_kills_every_process_fails_in_the_end(house: ModelHouse) -> None:
    house.open([sys.executable, "-c", "import sys; print('no such module: nano', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(AiwmError) as caught:
        await house.ask()
    assert caught.value.code == "model_crashed"
    assert "exit code 3" in caught.value.info.message
    assert any("no such module: nano" in line for line in caught.value.info.stderr)
    assert house.process.state is ProcessState.failed
    assert house.slots[-1] == ("tiny", 3)  # its tasks get this answer instead of waiting for ever
    assert house.events.types[-1] == "model.failed"


async def test_a_process_that_never_loads_is_given_up(house: ModelHouse) -> None:
    house.open([sys.executable, "-c", "import time; time.sleep(60)"], start_timeout=0.3)
    with pytest.raises(AiwmError) as caught:
        await house.ask()
    assert "not loaded after 0.3 s" in caught.value.info.message
    assert house.events.types == ["model.crashed", "model.crashed", "model.failed"]


@pytest.fixture
async def broken(house: ModelHouse) -> Callable[[str, str], Awaitable[AiwmError]]:
    async def ask(model: str, code: str) -> AiwmError:
        with pytest.raises(AiwmError) as caught:
            await house.ask(model=model)
        assert caught.value.code == code
        return caught.value

    return ask


async def test_models_that_cannot_be_loaded_say_why(
    house: ModelHouse, tmp_path: Path, broken: Callable[[str, str], Awaitable[AiwmError]]
) -> None:
    assert "nowhere" in str(await broken("nowhere", "model_not_found"))
    assert "/no/where" in str(await broken("/no/where", "model_not_found"))
    cut = write_model(tmp_path / "models" / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-9])
    assert "cut short" in str(await broken("cut", "model_invalid"))
    assert "cut short" in str(await broken("cut", "model_invalid"))  # again, at once, from memory
    write_model(tmp_path / "models" / "gpt", architectures=["GPT2LMHeadModel"])
    assert "GPT2LMHeadModel" in str(await broken("gpt", "model_invalid"))
    assert [row.state for row in house.service.rows()] == ["failed", "failed"]
    await read(await house.ask())


async def test_a_hung_process_is_killed_and_its_request_made_again(house: ModelHouse) -> None:
    house.open(hang_timeout=0.6)
    await read(await house.ask())
    os.kill(house.process.pid, signal.SIGSTOP)  # it neither steps nor answers nor dies by SIGABRT
    generation = await house.ask(max_tokens=5)
    await read(generation)
    assert generation.outcome.tokens_out == 5
    crashed = next(text for type, text, _ in house.events.seen if type == "model.crashed")
    assert "for 0.6 s" in crashed


NOISY = """
import os, sys, threading, time
from engine.inference.backends.reference.backend import ReferenceBackend
from engine.inference import process
step = ReferenceBackend.step
def noisy(self):
    print("a stray print")
    os.write(1, b'{"jsonrpc": "2.0", "method": "done"')
    os.system("echo from a child of the child")
    return step(self)
ReferenceBackend.step = noisy
process.main()
"""


async def test_stray_prints_go_to_the_log_and_not_into_the_protocol(house: ModelHouse) -> None:
    house.open([sys.executable, "-c", NOISY])
    generation = await house.ask(max_tokens=3)
    await read(generation)
    assert generation.outcome.tokens_out == 3
    log = (house.home / "logs" / "tiny.0.log").read_text()
    assert "a stray print" in log
    assert "from a child of the child" in log


BROKEN_STEP = """
from engine.inference.backends.reference.backend import ReferenceBackend
from engine.inference import process
def broken(self):
    raise ZeroDivisionError("a bug in the step")
ReferenceBackend.step = broken
process.main()
"""


async def test_a_bug_in_a_step_ends_the_process_with_its_traceback(house: ModelHouse) -> None:
    house.open([sys.executable, "-c", BROKEN_STEP])
    generation = await house.ask()
    with pytest.raises(AiwmError) as caught:
        await read(generation)
    assert caught.value.code == "model_crashed"
    assert any("a bug in the step" in line for line in caught.value.info.stderr)


async def test_a_memory_limit_is_an_answer(house: ModelHouse, tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "tiny", max_position_embeddings=2_000_000)
    house.open(memory_limit=900_000_000)
    with pytest.raises(AiwmError) as caught:
        await house.ask()
    assert caught.value.code == "model_too_big"


async def test_drain_and_stop(house: ModelHouse) -> None:
    running = await house.ask(max_tokens=100)
    house.process.drain()
    with pytest.raises(AiwmError) as caught:
        await house.process.generate(object(), object())
    assert caught.value.code == "model_unavailable"
    await read(running)
    assert running.outcome.reason == "length"
    await until(lambda: house.process.state is ProcessState.stopped)
    await read(await house.ask())  # and it comes back when it is needed
    house.process.stop()
    await house.process.stopped()
    assert house.service.rows() == []
    assert house.process.pid is None


ENGINE = """
import asyncio, sys
from pathlib import Path
from tests.support.models import ModelHouse

async def main():
    house = ModelHouse(Path(sys.argv[1]))
    await house.open(slots=1).load("tiny")
    print(house.process.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_the_process_dies_with_its_engine(tmp_path: Path, stopped: bool) -> None:
    """Also when it is stopped and could not notice the end of its stdin."""
    write_model(tmp_path / "models" / "tiny")
    engine = subprocess.Popen([sys.executable, "-c", ENGINE, str(tmp_path)], stdout=subprocess.PIPE)
    assert engine.stdout is not None
    child = psutil.Process(int(engine.stdout.readline()))
    if stopped:
        child.suspend()
    engine.kill()
    engine.wait()
    engine.stdout.close()
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


def test_nothing_heavy_is_imported_by_the_engine_side() -> None:
    """numpy, tokenizers and jinja2 belong to the model process."""
    code = (
        "import sys, engine.inference.service, engine.inference.streams;"
        "print([m for m in ('numpy', 'tokenizers', 'jinja2', 'torch') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
