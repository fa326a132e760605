"""Room for models, as pure functions: what fits, the numbered ways, who may be unloaded without asking."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.definitions import Backend, KvPrecision
from engine.inference.memory.estimate import Sizing, estimate
from engine.inference.memory.plan import Holder, Need, Space, Stranger, automatic, could_fit, make_plan
from engine.inference.models.kinds import ModelKind, Shape

G = 2**30

# The moment of the mock-up: two GPUs, two models that work, somebody's notebook.
GPU0 = Space("GPU0", "RTX 4090", 24 * G, int(2.9 * G))
GPU1 = Space("GPU1", "RTX 4090", 24 * G, int(3.7 * G))
QWEN = Holder(
    "qwen14.0", "qwen14", 10, {"GPU0": int(16.8 * G)}, running=8, load_ms=14_000, context=16_384, shrinks=3 * G, hit=("etl: 1,102 wait",)
)  # fmt: skip
LLAMA = Holder(
    "llama8.0", "llama8", 11, {"GPU1": int(20.2 * G)}, running=4, load_ms=19_000, hit=("inbox: 12 wait",)
)  # fmt: skip
ANA = Stranger(88_412, "python", "ana", "GPU0", int(3.9 * G))
MISTRAL = Need(
    "mistral24", int(15.8 * G), 16_384, ((8_192, int(14.8 * G)), (4_096, int(14.3 * G))), ("GPU0", "GPU1"), splits=True, load_ms=9_000
)  # fmt: skip


def test_the_ways_of_the_mock_up() -> None:
    plan = make_plan(MISTRAL, [GPU0, GPU1], [QWEN, LLAMA], [ANA])
    assert not plan.fits
    assert [way.number for way in plan.ways] == list(range(1, len(plan.ways) + 1))
    first, second = plan.ways[:2]
    assert {first.text, second.text} == {"unload llama8.0 after its 4", "unload qwen14.0 after its 8"}
    llama = next(way for way in plan.ways if "llama8.0" in way.text)
    assert (llama.frees, llama.hit, llama.fits, llama.device) == (LLAMA.held["GPU1"], ("inbox: 12 wait",), True, "GPU1")
    assert llama.spare == GPU1.free + llama.frees - MISTRAL.bytes
    others = {way.text: way for way in plan.ways[2:]}
    assert not any(way.fits for way in others.values())
    ana = others["ana ends pid 88412 python (ana)"]
    assert (ana.runnable, ana.hit) == (False, ("ana",))
    assert ana.spare == GPU0.free + ANA.bytes - MISTRAL.bytes < 0  # not enough, and by how much
    assert others["split over GPU0 and GPU1"].spare == GPU0.free + GPU1.free - MISTRAL.bytes
    assert any("half the context of qwen14.0" in text for text in others)
    assert any(text.startswith("a context of 4,096 instead of 16,384") for text in others)


def test_what_fits_is_loaded_now_where_it_fits() -> None:
    plan = make_plan(replace(MISTRAL, bytes=3 * G), [GPU0, GPU1], [QWEN, LLAMA])
    assert plan.fits
    assert (plan.ways[0].text, plan.ways[0].steps) == ("load it on GPU1 now", ())


def test_a_shorter_context_that_fits_hits_nobody_and_comes_before_an_eviction() -> None:
    need = replace(MISTRAL, bytes=4 * G, shorter=((8_192, int(3.5 * G)),))
    plan = make_plan(need, [GPU0, GPU1], [QWEN, LLAMA])
    assert plan.ways[0].text.startswith("a context of 8,192")
    assert plan.ways[0].hit == ()


def test_several_are_unloaded_together_when_one_is_not_enough() -> None:
    small = [Holder(f"m{n}.0", f"m{n}", n, {"CPU": 2 * G}, idle_ms=60_000) for n in range(4)]
    plan = make_plan(Need("big", 5 * G, 512), [Space("CPU", "host memory", 9 * G, 1 * G)], small)
    best = plan.ways[0]
    assert (best.fits, len(best.steps), best.frees) == (True, 2, 4 * G)
    assert not any(way.fits for way in plan.ways[1:] if len(way.steps) == 1)


def test_what_somebody_keeps_costs_most() -> None:
    kept, free = replace(LLAMA, kept=True, running=0, idle_ms=9_000), replace(QWEN, held={"GPU1": LLAMA.held["GPU1"]})
    plan = make_plan(MISTRAL, [GPU1], [kept, free])
    assert plan.ways[0].text == "unload qwen14.0 after its 8"
    assert "somebody keeps it" in next(way for way in plan.ways if "llama8.0" in way.text).hit


def test_waiting_is_a_way_that_others_go() -> None:
    idle = replace(LLAMA, running=0, idle_ms=60_000, unload_ms=240_000)
    way = next(way for way in make_plan(MISTRAL, [GPU1], [idle]).ways if way.text.startswith("wait"))
    assert (way.text, way.runnable, way.load_ms) == ("wait: llama8.0 is idle and unloads in 4m", False, 249_000)


def test_a_stranger_is_no_way_where_our_own_limit_is_reached() -> None:
    limited = replace(GPU0, most=GPU0.free)
    assert not any("ana" in way.text for way in make_plan(MISTRAL, [limited], [], [ANA]).ways)


def test_a_plan_has_an_id_that_changes_with_the_situation() -> None:
    first = make_plan(MISTRAL, [GPU0, GPU1], [QWEN, LLAMA])
    assert make_plan(MISTRAL, [GPU0, GPU1], [LLAMA, QWEN]).id == first.id
    assert make_plan(MISTRAL, [GPU0, GPU1], [replace(QWEN, pid=99), LLAMA]).id != first.id
    assert make_plan(replace(MISTRAL, context=8_192), [GPU0, GPU1], [QWEN, LLAMA]).id != first.id


def test_only_idle_models_that_nobody_keeps_go_by_themselves() -> None:
    space, need = [Space("CPU", "host memory", 4 * G, 1 * G)], Need("new", 2 * G, 512)
    idle = Holder("idle.0", "idle", 1, {"CPU": G}, idle_ms=5_000)
    assert automatic(need, space, [idle]) == (space[0], ("idle.0",))
    assert automatic(need, space, [replace(idle, kept=True)]) is None
    assert automatic(need, space, [replace(idle, idle_ms=None, running=1)]) is None
    assert automatic(replace(need, bytes=G), space, [idle]) == (space[0], ())
    longer = replace(idle, process="longer.0", idle_ms=50_000)
    assert automatic(need, space, [idle, longer]) == (space[0], ("longer.0",))
    assert could_fit(need, space, [replace(idle, idle_ms=None, running=1)])
    assert could_fit(need, space, [replace(idle, kept=True)])  # whoever keeps it may end that
    assert not could_fit(need, space, [])


holders = st.lists(
    st.builds(
        Holder,
        process=st.uuids().map(str),
        model=st.sampled_from(["a", "b"]),
        pid=st.integers(1, 9),
        held=st.dictionaries(st.sampled_from(["GPU0", "GPU1"]), st.integers(0, 20), min_size=1),
        running=st.integers(0, 2),
        kept=st.booleans(),
        idle_ms=st.none() | st.integers(0, 100),
        unload_ms=st.none() | st.integers(0, 100),
        context=st.integers(1, 100),
        shrinks=st.integers(0, 5),
    ),
    max_size=5,
)
spaces = st.lists(
    st.builds(Space, st.sampled_from(["GPU0", "GPU1"]), st.just("x"), st.just(40), st.integers(0, 40)),
    min_size=1,
    max_size=2,
    unique_by=lambda it: it.id,
)


@given(spaces, holders, st.integers(1, 60))
def test_a_way_that_fits_really_makes_the_room_it_says(found: list[Space], held: list[Holder], size: int) -> None:
    need = Need("new", size, 100, ((50, max(1, size // 2)),), splits=True)
    plan = make_plan(need, found, held)
    free = {space.id: space.free for space in found}
    by_name = {holder.process: holder for holder in held}
    for way in plan.ways:
        room = free[way.device]
        wanted = size
        for step in way.steps:
            if step.kind in ("unload", "wait"):
                room += by_name[step.process].held[way.device]
            elif step.kind == "shrink":
                room += by_name[step.process].shrinks
            elif step.kind == "split":
                room = sum(free[device] for device in step.devices)
            elif step.kind == "context":
                wanted = next(it for context, it in need.shorter if context == step.context)
        assert way.spare == room - wanted
        assert way.fits == (room >= wanted)
    fitting = [way.fits for way in plan.ways]
    assert fitting == sorted(fitting, reverse=True)
    chosen = automatic(need, found, held)
    if chosen is not None:
        space, leaving = chosen
        assert space.free + sum(by_name[name].held[space.id] for name in leaving) >= size
        assert not any(by_name[name].kept or by_name[name].works for name in leaving)
        assert could_fit(need, found, held)


LLAMA8 = Shape(
    layers=32, hidden=4096, heads=32, kv_heads=8, head_size=128, intermediate=14_336, vocabulary=128_256, context=131_072
)  # fmt: skip


def test_estimates_of_a_gpu_model_are_those_of_its_headers() -> None:
    sizing = Sizing(slots=1, context=32_768)
    plain = estimate(Backend.exllamav2, ModelKind.plain, LLAMA8, 8_030_261_248, 16_060_522_496, sizing)
    assert plain.weights == 2 * 8_030_261_248
    assert plain.kv == 32_768 * 131_072  # 128 KiB a token in fp16
    quantised = estimate(Backend.exllamav2, ModelKind.exl2, LLAMA8, 8_030_261_248, 5_000_000_000, sizing)
    assert quantised.weights == 5_000_000_000
    small = replace(sizing, kv=KvPrecision.q4)
    assert estimate(Backend.exllamav2, ModelKind.exl2, LLAMA8, 0, 0, small).kv == pytest.approx(
        plain.kv * 0.28, rel=0.01
    )
    assert estimate(Backend.exllamav2, ModelKind.exl2, LLAMA8, 0, 0, replace(sizing, kv_bytes=4 * G)).kv == 4 * G


def test_a_context_beyond_the_models_own_is_not_counted() -> None:
    shape = replace_shape(LLAMA8, context=2_048)
    long, short = (
        estimate(Backend.exllamav2, ModelKind.plain, shape, 1, 1, Sizing(slots=1, context=context)).kv
        for context in (999_999, 2_048)
    )
    assert long == short > 0


def replace_shape(shape: Shape, **changes: int) -> Shape:
    import msgspec

    return msgspec.structs.replace(shape, **changes)
