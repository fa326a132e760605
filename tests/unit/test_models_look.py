"""What model files are, from their headers: every kind, the traps, damage, and the verdict that follows."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.definitions import Backend
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.models import Verdict
from engine.inference.backends.reference.config import read_json
from engine.inference.models.defaults import definition_of
from engine.inference.models.kinds import ModelKind, Template
from engine.inference.models.look import look, models_in, name_of
from engine.inference.models.machine import Device, Machine
from engine.inference.models.sample import samples
from engine.inference.models.verdict import judge
from engine.inference.names import SHIPPED
from tests.support.model_files import CHATML, LLAMA_8B, QWEN_GGUF, llama_tensors, write_gguf, write_model

GB = 10**9
BIG = Machine(
    devices=(
        Device(id="GPU0", total=24 * GB, free=20 * GB),
        Device(id="GPU1", total=24 * GB, free=23 * GB),
        Device(id="CPU", total=64 * GB, free=40 * GB),
    ),
    llama_server="/usr/bin/llama-server",
)
SMALL = Machine(devices=(Device(id="CPU", total=16 * GB, free=8 * GB),), exllamav2="no NVIDIA GPU")
TINY: dict[str, Any] = LLAMA_8B | {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
"intermediate_size": 128, "vocab_size": 256, "max_position_embeddings": 2048}  # fmt: skip


def tiny(directory: Path, config: dict[str, Any] | None = None, **options: Any) -> Path:
    return write_model(directory, TINY | (config or {}), llama_tensors(TINY), **options)


def test_an_unquantised_directory_of_any_size_is_read_in_a_moment(tmp_path: Path) -> None:
    path = write_model(tmp_path / "Llama-3.1-8B", LLAMA_8B, llama_tensors(LLAMA_8B), shards=4)
    began = time.process_time()
    seen = look(path)
    assert time.process_time() - began < 0.5
    assert (seen.kind, seen.quant, seen.architecture) == (ModelKind.plain, "BF16", "LlamaForCausalLM")
    assert seen.parameters == 8_030_261_248
    assert seen.weights_bytes == 2 * seen.parameters
    assert (seen.shape.kv_heads, seen.shape.head_size, seen.shape.context) == (8, 128, 131072)
    assert not seen.damaged
    verdict = judge(seen, BIG)
    assert (verdict.state, verdict.runs_with, verdict.fits) == ("usable", "exllamav2", ("GPU1",))
    assert verdict.needs_bytes > seen.weights_bytes
    refused = judge(seen, SMALL)
    assert (refused.state, refused.runs_with) == ("refused", "")
    assert "no NVIDIA GPU" in refused.why
    assert "8.0 billion parameters, at most 1.5" in refused.why


@pytest.mark.parametrize(
    ("config", "endings", "kind", "quant"),
    [
        ({"quantization_config": {"quant_method": "exl2", "bits": 4.65}}, (".q_weight",), ModelKind.exl2, "4.65 bpw"),
        ({}, (".q_weight",), ModelKind.exl2, ""),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, (".qweight",), ModelKind.gptq, "4 bpw"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, (".qweight",), ModelKind.awq, "4 bpw"),
        ({"quantization_config": {"quant_method": "exl3", "bits": 3.0}}, (".trellis",), ModelKind.exl3, "3 bpw"),
        ({}, (".trellis",), ModelKind.exl3, ""),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, (".weight",), ModelKind.other, "bitsandbytes"),
    ],
)
def test_quantised_directories_are_told_apart(
    tmp_path: Path, config: dict[str, Any], endings: tuple[str, ...], kind: ModelKind, quant: str
) -> None:
    path = write_model(tmp_path / "m", LLAMA_8B | config, llama_tensors(LLAMA_8B, "F16", endings))
    seen = look(path)
    assert (seen.kind, seen.quant) == (kind, quant)
    if kind is not ModelKind.other:
        assert 8.0e9 < seen.parameters < 8.1e9  # counted from the numbers, not from the packed tensors


def test_the_old_way_to_mark_gptq_is_known(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", LLAMA_8B, llama_tensors(LLAMA_8B, "F16", (".qweight",)))
    (path / "quantize_config.json").write_text(json.dumps({"bits": 8, "group_size": 128}))
    assert (look(path).kind, look(path).quant) == (ModelKind.gptq, "8 bpw")


def test_a_gguf_file_is_read_whatever_its_size(tmp_path: Path) -> None:
    tensors = {f"blk.{n}.ffn_up.weight": (12, [5120, 13824], 5120 * 13824 // 256 * 144) for n in range(48)}
    words = [f"token-{n}" for n in range(150_000)]
    metadata = QWEN_GGUF | {"tokenizer.ggml.tokens": words, "tokenizer.ggml.merges": words}
    path = write_gguf(tmp_path / "Qwen2.5-14B-Q4_K_M.gguf", metadata, tensors)
    began = time.process_time()
    seen = look(path)
    assert time.process_time() - began < 0.7
    assert (seen.kind, seen.quant, seen.architecture, seen.name) == (
        ModelKind.gguf,
        "Q4_K_M",
        "qwen2",
        "Qwen2.5-14B-Q4_K_M",
    )
    assert seen.parameters == 48 * 5120 * 13824
    assert seen.weights_bytes == seen.parameters * 144 // 256
    assert (seen.shape.context, seen.shape.kv_heads, seen.shape.head_size, seen.shape.vocabulary) == (
        32768,
        8,
        128,
        150_000,
    )
    assert seen.template is not None
    assert seen.template.source == CHATML
    assert seen.template.tokens == {"bos_token": "token-1"}
    assert judge(seen, BIG).runs_with == "llama-server"
    without = judge(seen, SMALL)
    assert (without.state, without.ways[0].why) == ("refused", "not in PATH")
    assert "--command" in (without.fix or "")


def test_shards_of_a_gguf_are_one_model(tmp_path: Path) -> None:
    for number in (1, 2):
        metadata = QWEN_GGUF if number == 1 else {"split.no": 1}
        write_gguf(tmp_path / f"big-{number:05d}-of-00003.gguf", metadata, {f"t{number}": (1, [1000], 2000)})
    (found,) = models_in(tmp_path)
    seen = look(found)
    assert seen.name == "big"
    assert seen.parameters == 2000
    assert seen.damaged == ("big-00003-of-00003.gguf: is missing",)


def test_what_nothing_here_runs_says_who_does(tmp_path: Path) -> None:
    for method, program in (("exl3", "TabbyAPI"), ("awq", "vLLM")):
        config = LLAMA_8B | {"quantization_config": {"quant_method": method, "bits": 4}}
        path = write_model(tmp_path / method, config, llama_tensors(LLAMA_8B, "F16", (".qweight",)))
        verdict = judge(look(path), BIG)
        assert verdict.state == "refused"
        assert program in (verdict.fix or "")
        with pytest.raises(AiwmError) as caught:
            definition_of("m", path)
        assert caught.value.code == "model_refused"
        assert program in (caught.value.info.fix or "")
    served = judge(look(tmp_path / "awq"), Machine(devices=BIG.devices, vllm="/usr/bin/vllm"))
    assert (served.state, served.runs_with) == ("usable", "vLLM")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", TINY, llama_tensors(TINY), shards=3)
    (path / "model-00002-of-00003.safetensors").unlink()
    third = path / "model-00003-of-00003.safetensors"
    with third.open("r+b") as file:
        file.truncate(third.stat().st_size - 10)
    seen = look(path)
    assert seen.damaged == (
        "model-00002-of-00003.safetensors: is missing",
        "model-00003-of-00003.safetensors: cut short, 10 bytes are missing",
    )
    assert judge(seen, BIG).state == "damaged"
    with pytest.raises(AiwmError, match=r"model-00002-of-00003\.safetensors: is missing \(and 1 more\)"):
        definition_of("m", path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "its header is longer than the file"),
        (b"\xff" * 64, "its header is longer than the file"),
        ((20).to_bytes(8, "little") + b"{not json at all!!!}", "its header is not readable"),
        ((21).to_bytes(8, "little") + b'{"a": {"dtype": "F"}}', "its header is not readable"),
    ],
)
def test_a_file_that_is_no_safetensors_is_damaged(tmp_path: Path, content: bytes, why: str) -> None:
    path = tiny(tmp_path / "m")
    (path / "model.safetensors").write_bytes(content)
    assert look(path).damaged == (f"model.safetensors: {why}",)


@pytest.mark.parametrize("size", [0, 3, 10, 23, 60, 200, 1000])
def test_a_gguf_that_is_cut_anywhere_is_damaged_and_harms_nobody(tmp_path: Path, size: int) -> None:
    path = write_gguf(tmp_path / "m.gguf", QWEN_GGUF, {"t": (1, [64, 64], 8192)})
    path.write_bytes(path.read_bytes()[:size])
    seen = look(path)
    assert seen.kind is ModelKind.gguf
    assert len(seen.damaged) == 1
    assert judge(seen, BIG).state == "damaged"


def test_a_gguf_with_lies_in_its_header_is_damaged(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", QWEN_GGUF, {"t": (1, [64, 64], 8192)}, cut=100)
    assert look(path).damaged == ("m.gguf: cut short, 100 bytes are missing",)
    for place, number in ((8, 2**62), (16, 2**62), (24, 2**63)):
        raw = bytearray(path.read_bytes())
        raw[place : place + 8] = number.to_bytes(8, "little")
        path.write_bytes(raw)
        assert look(path).damaged


@given(place=st.integers(0, 2_000), what=st.binary(min_size=1, max_size=12), cut=st.integers(0, 3_000))
@settings(max_examples=150, deadline=None)
def test_no_damage_to_a_header_is_more_than_damage(place: int, what: bytes, cut: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gguf = write_gguf(folder / "m.gguf", QWEN_GGUF, {"a": (12, [256, 64], 9216), "b": (1, [64], 128)})
        path = tiny(folder / "m")
        for file in (gguf, path / "model.safetensors", path / "config.json", path / "tokenizer_config.json"):
            raw = bytearray(file.read_bytes()[:20_000])
            raw[place : place + len(what)] = what
            file.write_bytes(raw[: max(0, len(raw) - cut)] if cut % 3 else raw)
        for seen in (look(gguf), look(path)):
            for machine in (BIG, SMALL):
                assert msgspec.json.decode(msgspec.json.encode(judge(seen, machine)), type=Verdict).state


def test_numbers_without_bounds_are_bounded(tmp_path: Path) -> None:
    huge = dict.fromkeys(
        ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"), 2**39
    )
    verdict = judge(look(tiny(tmp_path / "m", huge)), BIG, slots=1000, context=2**24)
    assert msgspec.json.encode(verdict)
    assert verdict.state in ("refused", "no room")


def test_what_is_not_a_file_hangs_nobody(tmp_path: Path) -> None:
    path = tiny(tmp_path / "m")
    for name in ("tokenizer_config.json", "chat_template.jinja", "generation_config.json", "quantize_config.json"):
        (path / name).unlink(missing_ok=True)
        os.mkfifo(path / name)
    seen = look(path)
    assert (seen.kind, seen.template) == (ModelKind.plain, None)
    write_gguf(tmp_path / "b-00001-of-00002.gguf", QWEN_GGUF, {})
    os.mkfifo(tmp_path / "b-00002-of-00002.gguf")
    assert look(tmp_path / "b-00001-of-00002.gguf").damaged == ("b-00002-of-00002.gguf: it is no file",)


def test_a_text_that_fills_the_file_is_not_read(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", {"general.name": "x"}, {})
    raw = bytearray(path.read_bytes())
    place = raw.index(b"general.name") + len("general.name") + 4
    raw[place : place + 8] = (2**33).to_bytes(8, "little")
    with path.open("wb") as file:
        file.write(raw)
        file.truncate(2**34)
    assert look(path).damaged == ("m.gguf: its header is damaged",)


def test_looking_beneath_everything_ends(tmp_path: Path) -> None:
    for first in range(30):
        for second in range(30):
            (tmp_path / str(first) / str(second)).mkdir(parents=True)
    (tmp_path / "loop").symlink_to(tmp_path)
    began = time.process_time()
    assert models_in(tmp_path) == []
    assert time.process_time() - began < 3


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    path = tiny(tmp_path / "m")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    verdict = judge(look(path), BIG)
    assert verdict.state == "refused"
    assert "pytorch_model.bin, a pickle that could run code" in verdict.why
    with pytest.raises(AiwmError) as caught:
        definition_of("m", path)
    assert caught.value.code == "model_invalid"


def test_a_configuration_of_transformers_5_is_read(tmp_path: Path) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "original_max_position_embeddings": 8192}
    new = {"rope_parameters": rope | {"low_freq_factor": 1.0, "high_freq_factor": 4.0}, "dtype": "bfloat16"}
    verdict = judge(look(tiny(tmp_path / "m", new)), SMALL)
    assert (verdict.state, verdict.runs_with, verdict.fits) == ("usable", "reference", ("CPU",))


def test_a_missing_tokenizer_and_several_architectures_are_said(tmp_path: Path) -> None:
    path = tiny(
        tmp_path / "m", {"architectures": ["LlamaForCausalLM", "LlamaForSequenceClassification"]}, tokenizer=False
    )
    (path / "tokenizer.model").touch()
    verdict = judge(look(path), SMALL)
    assert verdict.state == "refused"
    assert "it wants a tokenizer.json" in verdict.why
    assert any("several architectures" in note for note in verdict.notes)
    assert "no tokenizer.json (only tokenizer.model)" in verdict.notes


def test_what_a_backend_does_not_know_is_said_by_name(tmp_path: Path) -> None:
    verdict = judge(look(tiny(tmp_path / "m", {"architectures": ["MambaForCausalLM"]})), BIG)
    assert verdict.state == "refused"
    assert "exllamav2: does not know MambaForCausalLM" in verdict.why
    assert "architecture 'MambaForCausalLM'" in verdict.why


def test_the_numbers_of_a_model_that_sees_are_found(tmp_path: Path) -> None:
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": LLAMA_8B}
    seen = look(write_model(tmp_path / "m", config, llama_tensors(TINY)))
    assert seen.shape.layers == 32


def test_a_model_without_room_says_how_much_is_missing(tmp_path: Path) -> None:
    path = write_model(
        tmp_path / "big", LLAMA_8B | {"num_hidden_layers": 80}, llama_tensors(LLAMA_8B | {"num_hidden_layers": 80})
    )
    one = Machine(devices=(Device(id="GPU0", total=24 * GB, free=20 * GB), Device(id="CPU", total=GB, free=GB)))
    verdict = judge(look(path), one)
    assert verdict.state == "no room"
    assert verdict.why.startswith("exllamav2: needs ")
    assert verdict.why.endswith("(GPU0)")
    assert (verdict.slots, verdict.context) == (1, 2048)
    assert judge(look(path), BIG).fits == ("GPU0+GPU1",)


def test_a_long_context_gives_way_to_what_fits(tmp_path: Path) -> None:
    seen = look(write_model(tmp_path / "m", LLAMA_8B, llama_tensors(LLAMA_8B)))
    roomy = judge(seen, BIG)
    tight = judge(
        seen, Machine(devices=(Device(id="GPU0", total=24 * GB, free=19 * GB), Device(id="CPU", total=GB, free=GB)))
    )
    assert tight.state == "usable"
    assert tight.slots * tight.context < roomy.slots * roomy.context
    said = judge(seen, BIG, slots=1, context=16384)
    assert (said.slots, said.context) == (1, 16384)


def test_models_are_found_in_the_layouts_of_download_tools(tmp_path: Path) -> None:
    plain = tiny(tmp_path / "plain")
    hub = tmp_path / "models--org--Name-7B"
    old, new = tiny(hub / "snapshots" / "aaa"), tiny(hub / "snapshots" / "bbb")
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("aaa")
    file = write_gguf(tmp_path / "q.gguf", QWEN_GGUF, {})
    (tmp_path / "publisher" / "repo").mkdir(parents=True)
    nested = write_gguf(tmp_path / "publisher" / "repo" / "n-Q8_0.gguf", QWEN_GGUF, {})
    write_gguf(tmp_path / "publisher" / "repo" / "mmproj-n.gguf", {}, {})
    assert set(models_in(tmp_path)) == {plain, old, file, nested}
    assert new not in models_in(tmp_path)
    assert name_of(old) == "Name-7B"
    assert name_of(Path("/m/Große Datei (neu).gguf")) == "Gro-e-Datei-neu"


def test_links_lead_to_no_model_twice(tmp_path: Path) -> None:
    plain = tiny(tmp_path / "plain")
    (tmp_path / "self").symlink_to(".")
    (tmp_path / "too").symlink_to(plain)
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "up").symlink_to(tmp_path)
    write_gguf(tmp_path / "q.gguf", QWEN_GGUF, {})
    assert models_in(tmp_path) == [tmp_path / "q.gguf", plain]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[" * 200_000 + "]" * 200_000, "is not readable JSON"),
        ("{", "is not readable JSON"),
        ("[]", "is not a JSON object"),
    ],
    ids=["deep", "cut", "list"],
)
def test_settings_of_a_tokenizer_that_nobody_can_read_are_damage(tmp_path: Path, content: str, why: str) -> None:
    path = tiny(tmp_path / "m")
    (path / "tokenizer_config.json").write_text(content)
    verdict = judge(look(path), SMALL)
    assert (verdict.state, verdict.why) == ("damaged", f"tokenizer_config.json: {why}")
    with pytest.raises(AiwmError, match=r"tokenizer_config\.json is not") as caught:
        read_json(path / "tokenizer_config.json", Code.model_invalid)
    assert caught.value.code == Code.model_invalid


def test_what_is_no_model_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert judge(look(tmp_path / "empty"), BIG).state == "no model"
    assert "a LoRA adapter" in judge(look(SHIPPED / "adapters" / "house-words"), BIG).why
    (tmp_path / "w.safetensors").touch()
    assert "add its directory" in judge(look(tmp_path / "w.safetensors"), BIG).why
    with pytest.raises(AiwmError) as caught:
        look(tmp_path / "nowhere")
    assert caught.value.code == "model_not_found"
    bad = tiny(tmp_path / "bad")
    (bad / "config.json").write_text("{")
    assert look(bad).damaged == ("config.json: is not readable JSON",)


def test_the_shipped_model_is_usable_without_a_gpu() -> None:
    verdict = judge(look(SHIPPED / "aiwm-nano"), SMALL)
    assert (verdict.state, verdict.runs_with, verdict.fits) == ("usable", "reference", ("CPU",))
    assert definition_of("nano", SHIPPED / "aiwm-nano").backend in (Backend.reference, Backend.exllamav2)


async def test_chat_templates_are_tried_in_a_process_that_cannot_harm() -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    sources = (
        CHATML,
        endless,
        "{{ 'x' * 10000000000 }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ messages[0].content }}",
    )
    no_system = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    found = await samples([*(Template(source=source) for source in (*sources, no_system)), None])
    assert found[0].verdict == "ok"
    assert found[0].text.endswith("<|im_start|>user\nAnd 3+3?<|im_end|>\n<|im_start|>assistant\n")
    assert found[1].verdict == "takes more than 1 s"
    assert "MemoryError" in found[2].verdict
    assert "unsafe" in found[3].verdict
    assert "loses what is said" in found[4].verdict
    assert found[5].verdict == "ok (no system message)"
    assert found[6].verdict == "none"
