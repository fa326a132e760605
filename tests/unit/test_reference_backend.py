"""Continuous batching: requests join, leave and mix, and each gets the text that it would get alone."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.contract.errors import AiwmError
from engine.inference.adapter_files import adapter_digest
from engine.inference.backends.base import AdapterRef, Delta, Failed, Finished, LoadSpec, Message, Request, Sampling
from engine.inference.backends.reference import roster
from engine.inference.backends.reference.backend import ReferenceBackend
from engine.inference.backends.reference.safetensors import TensorFile
from tests.support.tiny_model import write_adapter, write_model, write_safetensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backend")
    write_model(folder / "model")
    write_adapter(folder / "a", seed=1)
    write_adapter(folder / "b", seed=2, rank=2, modules=("q_proj", "down_proj"))
    return folder


@pytest.fixture
def backend(folder: Path) -> ReferenceBackend:
    backend = ReferenceBackend()
    backend.load(LoadSpec(folder / "model", 4))
    for name in ("a", "b"):
        ref = AdapterRef(name, folder / name, adapter_digest(folder / name))
        backend.attach(backend.upload(backend.stage(ref)))
    return backend


def uses(folder: Path, **weights: float) -> tuple[AdapterRef, ...]:
    return tuple(AdapterRef(n, folder / n, adapter_digest(folder / n), weight) for n, weight in weights.items())


def request(number: int | str, prompt: str, adapters: tuple[AdapterRef, ...] = (), **sampling: object) -> Request:
    settings = {"temperature": 0.9, "seed": 3, "max_tokens": 12} | sampling
    return Request(str(number), prompt=prompt, adapters=adapters, sampling=Sampling(**settings))  # type: ignore[arg-type]


class Ends:
    """Collects what comes out of steps."""

    def __init__(self) -> None:
        self.text: dict[str, str] = {}
        self.tokens: dict[str, int] = {}
        self.ended: dict[str, Finished | Failed] = {}

    def take(self, events: Iterable[Delta | Finished | Failed]) -> None:
        for event in events:
            assert event.id not in self.ended, "an event after the end"
            if isinstance(event, Delta):
                self.text[event.id] = self.text.get(event.id, "") + event.text
                self.tokens[event.id] = self.tokens.get(event.id, 0) + event.tokens
            else:
                self.ended[event.id] = event

    def reason(self, number: int | str) -> str:
        ended = self.ended[str(number)]
        assert isinstance(ended, Finished)
        return ended.reason


def run(backend: ReferenceBackend, requests: list[Request], *, together: bool = True) -> Ends:
    ends = Ends()
    waiting = list(requests)
    while waiting or backend.active():
        while waiting and (together or not backend.active()) and backend.admit(backend.prepare(waiting[0])):
            waiting.pop(0)
        ends.take(backend.step())
    return ends


def mixed(folder: Path) -> list[Request]:
    sets = [(), uses(folder, a=1.0), uses(folder, b=0.5), uses(folder, a=0.5, b=2.0), uses(folder, a=1.0), ()]
    return [
        request(
            index, "word " * (index % 4 + 1) + str(index), sets[index % len(sets)], seed=index, max_tokens=6 + index
        )
        for index in range(12)
    ]


def test_a_batch_gives_everyone_the_text_they_get_alone(backend: ReferenceBackend, folder: Path) -> None:
    alone, together = run(backend, mixed(folder), together=False), run(backend, mixed(folder))
    assert together.text == alone.text
    assert together.ended == alone.ended
    assert len(set(alone.text.values())) > 8  # the texts differ, so equality says something


def test_adapters_change_the_text_and_weight_zero_does_not(backend: ReferenceBackend, folder: Path) -> None:
    sets = [(), uses(folder, a=1.0), uses(folder, a=0.5), uses(folder, a=0.0), uses(folder, a=0.5, b=1.0)]
    ends = run(backend, [request(i, "hello", used, temperature=0.0, max_tokens=30) for i, used in enumerate(sets)])
    texts = [ends.text[str(index)] for index in range(len(sets))]
    assert texts[0] == texts[3]
    assert len(set(texts)) == 4


def test_joining_and_leaving_in_any_order_changes_nobodys_text(backend: ReferenceBackend, folder: Path) -> None:
    """Requests come and are cancelled at random: rows move about, and the texts of the others stay what they are."""
    requests = {r.id: r for r in mixed(folder)}
    alone = run(backend, list(requests.values()), together=False)
    for seed in range(12):
        chance = random.Random(seed)
        waiting, ends, running = list(requests), Ends(), set[str]()
        chance.shuffle(waiting)
        cancelled: dict[str, Finished | None] = {}
        while waiting or backend.active():
            if waiting and chance.random() < 0.5 and backend.admit(backend.prepare(requests[waiting[0]])):
                running.add(waiting.pop(0))
            if running - set(ends.ended) - set(cancelled) and chance.random() < 0.1:
                victim = chance.choice(sorted(running - set(ends.ended) - set(cancelled)))
                cancelled[victim] = backend.cancel(victim)
                assert cancelled[victim] is not None
            ends.take(backend.step())
        for number in requests:
            if number in cancelled:
                assert number not in ends.ended
                assert alone.text.get(number, "").startswith(ends.text.get(number, ""))
            else:
                assert ends.text[number] == alone.text[number], f"seed {seed}"


def test_long_prompts_are_read_in_stretches_and_stall_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "LARGEST_CHUNK", 8)
    monkeypatch.setattr(roster, "SMALLEST_CHUNK", 8)
    backend = ReferenceBackend()
    backend.load(LoadSpec(folder / "model", 3))
    whole = ReferenceBackend()
    monkeypatch.undo()
    whole.load(LoadSpec(folder / "model", 3))
    long = request("long", "x" * 90, max_tokens=5, temperature=0.0)
    expected = run(whole, [long]).text["long"]

    ends = Ends()
    backend.admit(backend.prepare(request("short", "ab", max_tokens=40, temperature=0.0)))
    ends.take(backend.step())
    backend.admit(backend.prepare(long))
    steps_until_first = 0
    while "long" not in ends.tokens and "long" not in ends.ended:
        before = ends.tokens.get("short", 0)
        ends.take(backend.step())
        steps_until_first += 1
        assert "short" in ends.ended or ends.tokens["short"] >= before
    while backend.active():
        ends.take(backend.step())
    assert steps_until_first >= 90 // 8
    assert ends.text["long"] == expected


def test_slots_are_all_there_is(backend: ReferenceBackend) -> None:
    admitted = [backend.admit(backend.prepare(request(i, "hi"))) for i in range(5)]
    assert admitted == [True, True, True, True, False]
    assert backend.active() == 4
    assert backend.cancel("2") == Finished("2", "cancelled", 2, 0)
    assert backend.cancel("2") is None
    assert backend.admit(backend.prepare(request(4, "hi")))


def test_max_tokens_and_context_bound_the_text(backend: ReferenceBackend) -> None:
    ends = run(
        backend,
        [request(0, "hi", max_tokens=3, temperature=0.0), request(1, "y" * 120, max_tokens=500, temperature=0.0)],
    )
    assert ends.reason(0) == ends.reason(1) == "length"
    assert ends.ended["0"] == Finished("0", "length", 2, 3)
    assert ends.ended["1"] == Finished("1", "length", 120, 8)
    assert ends.tokens["0"] == 3
    with pytest.raises(AiwmError) as caught:
        backend.prepare(request(2, "y" * 128))
    assert caught.value.code == "prompt_too_long"
    assert "128 tokens" in caught.value.info.message


def test_the_end_token_ends(folder: Path, tmp_path: Path) -> None:
    """A model whose every answer is the end token: its final norm is zero but for what the end token's row looks along."""
    model = write_model(tmp_path / "model", tie_word_embeddings=False)
    file = TensorFile(model / "model.safetensors")
    tensors = {name: file.read(name).copy() for name in file.tensors}
    tensors["lm_head.weight"][:] = 0
    tensors["lm_head.weight"][5] = 1e-6  # no draw: without the end token this is the best or second best
    write_safetensors(model / "model.safetensors", tensors)
    (model / "generation_config.json").write_text('{"eos_token_id": [0, 5]}')
    backend = ReferenceBackend()
    backend.load(LoadSpec(model, 1))
    ends = run(backend, [request(0, "hello", temperature=0.0)])
    assert ends.ended == {"0": Finished("0", "stop", 5, 0)}
    assert ends.text == {}


def test_stop_strings_end_the_text_and_are_not_in_it(backend: ReferenceBackend) -> None:
    free = run(backend, [request(0, "hello", max_tokens=30)]).text["0"]
    stop = free[8:11]
    cut = free[: free.find(stop)]
    ends = run(backend, [request(0, "hello", max_tokens=30, stop=(stop, "never to be seen"))])
    assert ends.text["0"] == cut
    assert ends.reason(0) == "stop"
    # the beginning of a stop string that never comes is shown in the end
    ends = run(backend, [request(0, "hello", max_tokens=30, stop=(free[-1] + "\0never",))])
    assert ends.text["0"] == free


def test_tokens_are_all_reported(backend: ReferenceBackend) -> None:
    ends = run(backend, [request(i, "hello", seed=i, max_tokens=40) for i in range(4)])
    for number, ended in ends.ended.items():
        assert isinstance(ended, Finished)
        assert 0 < ends.tokens[number] <= ended.tokens_out


def test_messages_and_prompts_exclude_each_other(backend: ReferenceBackend) -> None:
    both = replace(request(0, "hi"), messages=(Message("user", "hi"),))
    for bad in (both, replace(both, prompt=None, messages=None)):
        with pytest.raises(AiwmError, match="either a prompt or messages"):
            backend.prepare(bad)
    with pytest.raises(AiwmError, match="empty"):
        backend.prepare(request(0, ""))
    prepared = backend.prepare(replace(both, prompt=None))
    assert prepared.prompt.endswith("<|assistant|>")


def test_an_adapter_in_use_stays(backend: ReferenceBackend, folder: Path) -> None:
    used = uses(folder, a=1.0)
    backend.admit(backend.prepare(request(0, "hi", used)))
    held = backend.memory().adapters_bytes
    assert backend.detach(used[0].digest) == 0
    backend.cancel("0")
    freed = backend.detach(used[0].digest)
    assert freed > 0
    assert backend.memory().adapters_bytes == held - freed
    with pytest.raises(AiwmError, match="not attached"):
        backend.admit(backend.prepare(request(0, "hi", used)))
    with pytest.raises(AiwmError, match="weight of adapter a is nan"):
        backend.prepare(request(0, "hi", uses(folder, a=float("nan"))))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
def test_a_poisoned_request_fails_alone(backend: ReferenceBackend, folder: Path) -> None:
    ends = run(backend, [request(0, "hello"), request(1, "hello", uses(folder, a=1e38)), request(2, "hello")])
    failed = ends.ended["1"]
    assert isinstance(failed, Failed)
    assert failed.error.code == "model_invalid"
    assert "adapter a" in failed.error.info.message
    assert ends.text["0"] == ends.text["2"] == run(backend, [request(0, "hello")]).text["0"]


def test_memory_counts_what_is_used(backend: ReferenceBackend) -> None:
    assert backend.memory().kv_used_bytes == 0
    backend.admit(backend.prepare(request(0, "12345", max_tokens=9)))
    backend.step()
    assert (
        backend.memory().kv_used_bytes == 5 * 2 * 2 * 16 * 4
    )  # tokens · layers · (keys and values) · key size · float32
    backend.unload()
    assert backend.memory().weights_bytes == 0
    with pytest.raises(AiwmError) as caught:
        backend.prepare(request(0, "hi"))
    assert caught.value.code == "model_unavailable"


def test_a_load_replaces_the_model(backend: ReferenceBackend, tmp_path: Path) -> None:
    before = run(backend, [request(0, "hello", temperature=0.0)]).text
    loaded = backend.load(LoadSpec(write_model(tmp_path / "other", seed=5), 2, 64))
    assert (loaded.slots, loaded.context, loaded.chat_template) == (2, 64, True)
    assert run(backend, [request(0, "hello", temperature=0.0)]).text != before


def test_views_of_the_workspace_are_views() -> None:
    """The forward pass writes through views; a copy among them would silently compute nothing."""
    from engine.inference.backends.reference.config import ModelConfig
    from engine.inference.backends.reference.model import Workspace

    config = ModelConfig(24, 1, 4, 2, 6, 16, 9, 1e-5, 1e4, None, True, False, False, False, 32, frozenset())
    space = Workspace(config, 3)
    for view in (space.rotated, space.queries, space.keys_values, space.qkv.tiles, space.qkv.rest):
        assert np.shares_memory(view, space.qkv.flat)
