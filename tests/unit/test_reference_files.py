"""What the reference backend opens and what it refuses, always by name: weights, configurations, adapters, tokenizers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.contract.errors import AiwmError
from engine.inference.adapter_files import adapter_digest
from engine.inference.backends.base import AdapterRef, LoadSpec
from engine.inference.backends.reference import memory
from engine.inference.backends.reference.backend import ReferenceBackend
from engine.inference.backends.reference.config import read_config
from engine.inference.backends.reference.safetensors import TensorDirectory, TensorFile
from tests.support.tiny_model import tiny_config, write_adapter, write_model, write_safetensors


def refused(code: str, *words: str) -> Any:
    class Check:
        def __enter__(self) -> Check:
            return self

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
            assert isinstance(error, AiwmError), f"nothing was refused: {error!r}"
            assert error.code == code, error
            for word in words:
                assert word in str(error), f"{word!r} is not in {error}"
            return True

    return Check()


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_reads_every_float_type(dtype: str, tmp_path: Path) -> None:
    tensor = np.array([[1.5, -2.25], [0.0, 3.0]], np.float32)  # exact in all three
    write_safetensors(tmp_path / "a.safetensors", {"t": tensor}, dtype)
    read = TensorFile(tmp_path / "a.safetensors").read("t")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, tensor)


def test_refuses_a_cut_file(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m")
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with refused("model_invalid", "model.safetensors", "cut short"):
        TensorDirectory(model)


@pytest.mark.parametrize(
    "content", [b"", b"\x10", b"\xff" * 64, (5).to_bytes(8, "little") + b"{nope", (2).to_bytes(8, "little") + b"[]"]
)
def test_refuses_what_is_not_safetensors(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with refused("model_invalid", "a.safetensors"):
        TensorFile(tmp_path / "a.safetensors")


def test_refuses_a_header_that_lies(tmp_path: Path) -> None:
    header = json.dumps({"t": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with refused("model_invalid", "tensor t"):
        TensorFile(tmp_path / "a.safetensors")


def test_refuses_pickles(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with refused("model_invalid", "pytorch_model.bin", "pickle", "safetensors"):
        ReferenceBackend().load(LoadSpec(model, 1))


def test_refuses_integer_weights(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m")
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"'))
    with refused("model_invalid", "I32"):
        ReferenceBackend().load(LoadSpec(model, 1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, ("GPT2LMHeadModel", "LlamaForCausalLM")),
        ({"architectures": None}, ("nothing",)),
        ({"hidden_act": "gelu"}, ("gelu",)),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, ("yarn",)),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, ("linear",)),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}, ("low_freq_factor",)),
        ({"partial_rotary_factor": 0.5}, ("partial_rotary_factor",)),
        ({"quantization_config": {"quant_method": "gptq"}}, ("gptq",)),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 64}, ("sliding window of 64",)),
        ({"hidden_size": 0}, ("hidden_size", "0")),
        ({"hidden_size": "wide"}, ("hidden_size", "'wide'")),
        ({"num_key_value_heads": 3}, ("4 heads", "3 key-value heads")),
        ({"rms_norm_eps": -1}, ("rms_norm_eps",)),
        ({"eos_token_id": "end"}, ("eos_token_id",)),
    ],
)  # fmt: skip
def test_refuses_configurations_by_name(changes: dict[str, Any], words: tuple[str, ...], tmp_path: Path) -> None:
    config = {key: value for key, value in tiny_config(**changes).items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with refused("model_invalid", *words):
        read_config(tmp_path)


def test_missing_directory_and_files(tmp_path: Path) -> None:
    with refused("model_not_found", "nowhere", "correct the path"):
        read_config(tmp_path / "nowhere")
    with refused("model_invalid", "config.json"):
        read_config(tmp_path)
    model = write_model(tmp_path / "m")
    (model / "tokenizer.json").unlink()
    with refused("model_invalid", "tokenizer.json"):
        ReferenceBackend().load(LoadSpec(model, 1))
    (model / "tokenizer.json").write_text("{}")
    with refused("model_invalid", "tokenizer.json"):
        ReferenceBackend().load(LoadSpec(model, 1))


def test_rope_theta_in_both_places(tmp_path: Path) -> None:
    for changes in (
        {"rope_theta": 5e5},
        {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    ):
        kept = {key: value for key, value in tiny_config(**changes).items() if value is not None}
        (tmp_path / "config.json").write_text(json.dumps(kept))
        assert read_config(tmp_path).rope_theta == 5e5


def test_end_tokens_of_generation_config_win(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(tiny_config()))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    assert read_config(tmp_path).end_tokens == {7, 9}


def test_a_tensor_of_another_shape_or_none(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"intermediate_size": 52}))
    with refused("model_invalid", "gate_proj", "(48, 32)", "(52, 32)"):
        ReferenceBackend().load(LoadSpec(model, 1))
    (model / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with refused("model_invalid", "model.layers.2"):
        ReferenceBackend().load(LoadSpec(model, 1))


def test_too_big_is_refused_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "m")
    backend = ReferenceBackend()
    assert backend.plan(LoadSpec(model, 2)).fits
    monkeypatch.setattr(memory, "available_bytes", lambda: 4_000_000)
    with refused("model_too_big", "12 MiB", "60% of the free memory", "models.slots"):
        backend.load(LoadSpec(model, 400))
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with refused("model_too_big", "smaller model"):
        backend.load(LoadSpec(model, 1))
    monkeypatch.setattr(memory, "MAX_PARAMETERS", 10_000)
    with refused("model_too_big", "GPU backend"):
        backend.load(LoadSpec(model, 1))


def test_plan_matches_what_a_load_takes(tmp_path: Path) -> None:
    backend = ReferenceBackend()
    for name, changes in (("tied", {}), ("untied", {"tie_word_embeddings": False})):
        spec = LoadSpec(write_model(tmp_path / name, **changes), 3, 64)  # type: ignore[arg-type]
        plan, loaded = backend.plan(spec), backend.load(spec)
        assert loaded.weights_bytes <= plan.weights_bytes <= loaded.weights_bytes * 1.01
        assert plan.kv_bytes == loaded.kv_bytes
        assert plan.parameters == loaded.parameters


# -- adapters ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def loaded(tmp_path: Path) -> ReferenceBackend:
    backend = ReferenceBackend()
    backend.load(LoadSpec(write_model(tmp_path / "model"), 2))
    return backend


def stage(backend: ReferenceBackend, path: Path) -> None:
    digest = adapter_digest(path)
    backend.attach(backend.upload(backend.stage(AdapterRef("a", path, digest))))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_dora": True}, ("DoRA",)),
        ({"bias": "lora_only"}, ("bias='lora_only'",)),
        ({"modules_to_save": ["lm_head"]}, ("modules_to_save", "lm_head")),
        ({"peft_type": "LOHA"}, ("LOHA",)),
        ({"init_lora_weights": "pissa"}, ("pissa",)),
        ({"fan_in_fan_out": True}, ("fan_in_fan_out",)),
        ({"lora_bias": True}, ("lora_bias",)),
        ({"trainable_token_indices": [3]}, ("trainable_token_indices",)),
        ({"something_new": {"a": 1}}, ("something_new",)),
        ({"alpha_pattern": {"layers.[01].*": 3}}, ("layers.[01].*", "alpha_pattern")),
    ],
)
def test_refuses_unsupported_adapters_by_name(
    changes: dict[str, Any], words: tuple[str, ...], loaded: ReferenceBackend, tmp_path: Path
) -> None:
    path = write_adapter(tmp_path / "adapter", **changes)
    with refused("adapter_unsupported", str(path), *words):
        stage(loaded, path)


def test_refuses_adapters_that_do_not_fit(loaded: ReferenceBackend, tmp_path: Path) -> None:
    with refused("adapter_invalid", "q_proj", "(4, 64)", "(4, 32)"):
        stage(loaded, write_adapter(tmp_path / "wide", tiny_config(hidden_size=64)))
    with refused("adapter_invalid", "layer 2", "2 layers"):
        stage(loaded, write_adapter(tmp_path / "deep", tiny_config(num_hidden_layers=3)))
    with refused("adapter_invalid", "lora_A", "(8, 32)"):
        stage(loaded, write_adapter(tmp_path / "rank", r=8))
    with refused("adapter_invalid", "lora_alpha=None"):
        stage(loaded, write_adapter(tmp_path / "alpha", lora_alpha=None))


def rewrite(path: Path, change: Any) -> Path:
    file = TensorFile(path / "adapter_model.safetensors")
    tensors = {name: file.read(name).copy() for name in file.tensors}
    write_safetensors(path / "adapter_model.safetensors", change(tensors))
    return path


def test_refuses_damaged_adapters(loaded: ReferenceBackend, tmp_path: Path) -> None:
    def without_b(tensors: dict[str, Any]) -> dict[str, Any]:
        return {name: tensor for name, tensor in tensors.items() if "layers.1.mlp.up_proj.lora_B" not in name}

    def with_infinity(tensors: dict[str, Any]) -> dict[str, Any]:
        next(iter(tensors.values()))[0, 0] = np.inf
        return tensors

    def with_huge(tensors: dict[str, Any]) -> dict[str, Any]:
        next(iter(tensors.values()))[0, 0] = 1e30
        return tensors

    def with_embedding(tensors: dict[str, Any]) -> dict[str, Any]:
        return tensors | {"base_model.model.model.embed_tokens.lora_embedding_A": np.zeros((4, 4), np.float32)}

    with refused("adapter_invalid", "layers.1.mlp.up_proj", "only lora_A"):
        stage(loaded, rewrite(write_adapter(tmp_path / "half"), without_b))
    with refused("adapter_invalid", "not finite"):
        stage(loaded, rewrite(write_adapter(tmp_path / "infinite"), with_infinity))
    with refused("adapter_invalid", "1e+06"):
        stage(loaded, rewrite(write_adapter(tmp_path / "huge"), with_huge))
    with refused("adapter_unsupported", "embed_tokens.lora_embedding_A"):
        stage(loaded, rewrite(write_adapter(tmp_path / "embedding"), with_embedding))
    with refused("adapter_invalid", "no tensors"):
        stage(loaded, rewrite(write_adapter(tmp_path / "empty"), lambda tensors: {}))
    cut = write_adapter(tmp_path / "cut")
    data = (cut / "adapter_model.safetensors").read_bytes()
    (cut / "adapter_model.safetensors").write_bytes(data[:-50])
    with refused("adapter_invalid", "cut short"):
        stage(loaded, cut)


def test_missing_adapters(loaded: ReferenceBackend, tmp_path: Path) -> None:
    with refused("adapter_not_found", "nowhere"):
        stage(loaded, tmp_path / "nowhere")
    pickled = write_adapter(tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with refused("adapter_unsupported", "adapter_model.bin", "pickle"):
        stage(loaded, pickled)
    (pickled / "adapter_model.bin").unlink()
    with refused("adapter_invalid", "adapter_model.safetensors"):
        stage(loaded, pickled)


def test_an_adapter_that_changed_since_it_was_named(loaded: ReferenceBackend, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a")
    with refused("adapter_invalid", "changed on disk"):
        loaded.stage(AdapterRef("a", path, "0" * 64))
    before = adapter_digest(path)
    write_adapter(path, seed=9)
    assert adapter_digest(path) != before
