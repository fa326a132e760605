"""What the exllamav2 backend writes is what transformers and PEFT compute. Its real Python; its compiled part is emulated where there is
no GPU (`make gpu` runs the same unfaked)."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.contract.errors import AiwmError, Code
from engine.inference.adapter_files import adapter_digest, verified_files
from tests.support.exllamav2_desk import NEAR, SIZES, Desk, Only, oracle, short_of_best, small_adapter, small_model
from tests.support.tiny_model import tiny_config, write_adapter, write_safetensors

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("exllamav2")]

SHIPPED = Path(__file__).parents[2] / "engine" / "inference" / "shipped"
PROMPTS = ("the first of three", "x", "Once upon a time there was a page that had more than one hundred letters. " * 4)


@pytest.fixture(scope="module", autouse=True)
def emulated() -> Iterator[None]:
    from tests.support.exllamav2_emulation import install

    undo = install()
    yield
    undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exllamav2")


@pytest.fixture(scope="module")
def shared(emulated: None, folder: Path) -> Iterator[Desk]:
    desk = Desk(small_model(folder / "model"))
    yield desk
    desk.backend.unload()


@pytest.fixture(scope="module")
def judge(shared: Desk) -> Any:
    return oracle(shared.model)


@pytest.fixture
def desk(shared: Desk) -> Iterator[Desk]:
    yield shared
    shared.put_away()
    assert shared.whole()


@pytest.fixture(scope="module")
def adapters(folder: Path) -> tuple[Path, Path]:
    few = small_adapter(folder / "few", seed=1, modules=("q_proj", "v_proj"))
    return few, small_adapter(folder / "all", seed=2, rank=8)


# -- the shipped model ---------------------------------------------------------------------------------------------------


def test_reference_transformers_and_exllamav2s_own_generator_agree_on_the_shipped_model() -> None:
    import torch
    from exllamav2.generator import ExLlamaV2DynamicGenerator, ExLlamaV2Sampler

    from engine.inference.backends.base import Delta, LoadSpec
    from engine.inference.backends.reference.backend import ReferenceBackend

    model = SHIPPED / "aiwm-nano"
    desk, reference, judge = Desk(model, slots=4), ReferenceBackend(), oracle(model)
    reference.load(LoadSpec(model, 4))
    own = ExLlamaV2DynamicGenerator(
        desk.served.model.model,
        desk.served.model.store.cache,
        desk.served.model.tokenizer,
        max_chunk_size=512,
        max_q_size=1,
    )
    for prompt in ("Hello, who are you?", "What is a queue?", 'Answer with JSON: {"a": 1}', "List three colours."):
        mine = desk.ask(prompt, talk=True, max_tokens=48)
        prepared = reference.prepare(desk.prepare(prompt, talk=True, max_tokens=48).request)
        assert prepared.tokens == mine.prompt
        assert reference.admit(prepared)
        text = ""
        while reference.active():
            text += "".join(event.text for event in reference.step() if isinstance(event, Delta))
        desk.put_away()  # both use the same pages
        theirs = own.generate(
            prepared.prompt,
            48,
            gen_settings=ExLlamaV2Sampler.Settings.greedy(),
            encode_special_tokens=True,
            stop_conditions=list(desk.served.facts.end_tokens),
            completion_only=True,
        )
        own.reset_page_table()
        ids = torch.tensor([mine.prompt])
        longer = judge.generate(ids, max_new_tokens=48, do_sample=False)[0, ids.shape[1] :].tolist()
        assert mine.text == text == theirs == desk.served.tokenizer.decode(longer)
        assert mine.text
    desk.backend.unload()


@pytest.mark.parametrize("names", [(), ("ticket-labels",), ("house-words",), ("ticket-labels", "house-words")])
def test_the_shipped_adapters_do_what_peft_says(names: tuple[str, ...]) -> None:
    weights = (1.0, 0.5)[: len(names)]
    paths = [(SHIPPED / "adapters" / name, weight) for name, weight in zip(names, weights, strict=True)]
    desk, judge = Desk(SHIPPED / "aiwm-nano"), oracle(SHIPPED / "aiwm-nano", *paths)
    used = [desk.adapter(path, weight) for path, weight in paths]
    for prompt in ("My printer is on fire", "What is a queue?"):
        assert short_of_best(judge, desk.ask(prompt, *used, talk=True, max_tokens=32)) < NEAR
    desk.backend.unload()


def test_quantised_weights_answer_nearly_the_same_with_adapters_too(tmp_path: Path) -> None:
    """EXL2, whose arithmetic is in the extension alone: made from the shipped model by exllamav2's own converter, on a GPU."""
    from tests.support.exllamav2_emulation import real

    if not real():
        pytest.skip("weights are quantised on a GPU")
    model, made = SHIPPED / "aiwm-nano", tmp_path / "exl2"
    command = [sys.executable, "-m", "exllamav2.conversion.convert_exl2", "-i", str(model), "-o", str(tmp_path / "work"), "-cf",
               str(made), "-b", "6.0", "-l", "512", "-ml", "512", "-r", "8", "-mr", "4"]  # fmt: skip
    (tmp_path / "work").mkdir()
    subprocess.run(command, check=True, timeout=500)
    desk = Desk(made)
    assert desk.loaded.weights_bytes < 0.6 * 2 * desk.loaded.parameters
    for weight in (None, 1.0, 0.5):
        path = SHIPPED / "adapters" / "ticket-labels"
        uses = [] if weight is None else [(path, weight)]
        judge = oracle(model, *uses)
        written = desk.ask("My printer is on fire", *(desk.adapter(*use) for use in uses), talk=True, max_tokens=24)
        assert short_of_best(judge, written) < 10 * NEAR
    desk.backend.unload()


# -- adapters against PEFT -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights", [(None, None), (1.0, None), (None, 1.0), (0.5, None), (None, -0.75), (0.5, 0.25), (1.0, 1.0)]
)
def test_base_adapters_and_blends_at_any_weight(
    desk: Desk, adapters: tuple[Path, Path], weights: tuple[float | None, float | None]
) -> None:
    """An answer is the oracle's best, token for token; and some other set's is not, so the measure can tell."""
    paths = [(path, weight) for path, weight in zip(adapters, weights, strict=True) if weight is not None]
    judge = oracle(desk.model, *paths)
    answers = [desk.ask(prompt, *(desk.adapter(*use) for use in paths), max_tokens=12) for prompt in PROMPTS]
    assert max(short_of_best(judge, answer) for answer in answers) < NEAR
    other = [desk.ask(prompt, *(desk.adapter(path) for path in adapters), max_tokens=12) for prompt in PROMPTS]
    if weights != (1.0, 1.0):
        assert max(short_of_best(judge, answer) for answer in other) > 10 * NEAR


def test_the_order_of_adapters_is_nothing_and_their_weights_add_up(desk: Desk, adapters: tuple[Path, Path]) -> None:
    one, two = adapters
    first = desk.ask("abc", desk.adapter(one, 0.5), desk.adapter(two, 0.25))
    second = desk.ask("abc", desk.adapter(two, 0.25), desk.adapter(one, 0.2), desk.adapter(one, 0.3))
    assert first.tokens == second.tokens
    assert len(desk.served.lanes.open) == 1
    assert desk.ask("abc", desk.adapter(one, 0.0)).tokens == desk.ask("abc").tokens


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha_pattern": {"q_proj": 64}},
        {"ranks": {"v_proj": 6}, "alpha_pattern": {"model.layers.1.self_attn.v_proj": 40}},
        {"use_rslora": True, "rank": 6},
    ],
)
def test_scales_that_differ_by_projection_are_pefts(desk: Desk, folder: Path, settings: dict[str, Any]) -> None:
    """exllamav2's own loader ignores both patterns; this one computes them."""
    path = small_adapter(folder / f"s{abs(hash(json.dumps(settings)))}", seed=3, **settings)
    judge = oracle(desk.model, (path, 1.0))
    assert max(short_of_best(judge, desk.ask(prompt, desk.adapter(path), max_tokens=12)) for prompt in PROMPTS) < NEAR


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "bias"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"[qv]_proj": 4}}, "rank_pattern"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
    ],
)
def test_what_it_does_not_compute_is_refused_by_name(
    desk: Desk, tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    path = small_adapter(tmp_path / "odd", seed=1, **settings)
    with pytest.raises(AiwmError, match=named) as caught:
        desk.adapter(path)
    assert caught.value.code == Code.adapter_unsupported


def test_files_that_do_not_fit_are_refused_by_name(desk: Desk, tmp_path: Path) -> None:
    wide = write_adapter(tmp_path / "wide", tiny_config(**(SIZES | {"hidden_size": 160})))
    deep = write_adapter(tmp_path / "deep", tiny_config(**(SIZES | {"num_hidden_layers": 5})))
    cut = small_adapter(tmp_path / "cut", seed=1)
    weights = cut / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    pickled = small_adapter(tmp_path / "pickled", seed=1)
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    head = small_adapter(tmp_path / "head", seed=1)
    one = np.ones((4, 128), np.float32)
    write_safetensors(
        head / "adapter_model.safetensors",
        {
            "base_model.model.lm_head.lora_A.weight": one,
            "base_model.model.lm_head.lora_B.weight": np.ones((262, 4), np.float32),
        },
    )
    for path, code, named in (
        (wide, Code.adapter_invalid, "shape"),
        (deep, Code.adapter_invalid, "layer 3"),
        (cut, Code.adapter_invalid, "cut short"),
        (pickled, Code.adapter_unsupported, "pickle"),
        (head, Code.adapter_unsupported, "lm_head"),
        (tmp_path / "none", Code.adapter_not_found, "none"),
    ):
        with pytest.raises(AiwmError, match=named) as caught:
            desk.adapter(path)
        assert caught.value.code == code


def test_models_that_add_up_in_32_bits_refuse_adapters(desk: Desk, adapters: tuple[Path, Path]) -> None:
    narrow = dataclasses.replace(desk.served, linears={})
    with (
        verified_files("mine", adapters[0], adapter_digest(adapters[0])) as files,
        pytest.raises(AiwmError, match="LlamaForCausalLM") as caught,
    ):
        narrow.stage(files)
    assert caught.value.code == Code.adapter_unsupported


def test_an_adapter_that_changes_while_it_is_read_is_refused(desk: Desk, tmp_path: Path) -> None:
    from engine.inference.backends.base import AdapterRef

    path = small_adapter(tmp_path / "mine", seed=1)
    digest = adapter_digest(path)
    small_adapter(path, seed=2)
    with pytest.raises(AiwmError, match="changed on disk") as caught:
        desk.backend.stage(AdapterRef("mine", path, digest))
    assert caught.value.info.retryable


@pytest.mark.parametrize(
    "kind",
    [
        {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
        {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
        {"tie_word_embeddings": True, "num_key_value_heads": 4},
        {"attention_bias": True},
        {"mlp_bias": True, "num_key_value_heads": 1},
    ],
)
def test_other_models_of_the_family(tmp_path: Path, kind: dict[str, Any]) -> None:
    model = small_model(tmp_path / "model", num_hidden_layers=2, **kind)
    desk, judge = Desk(model, slots=2, context=512), oracle(model)
    assert max(short_of_best(judge, desk.ask(prompt, max_tokens=12)) for prompt in PROMPTS) < NEAR
    desk.backend.unload()


@pytest.mark.parametrize("sizes", [{"intermediate_size": 200}, {"head_dim": 40}, {"hidden_size": 80}])
def test_sizes_that_exllamav2_would_trip_over_are_refused_by_name(tmp_path: Path, sizes: dict[str, int]) -> None:
    model = small_model(tmp_path / "model", **sizes)
    with pytest.raises(AiwmError, match="multiples of 32") as caught:
        Desk(model)
    assert caught.value.code == Code.model_refused


# -- many at once --------------------------------------------------------------------------------------------------------


def test_lanes_run_together_and_each_answers_as_if_alone(desk: Desk, adapters: tuple[Path, Path]) -> None:
    sets: list[list[tuple[Path, float]]] = [
        [],
        [(adapters[0], 1.0)],
        [(adapters[1], 1.0)],
        [(adapters[0], 0.5), (adapters[1], 0.5)],
    ]
    requests = {}
    for prompt in PROMPTS[:2]:
        for number, uses in enumerate(sets):
            request = desk.begin(prompt, *(desk.adapter(*use) for use in uses), max_tokens=6)
            requests[request] = number
        desk.step()  # the second prompt's requests join while the first's are written
    assert desk.backend.active() == 8
    assert len(desk.served.lanes.open) == 4
    before = {request: len(desk.written[request].tokens) for request in requests}
    desk.step()
    assert all(len(desk.written[request].tokens) == before[request] + 1 for request in requests)
    desk.finish()
    for request, number in requests.items():
        assert short_of_best(oracle(desk.model, *sets[number]), desk.written[request]) < NEAR


def test_a_seed_gives_the_same_text_again_and_requests_draw_apart(desk: Desk) -> None:
    how: dict[str, Any] = {"temperature": 1.2, "top_p": 0.95, "seed": 11, "max_tokens": 16}
    assert desk.ask("colours", **how).tokens == desk.ask("colours", **how).tokens
    assert desk.ask("colours", **how).tokens != desk.ask("colours", **(how | {"seed": 12})).tokens
    others = [desk.begin("colours", temperature=1.2, max_tokens=16) for _ in range(3)]
    desk.finish()
    assert len({tuple(desk.written[other].tokens) for other in others}) == 3


def test_where_answers_end(desk: Desk, tmp_path: Path) -> None:
    long = desk.ask("letters", max_tokens=40)
    assert (long.finished.reason, long.finished.tokens_out) == ("length", 40)
    assert long.finished.tokens_in == 7
    stop = long.text[12:15]
    cut = desk.ask("letters", max_tokens=40, stop=(stop,))
    assert cut.finished.reason == "stop"
    assert cut.text == long.text[: long.text.index(stop)]
    assert desk.backend.active() == 0
    # Every end token of generation_config.json ends an answer; exllamav2 itself knows the first of config.json.
    model = small_model(tmp_path / "two-ends", num_hidden_layers=1)
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, long.tokens[5]]}))
    other = Desk(model)
    assert other.served.facts.end_tokens == {2, long.tokens[5]}
    forced = other.prepare("letters", max_tokens=40)
    held = dataclasses.replace(forced, constraint=Only([70, 71, long.tokens[5], 72]))
    assert other.admit(held)
    other.finish()
    written = other.written[held.request.id]
    assert (written.finished.reason, written.tokens) == ("stop", [70, 71, long.tokens[5]])
    other.backend.unload()


def test_the_context_bounds_prompt_and_answer(desk: Desk) -> None:
    with pytest.raises(AiwmError, match="2048") as caught:
        desk.prepare("x" * 2048)
    assert caught.value.code == Code.prompt_too_long
    full = desk.ask("x" * 2040, max_tokens=100)
    assert (full.finished.reason, full.finished.tokens_out) == ("length", 8)


# -- constraints and numbers that are none -------------------------------------------------------------------------------


def test_a_schema_holds_an_answer_among_free_ones(desk: Desk, judge: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["red", "blue"]}},
        "required": ["kind"],
        "additionalProperties": False,
    }
    free = desk.begin("a colour, please", max_tokens=30)
    bound = desk.begin("a colour, please", max_tokens=60, schema=schema)
    desk.finish()
    assert json.loads(desk.written[bound].text)["kind"] in ("red", "blue")
    assert desk.written[bound].finished.reason == "stop"
    assert short_of_best(judge, desk.written[free]) < NEAR


def test_a_constraint_that_fails_takes_only_its_request_along(desk: Desk) -> None:
    class Breaks(Only):
        def advance(self, token: int) -> None:
            raise AiwmError(Code.schema_unsupported, "no more of this", field="schema")

    bad = dataclasses.replace(desk.prepare("one"), constraint=Breaks([70, 71]))
    nothing = dataclasses.replace(desk.prepare("two"), constraint=Only([9_999]))
    assert desk.admit(bad)
    assert desk.admit(nothing)
    good = desk.begin("three")
    desk.finish()
    assert desk.written[bad.request.id].failed.error.code == Code.schema_unsupported
    assert desk.written[nothing.request.id].failed.error.code == Code.schema_unsupported
    assert desk.written[good].finished.reason == "length"


def test_an_adapter_whose_numbers_overflow_fails_its_own_requests_by_name(
    desk: Desk, judge: Any, tmp_path: Path
) -> None:
    path = small_adapter(tmp_path / "bursts", seed=1, scale=2_000.0)
    bad, good = desk.begin("abc", desk.adapter(path)), desk.begin("abc")
    desk.finish()
    error = desk.written[bad].failed.error
    assert error.code == Code.model_invalid
    assert "bursts" in error.info.message
    assert short_of_best(judge, desk.written[good]) < NEAR
