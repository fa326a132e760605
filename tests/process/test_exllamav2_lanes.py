"""Whose the pages of the exllamav2 backend's cache are, what lanes share and what they never do, and what it does when something fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.definitions import KvPrecision
from engine.contract.errors import AiwmError, Code
from engine.inference.backends.base import AdapterRef, Broken
from tests.support.exllamav2_desk import NEAR, SIZES, Desk, Written, oracle, short_of_best, small_adapter, small_model
from tests.support.tiny_model import model_tensors, tiny_config, write_safetensors

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("exllamav2")]

SHIPPED = Path(__file__).parents[2] / "engine" / "inference" / "shipped" / "aiwm-nano"
PAGE = 256
TALE = "A page has more than two hundred and fifty letters, and this is one of them. "


def tale(length: int) -> str:
    return (TALE * (length // len(TALE) + 1))[:length]


@pytest.fixture(scope="module", autouse=True)
def emulated() -> Iterator[None]:
    from tests.support.exllamav2_emulation import install

    undo = install()
    yield
    undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lanes")


@pytest.fixture(scope="module")
def model(emulated: None, folder: Path) -> Path:
    return small_model(folder / "model")


@pytest.fixture(scope="module")
def shared(model: Path) -> Iterator[Desk]:
    desk = Desk(model, slots=6, context=1024)
    yield desk
    desk.backend.unload()


@pytest.fixture
def desk(shared: Desk) -> Iterator[Desk]:
    yield shared
    shared.put_away()
    assert shared.whole()
    assert len(shared.served.model.store.free) == shared.served.model.store.count


@pytest.fixture(scope="module")
def paths(folder: Path) -> list[Path]:
    return [
        small_adapter(folder / f"a{number}", seed=number, modules=("q_proj", "v_proj", "down_proj"))
        for number in range(5)
    ]


@pytest.fixture(scope="module")
def judge(model: Path, paths: list[Path]) -> Callable[[Written, int | None], float]:
    """How far an answer falls short under the base model (None) or under one adapter."""
    known: dict[int | None, Any] = {}

    def short(written: Written, adapter: int | None) -> float:
        if adapter not in known:
            known[adapter] = oracle(model, *([] if adapter is None else [(paths[adapter], 1.0)]))
        return short_of_best(known[adapter], written)

    return short


Judge = Callable[[Written, int | None], float]


# -- the cache of prompts ------------------------------------------------------------------------------------------------


def test_a_beginning_is_read_once_for_each_set_of_adapters(desk: Desk, paths: list[Path], judge: Judge) -> None:
    prompt = tale(600)
    first, again = desk.ask(prompt), desk.ask(prompt)
    assert first.finished.cached == 0
    assert again.finished.cached >= 2 * PAGE
    assert judge(again, None) < NEAR
    adapter = desk.adapter(paths[0])
    under = desk.ask(prompt, adapter)
    assert under.finished.cached == 0  # what the base computed is nothing to it
    assert judge(under, 0) < NEAR
    assert judge(under, None) > 10 * NEAR
    assert desk.ask(prompt, adapter).finished.cached >= 2 * PAGE
    half = desk.ask(prompt, AdapterRef(adapter.name, adapter.path, adapter.digest, 0.5))
    assert half.finished.cached == 0
    longer = desk.ask(prompt + tale(200))
    assert longer.finished.cached >= 2 * PAGE
    assert judge(longer, None) < NEAR


def test_pages_that_change_hands_are_empty(desk: Desk, paths: list[Path], judge: Judge) -> None:
    """The base fills every page; adapters get them one by one and find nothing of it, nor the base of theirs."""
    store = desk.served.model.store
    prompts = [f"{number}. {tale(900)}" for number in range(6)]
    for prompt in prompts:
        desk.ask(prompt)
    assert len(store.free) == 0
    for number in (0, 1):
        written = desk.ask(prompts[-1], desk.adapter(paths[number]))
        assert written.finished.cached == 0
        assert judge(written, number) < NEAR
        assert desk.whole()
    assert judge(desk.ask(prompts[-1]), None) < NEAR


def test_long_prompts_are_read_in_pieces_beside_those_who_write(
    model: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.inference.backends.exllamav2 import loading

    monkeypatch.setattr(loading, "LARGEST_CHUNK", PAGE)
    desk = Desk(model, slots=4, context=2048)
    assert desk.served.model.chunk == PAGE
    writing = desk.begin("short", max_tokens=40)
    desk.step()
    long = desk.begin(tale(1500), max_tokens=6)
    steps = 0
    while not desk.written[long].tokens:
        before = len(desk.written[writing].tokens)
        desk.step()
        steps += 1
        assert len(desk.written[writing].tokens) == before + 1  # nobody waits for a whole prompt
    assert steps == 6
    desk.finish()
    for request in (writing, long):
        assert judge(desk.written[request], None) < NEAR
    desk.backend.unload()


# -- admission -----------------------------------------------------------------------------------------------------------


def test_a_fifth_set_waits_for_a_lane_and_the_longest_idle_one_closes(desk: Desk, paths: list[Path]) -> None:
    refs = [desk.adapter(path) for path in paths]
    running = [desk.begin("abc", ref, max_tokens=4 + 4 * number) for number, ref in enumerate(refs[:4])]
    fifth = desk.prepare("abc", refs[4])
    assert not desk.admit(fifth)
    while desk.written[running[0]].end is None:
        desk.step()
    assert desk.admit(fifth)
    held = [lane.weights[0][0] for lane in desk.served.lanes.open]
    assert held == [refs[1].digest, refs[2].digest, refs[3].digest, refs[4].digest]
    desk.finish()
    desk.ask("abc", refs[1])  # used again: the second is the oldest now
    desk.ask("abc")
    assert [lane.weights[0][0] for lane in desk.served.lanes.open[:-1]] == [
        refs[3].digest,
        refs[4].digest,
        refs[1].digest,
    ]
    assert all(desk.written[request].finished.tokens_out for request in [*running, fifth.request.id])


def test_slots_bound_requests_over_all_lanes(desk: Desk, paths: list[Path]) -> None:
    for number in range(6):
        desk.begin("abc", *([desk.adapter(paths[0])] if number % 2 else []))
    late = desk.prepare("abc")
    assert not desk.admit(late)
    desk.finish()
    assert desk.admit(late)
    desk.finish()


def test_few_pages_bound_the_context_and_let_requests_wait(model: Path, judge: Judge) -> None:
    from engine.inference.backends.exllamav2.files import read_facts
    from engine.inference.backends.exllamav2.plan import page_bytes

    page = page_bytes(read_facts(model), KvPrecision.fp16)
    desk = Desk(model, slots=4, context=2048, kv_bytes=4 * page + 10)
    assert desk.served.model.store.count == 4
    assert (desk.loaded.context, desk.loaded.kv_bytes) == (4 * PAGE, 4 * page)
    first = desk.begin(tale(500), max_tokens=30)
    assert desk.backend.memory().kv_used_bytes == 3 * page
    second, small = desk.prepare(tale(400), max_tokens=30), desk.begin("abc")
    assert not desk.admit(second)
    desk.finish()
    assert desk.backend.memory().kv_used_bytes == 0
    assert desk.admit(second)
    desk.finish()
    for request in (first, small, second.request.id):
        assert judge(desk.written[request], None) < NEAR
    desk.backend.unload()


def test_cancelling_gives_pages_back_at_once(desk: Desk) -> None:
    request = desk.begin(tale(700), max_tokens=100)
    other = desk.begin("abc", max_tokens=20)
    desk.step()
    desk.step()
    used = desk.backend.memory().kv_used_bytes
    ended = desk.backend.cancel(request, "deadline")
    assert ended is not None
    assert (ended.reason, ended.tokens_out) == ("deadline", len(desk.written[request].tokens))
    assert ended.tokens_out > 0
    assert desk.backend.memory().kv_used_bytes == used // 5  # 4 pages of 5
    assert desk.backend.cancel(request) is None
    assert desk.whole()
    desk.finish()
    assert desk.written[other].finished.tokens_out == 20


def test_detaching_leaves_nothing(desk: Desk, paths: list[Path], judge: Judge) -> None:
    ref = desk.adapter(paths[0])
    half = AdapterRef(ref.name, ref.path, ref.digest, 0.5)
    size = desk.backend.memory().adapters_bytes
    assert size > 0
    request = desk.begin("abc", half, max_tokens=4)
    assert desk.backend.memory().adapters_bytes > size  # half as strong is a B of its own
    assert desk.backend.detach(ref.digest) == 0  # it is used
    desk.finish()
    assert desk.written[request].finished.reason == "length"
    assert desk.backend.detach(ref.digest) == size
    assert desk.backend.detach(ref.digest) == 0
    assert desk.backend.memory().adapters_bytes == 0
    linears = [linear.module for linear in desk.served.linears.values()]
    assert not any(module.lora_a_tensors or module.lora_b_tensors for module in linears)
    assert not desk.served.lanes.open
    with pytest.raises(AiwmError) as caught:
        desk.admit(desk.prepare("abc", ref))
    assert caught.value.code == Code.adapter_not_found
    assert judge(desk.ask("abc"), None) < NEAR


def test_any_order_of_events_keeps_every_page_and_every_answer(desk: Desk, paths: list[Path], judge: Judge) -> None:
    chance = random.Random(20)
    beginnings = [tale(300), "Another. " + tale(280), "no page at all"]
    asked: dict[str, int | None] = {}
    waiting: list[tuple[Any, int | None]] = []
    for _ in range(120):
        move = chance.random()
        if move < 0.3 and len(waiting) < 4:
            number = chance.choice([None, None, 0, 1, 2, 3, 4])
            refs = [] if number is None else [desk.adapter(paths[number])]
            prompt = chance.choice(beginnings) + str(chance.randrange(3))
            waiting.append((desk.prepare(prompt, *refs, max_tokens=chance.randrange(1, 12)), number))
        elif move < 0.38 and asked:
            desk.backend.cancel(chance.choice(list(asked)))
        else:
            desk.step()
        while waiting and desk.admit(waiting[0][0]):
            prepared, number = waiting.pop(0)
            asked[prepared.request.id] = number
        assert desk.whole()
    desk.finish()
    assert len(asked) > 20
    assert (
        max(judge(desk.written[request], number) for request, number in asked.items() if desk.written[request].tokens)
        < NEAR
    )


# -- other ways to load --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kv", "most"), [(KvPrecision.q8, 0.1), (KvPrecision.q6, 0.5), (KvPrecision.q4, 1.0)])
def test_a_cache_of_fewer_bits_is_smaller_and_nearly_as_good(kv: KvPrecision, most: float) -> None:
    desk, judge = Desk(SHIPPED, slots=2, kv=kv), oracle(SHIPPED)
    assert desk.loaded.kv_bytes < 0.85 * 2 * 512 * 2 * 4 * 4 * 64 * 2  # of what 16 bits would take
    answers = [
        desk.ask(prompt, talk=True, max_tokens=24) for prompt in ("What is a queue?", "Say hello to Mira. " * 20)
    ]
    assert max(short_of_best(judge, answer) for answer in answers) < most
    desk.backend.unload()


def test_a_given_split_and_an_automatic_one_load_the_same(model: Path, judge: Judge) -> None:
    desk = Desk(model, slots=2, context=512, split=(4.0,))
    assert judge(desk.ask(tale(300)), None) < NEAR
    assert ("loading weights", 1.0) in desk.progress
    assert desk.backend.memory().weights_bytes == desk.loaded.weights_bytes
    desk.backend.unload()
    assert desk.backend.memory().weights_bytes == 0
    assert desk.backend.step() == []


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "long_factor": [2.0] * 16,
    "short_factor": [1.1] * 16,
    "factor": 4.0,
}


@pytest.mark.parametrize(
    ("rope", "original", "context", "length"),
    [
        ({"rope_type": "default", "rope_theta": 500_000.0}, 0, 512, 300),
        ({"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}, 0, 512, 300),
        (LLAMA3, 64, 512, 300),
        (YARN, 512, 256, 100),  # exllamav2 would leave it out here
        (YARN, 256, 1024, 700),  # and take another length for the trained one here
        (YARN | {"attention_factor": 1.3, "beta_fast": 24, "truncate": False}, 512, 512, 300),
        (LONG, 512, 256, 100),
        (LONG, 256, 1024, 700),
    ],
)
def test_rotary_settings_of_transformers_5_are_computed_as_it_does(
    folder: Path, rope: dict[str, Any], original: int, context: int, length: int
) -> None:
    if original:
        rope = rope | {"original_max_position_embeddings": original}
    path = small_model(folder / f"r{abs(hash(str(rope)))}", rope_theta=None, rope_parameters=rope, num_hidden_layers=2)
    desk, judge = Desk(path, slots=1, context=context), oracle(path)
    assert short_of_best(judge, desk.ask(tale(length), max_tokens=12)) < NEAR
    if rope["rope_type"] == "llama3":
        config = desk.served.model.model.config
        assert (config.rotary_embedding_base, config.l3_rope_factor) == (500_000.0, 8.0)
    desk.backend.unload()


# -- probes --------------------------------------------------------------------------------------------------------------


def _refuses(model: Path) -> str:
    with pytest.raises(AiwmError) as caught:
        Desk(model, slots=2, context=1024)
    assert caught.value.code == Code.model_refused
    return caught.value.info.message


def _attend(monkeypatch: pytest.MonkeyPatch, change: Callable[..., Any]) -> None:
    from engine.inference.backends.exllamav2 import attention

    monkeypatch.setattr(attention, "attend", change)


def test_attention_that_looks_ahead_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What exllamav2's own fallback does."""
    from dataclasses import replace

    from engine.inference.backends.exllamav2.attention import plain

    _attend(monkeypatch, lambda query, pages, shape: plain(query, pages, replace(shape, causal=False)))
    assert "not causal" in _refuses(model)


def test_attention_that_forgets_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from engine.inference.backends.exllamav2.attention import plain

    _attend(monkeypatch, lambda query, pages, shape: plain(query, pages, replace(shape, window=2)))
    assert "does not see the beginning" in _refuses(model)


def test_attention_that_mixes_up_pages_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from engine.inference.backends.exllamav2.attention import plain

    _attend(
        monkeypatch,
        lambda query, pages, shape: plain(query, replace(pages, table=pages.table[:1].expand_as(pages.table)), shape),
    )
    assert "in pieces" in _refuses(model)


def test_adapters_without_effect_or_with_too_much_are_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from exllamav2.linear import ExLlamaV2Linear

    forward = ExLlamaV2Linear.forward
    monkeypatch.setattr(
        ExLlamaV2Linear, "forward", lambda self, *a, loras=None, **k: forward(self, *a, loras=None, **k)
    )
    assert "no effect" in _refuses(model)
    first: Callable[..., Any] = lambda self, *a, loras=None, **k: forward(self, *a, loras=loras and loras[:1], **k)  # noqa: E731
    monkeypatch.setattr(ExLlamaV2Linear, "forward", first)
    assert "do not add up" in _refuses(model)

    def always(self: Any, *given: Any, loras: Any = None, **more: Any) -> Any:
        return forward(self, *given, loras=list(self.lora_a_tensors) or None, **more)

    monkeypatch.setattr(ExLlamaV2Linear, "forward", always)
    assert "adapter" in _refuses(model)


def test_weights_that_are_no_numbers_are_refused(folder: Path) -> None:
    path = small_model(folder / "damaged")
    tensors = model_tensors(tiny_config(**SIZES), 0)
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = float("nan")
    write_safetensors(path / "model.safetensors", tensors, "F16")
    assert "not numbers" in _refuses(path)


# -- failures of the device ----------------------------------------------------------------------------------------------


class Faulty:
    """A lane's step that fails as often as asked."""

    def __init__(self, desk: Desk, digest: str, errors: list[Exception]) -> None:
        from engine.inference.backends.exllamav2.lanes import Lane

        self._step = Lane.step
        self._digest = digest
        self._errors = errors
        Lane.step = self._failing()  # type: ignore[method-assign]

    def _failing(self) -> Any:
        whole, digest, errors = self._step, self._digest, self._errors

        def step(lane: Any) -> Any:
            if errors and any(used == digest for used, _ in lane.weights):
                raise errors.pop(0)
            return whole(lane)

        return step

    def mend(self) -> None:
        from engine.inference.backends.exllamav2.lanes import Lane

        Lane.step = self._step  # type: ignore[method-assign]


@pytest.fixture
def faulty(desk: Desk, paths: list[Path]) -> Iterator[Callable[[list[Exception]], AdapterRef]]:
    made: list[Faulty] = []

    def make(errors: list[Exception]) -> AdapterRef:
        ref = desk.adapter(paths[0])
        made.append(Faulty(desk, ref.digest, errors))
        return ref

    yield make
    for one in made:
        one.mend()


def test_memory_that_runs_out_once_costs_one_lane(
    desk: Desk, judge: Judge, faulty: Callable[[list[Exception]], AdapterRef]
) -> None:
    import torch

    ref = faulty([torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")])
    lost, other = [desk.begin("abc", ref) for _ in range(2)], desk.begin("abc")
    desk.finish()
    for request in lost:
        error = desk.written[request].failed.error
        assert (error.code, error.info.retryable) == (Code.model_too_big, True)
        assert "2 GiB" in error.info.message
    assert judge(desk.written[other], None) < NEAR
    assert desk.whole()
    assert judge(desk.ask("abc", ref), 0) < NEAR  # in a lane built anew


def test_memory_that_runs_out_twice_or_a_broken_device_ends_the_process(
    desk: Desk, faulty: Callable[[list[Exception]], AdapterRef]
) -> None:
    import torch

    ref = faulty(
        [
            torch.OutOfMemoryError("first"),
            torch.OutOfMemoryError("second"),
            RuntimeError("CUDA error: an illegal access"),
        ]
    )

    def fail_twice() -> None:
        for _ in range(2):
            desk.begin("abc", ref)
            desk.step()

    for code in (71, 72):
        with pytest.raises(Broken) as caught:
            fail_twice()
        assert caught.value.exit_code == code
        desk.served.failures.fine()
        for lane in desk.served.lanes.open:
            desk.served.lanes.close(lane)
