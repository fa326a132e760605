"""What stands around model processes: the line in front of one, what their ends mean, and where models for GPUs would go."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.clock import SystemClock
from engine.contract.definitions import Backend, ModelDefinition
from engine.contract.errors import AiwmError
from engine.contract.requests.memory import ModelPlan
from engine.inference.crashes import exit_text, verdict
from engine.inference.launch import load_of, settings_of
from engine.inference.line import Line, Moved
from engine.inference.memory.gpus import Gpus
from engine.inference.memory.ledger import Ledger
from engine.inference.operations import ModelOperations
from engine.inference.settings import ProcessSettings
from engine.requests.caller import Caller
from tests.support.fake_nvml import FakeGpu, FakeNvml
from tests.support.models import ModelHouse
from tests.support.tiny_model import write_model

CALLER = Caller(id=1, principal="ana", client="test", read_only=False, send=lambda _: True)
G = 2**30


@given(st.integers(1, 4), st.lists(st.sampled_from(["enter", "leave", "cancel", "turn"]), max_size=60))
@settings(max_examples=50, deadline=None)
def test_a_line_never_lets_in_more_than_it_may_and_keeps_the_order(most: int, events: list[str]) -> None:
    async def work() -> None:
        line, inside, order = Line(most), 0, []
        waiting: list[tuple[int, asyncio.Task[None]]] = []
        number = 0

        def settle() -> None:
            nonlocal inside
            for which, task in list(waiting):
                if task.done():
                    waiting.remove((which, task))
                    if not task.cancelled():
                        inside += 1
                        order.append(which)

        for event in events:
            if event == "enter":
                waiting.append((number, asyncio.ensure_future(line.enter())))
                number += 1
            elif event == "leave" and inside:
                inside -= 1
                line.leave()
            elif event == "cancel" and waiting:
                waiting[len(waiting) // 2][1].cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            settle()
            assert inside <= most
            assert line.waiting == len(waiting)
            assert not waiting or inside == most  # nobody waits while there is a place
        assert order == sorted(order)
        line.break_up("p.0", "failed")
        for result in await asyncio.gather(*(task for _, task in waiting), return_exceptions=True):
            assert isinstance(result, Moved)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("code", "oom", "hung", "over", "words"),
    [
        (-signal.SIGKILL, True, False, False, "the kernel: the machine or its control group ran out of memory"),
        (137, True, False, False, "by the kernel"),
        (-signal.SIGKILL, False, False, False, "killed from outside"),
        (-signal.SIGABRT, False, True, False, "it made no step"),
        (-signal.SIGABRT, False, False, True, "it passed its memory_bytes"),
        (-signal.SIGSEGV, True, False, False, "native code"),
        (70, False, False, False, "a bug in a step"),
        (71, False, False, False, "memory ran out twice"),
        (3, False, False, False, "failed"),
        (0, False, False, False, "ended by itself"),
    ],
)
def test_what_an_end_means(code: int, oom: bool, hung: bool, over: bool, words: str) -> None:
    assert words in verdict(code, oom_rose=oom, hung=hung, over_limit=over)


def test_how_an_end_is_called() -> None:
    assert (exit_text(3), exit_text(-9), exit_text(-250)) == (
        "exit code 3",
        "killed by SIGKILL",
        "killed by signal 250",
    )


def test_a_definition_over_the_configuration() -> None:
    usual = ProcessSettings(slots=8, context=512, idle=900.0, replicas=2)
    plain = settings_of(ModelDefinition(name="m", path="/m"), usual)
    assert (plain.slots, plain.context, plain.idle, plain.memory_limit, plain.address_space) == (
        8,
        512,
        900.0,
        None,
        None,
    )
    own = ModelDefinition(name="m", path="/m", slots=2, context=4_096, idle_ms=-1, replicas=1, memory_bytes=G)
    made = settings_of(own, usual)
    assert (made.slots, made.context, made.idle, made.replicas, made.memory_limit) == (2, 4_096, None, 1, G)
    assert made.address_space == G + 2 * G  # the kernel counts addresses, of which there are always more
    gpu = ModelDefinition(name="m", path="/m", backend=Backend.exllamav2, memory_bytes=G, devices=(1,))
    assert settings_of(gpu, usual).address_space is None
    load = load_of(gpu, settings_of(gpu, usual))
    assert (load.backend, load.devices, load.memory_bytes, load.context) == (Backend.exllamav2, (1,), G, 8_192)


@pytest.fixture
def desk(tmp_path: Path) -> ModelHouse:
    """Models for GPUs on a machine with two of them, one of which somebody uses. Nothing is ever started."""
    house = ModelHouse(tmp_path)
    config = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    small = write_model(tmp_path / "models" / "tiny")
    text = (small / "config.json").read_text()
    import json

    (small / "config.json").write_text(json.dumps({**json.loads(text), **config, "max_position_embeddings": 65_536}))
    for name, devices in (("any", ()), ("second", (1,)), ("both", (0, 1))):
        house.book.defined[name] = ModelDefinition(
            name=name, path=str(small), backend=Backend.exllamav2, devices=devices, slots=4, context=16_384
        )
    gpus = Gpus(lambda: FakeNvml(FakeGpu(total=4 * G, processes=[(1, 3 * G)]), FakeGpu(total=6 * G)))
    house.open(ledger=Ledger(gpus=gpus, host=lambda: (64 * G, 50 * G)))
    return house


async def test_models_for_gpus_are_planned_on_gpus(desk: ModelHouse) -> None:
    operations = ModelOperations(desk.service, SystemClock())
    plan = await operations.plan(ModelPlan(name="any", context=4_096), CALLER)
    assert [space.id for space in plan.spaces] == ["GPU0", "GPU1"]
    assert (
        plan.estimate.kv == 4 * 4_096 * 24 * 2 * 2 * 8 * 2
    )  # slots, tokens, layers, keys and values, heads, numbers, bytes
    assert (plan.fits, plan.ways[0].device) == (True, "GPU1")
    (only,) = (await operations.plan(ModelPlan(name="second"), CALLER)).spaces
    assert only.id == "GPU1"
    (whole,) = (await operations.plan(ModelPlan(name="both"), CALLER)).spaces
    assert (whole.id, whole.total) == ("GPU0+GPU1", 10 * G)
    assert whole.free < 7 * G
    assert "pid 1" in " ".join(plan.spaces[0].others)


async def test_without_a_gpu_the_plan_says_why(desk: ModelHouse) -> None:
    desk.open(ledger=Ledger(gpus=Gpus(lambda: FakeNvml(broken=True)), host=lambda: (64 * G, 50 * G)))
    plan = await ModelOperations(desk.service, SystemClock()).plan(ModelPlan(name="any"), CALLER)
    assert (plan.fits, plan.ways, plan.note) == (False, (), "no GPU: driver not loaded")


async def test_a_model_elsewhere_has_nothing_to_load(desk: ModelHouse) -> None:
    with pytest.raises(AiwmError) as caught:
        await ModelOperations(desk.service, SystemClock()).plan(ModelPlan(name="openai/gpt-4o"), CALLER)
    assert caught.value.code in ("bad_request", "backend_unavailable")
