"""What the reference backend opens and what it refuses, always by name: weights, configurations, adapters, tokenizers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.contract.errors import AiwmError
from engine.inference.adapter_files import WEIGHTS_FILE, adapter_digest, verified_files
from engine.inference.backends.base import AdapterRef, LoadSpec
from engine.inference.backends.reference import adapters, memory
from engine.inference.backends.reference.adapters import Adapters, FusedLayers
from engine.inference.backends.reference.backend import ReferenceBackend
from engine.inference.backends.reference.config import read_config
from engine.inference.backends.reference.safetensors import TensorDirectory, TensorFile
from engine.inference.backends.reference.weights import read_weights
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


# -- what is kept of one adapter's header for the next ------------------------------------------------------------------


@pytest.fixture
def reader(tmp_path: Path) -> Adapters:
    model = write_model(tmp_path / "model")
    config = read_config(model)
    return Adapters(config, read_weights(TensorDirectory(model), config).layers)


def read(reader: Adapters, path: Path) -> FusedLayers:
    with verified_files("a", path, adapter_digest(path)) as files:
        return reader.load(files)


def numbers_of(layers: FusedLayers) -> list[Any]:
    return [half for layer in layers for pairs in layer.values() for pair in pairs for half in (pair.a, pair.b)]


@pytest.fixture
def plans_made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []
    new_plan = Adapters._new_plan

    def counted(self: Adapters, adapter: Any) -> Any:
        plan = new_plan(self, adapter)
        made.append(plan.elements)
        return plan

    monkeypatch.setattr(Adapters, "_new_plan", counted)
    return made


def test_adapters_of_one_header_are_planned_once_and_stay_different(
    reader: Adapters, plans_made: list[int], tmp_path: Path
) -> None:
    paths = [write_adapter(tmp_path / f"a{seed}", seed=seed) for seed in range(3)]
    kept = [read(reader, path) for path in paths]
    assert len(plans_made) == 1
    for path, layers in zip(paths, kept, strict=True):
        alone = Adapters(reader._config, reader._base)
        for mine, anew in zip(numbers_of(layers), numbers_of(read(alone, path)), strict=True):
            np.testing.assert_array_equal(mine, anew)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        for mine, others in zip(numbers_of(kept[one]), numbers_of(kept[other]), strict=True):
            assert not np.array_equal(mine, others)
            assert not np.shares_memory(mine, others)


@pytest.mark.parametrize(
    "changes", [{"lora_alpha": 3}, {"use_rslora": True}, {"alpha_pattern": {"layers.1.mlp.up_proj": 7}}]
)
def test_settings_that_scale_make_another_plan(
    changes: dict[str, Any], reader: Adapters, plans_made: list[int], tmp_path: Path
) -> None:
    plain = numbers_of(read(reader, write_adapter(tmp_path / "plain")))
    other = write_adapter(tmp_path / "other", **changes)
    scaled = numbers_of(read(reader, other))
    assert len(plans_made) == 2
    assert not all(np.array_equal(mine, others) for mine, others in zip(plain, scaled, strict=True))
    anew = numbers_of(read(Adapters(reader._config, reader._base), other))
    assert all(np.array_equal(mine, others) for mine, others in zip(scaled, anew, strict=True))
    read(reader, write_adapter(tmp_path / "named", target_modules=["up_proj"], lora_dropout=0.1))
    assert len(plans_made) == 3  # the one of `anew`; what changes nothing needs none


def test_a_kept_plan_takes_no_file_that_is_cut_damaged_or_lies(reader: Adapters, tmp_path: Path) -> None:
    read(reader, write_adapter(tmp_path / "whole"))

    def written(name: str, change: Any) -> Path:
        path = write_adapter(tmp_path / name)
        (path / WEIGHTS_FILE).write_bytes(change((path / WEIGHTS_FILE).read_bytes()))
        return path

    def with_last(value: float) -> Any:
        return lambda data: data[:-4] + np.float32(value).tobytes()

    with refused("adapter_invalid", "cut short", "cut"):
        read(reader, written("cut", lambda data: data[:-4]))
    with refused("adapter_invalid", "header is longer"):
        read(reader, written("stub", lambda data: data[:40]))
    with refused("adapter_invalid", "header is not JSON"):
        read(reader, written("shifted", lambda data: (9).to_bytes(8, "little") + data[8:]))
    for value in (np.nan, np.inf, -1e30):
        with refused("adapter_invalid", "layers.1.mlp.down_proj", "not finite"):
            read(reader, written(f"with {value}", with_last(value)))
    with refused("adapter_unsupported", "DoRA"):
        read(reader, write_adapter(tmp_path / "dora", use_dora=True))
    with refused("adapter_invalid", "lora_A", "(8, 32)"):
        read(reader, write_adapter(tmp_path / "rank", r=8))
    path = write_adapter(tmp_path / "shrinking")
    with (
        refused("adapter_invalid", WEIGHTS_FILE, "was cut short"),
        verified_files("a", path, adapter_digest(path)) as files,
    ):
        data = (path / WEIGHTS_FILE).read_bytes()
        (path / WEIGHTS_FILE).write_bytes(data[:-100])
        reader.load(files)


def test_a_bounded_number_of_plans_is_kept_and_none_of_a_long_header(
    reader: Adapters, plans_made: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_adapter(tmp_path / f"r{rank}", rank=rank) for rank in range(1, adapters.MOST_PLANS + 3)]
    for path in paths:
        read(reader, path)
    assert len(reader._plans) == adapters.MOST_PLANS
    assert len(plans_made) == len(paths)
    read(reader, paths[-1])
    assert len(plans_made) == len(paths)
    read(reader, paths[0])  # the one unused for longest has gone
    assert len(plans_made) == len(paths) + 1
    monkeypatch.setattr(adapters, "MOST_HEADER", 100)
    before = list(reader._plans)
    read(reader, paths[-1])
    assert len(plans_made) == len(paths) + 2
    assert list(reader._plans) == before


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_adapters_in_half_precision_are_their_numbers_in_whole(dtype: str, reader: Adapters, tmp_path: Path) -> None:
    half, whole = write_adapter(tmp_path / "half"), write_adapter(tmp_path / "whole")
    file = TensorFile(half / WEIGHTS_FILE)
    write_safetensors(half / WEIGHTS_FILE, {name: file.read(name).copy() for name in file.tensors}, dtype)
    rounded = TensorFile(half / WEIGHTS_FILE)
    write_safetensors(whole / WEIGHTS_FILE, {name: rounded.read(name) for name in rounded.tensors})
    for mine, other in zip(numbers_of(read(reader, half)), numbers_of(read(reader, whole)), strict=True):
        np.testing.assert_array_equal(mine, other)
