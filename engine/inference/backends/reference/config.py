"""config.json of a Hugging Face model directory, read strictly: what this backend does not compute is refused by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.contract.errors import AiwmError, Code

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3's stretching of the slow rotations, see `rope_frequencies` in model.py."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int


@dataclass(frozen=True, slots=True)
class ModelConfig:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    norm_epsilon: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    tied_head: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    context: int
    end_tokens: frozenset[int]

    @property
    def query_size(self) -> int:
        return self.heads * self.head_size

    @property
    def key_size(self) -> int:
        return self.kv_heads * self.head_size


def read_json(path: Path, code: Code) -> dict[str, Any]:
    """A JSON object from a file. Raises AiwmError(`code`) that names the file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise AiwmError(code, f"{path.parent} has no {path.name}", field="path") from error
    except OSError as error:
        raise AiwmError(code, f"{path} cannot be read: {error}", field="path") from error
    return parse_json(content, path, code)


def parse_json(content: bytes, path: Path, code: Code) -> dict[str, Any]:
    """A JSON object, the content of the file at `path`. Raises AiwmError(`code`) that names the file."""
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise AiwmError(code, f"{path} is not readable JSON: {why}", field="path") from error
    if not isinstance(value, dict):
        raise AiwmError(code, f"{path} is not a JSON object", field="path")
    return value


def _unsupported(what: str, fix: str = "use a GPU backend for this model") -> AiwmError:
    return AiwmError(Code.model_invalid, f"the reference backend does not support {what}", field="model", fix=fix)


def _positive(raw: dict[str, Any], key: str, default: int | None = None) -> int:
    value = raw.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise AiwmError(
            Code.model_invalid, f"config.json: {key} must be a positive integer, it is {value!r}", field=key
        )
    return value


def _rope(raw: dict[str, Any]) -> tuple[float, RopeScaling | None]:
    """Theta and scaling: transformers 4 writes `rope_theta` and `rope_scaling`, transformers 5 one `rope_parameters`."""
    parameters = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if not isinstance(parameters, dict):
        raise AiwmError(Code.model_invalid, "config.json: rope_parameters must be an object", field="rope_parameters")
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    try:
        theta = float(parameters.get("rope_theta") or raw.get("rope_theta") or 10_000.0)
        if float(parameters.get("partial_rotary_factor") or raw.get("partial_rotary_factor") or 1.0) != 1.0:
            raise _unsupported("partial_rotary_factor")
        if kind == "default":
            return theta, None
        if kind != "llama3":
            raise _unsupported(f"rope scaling of type {kind!r}")
        return theta, RopeScaling(
            factor=float(parameters["factor"]),
            low_freq_factor=float(parameters["low_freq_factor"]),
            high_freq_factor=float(parameters["high_freq_factor"]),
            original_context=int(parameters["original_max_position_embeddings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AiwmError(
            Code.model_invalid, f"config.json: rope parameters are incomplete: {error}", field="rope_parameters"
        ) from error


def _end_tokens(directory: Path, raw: dict[str, Any]) -> frozenset[int]:
    """Every id that ends a text: generation_config.json wins over config.json, as in transformers."""
    generation = directory / "generation_config.json"
    value = read_json(generation, Code.model_invalid).get("eos_token_id") if generation.exists() else None
    if value is None:
        value = raw.get("eos_token_id")
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(token, int) for token in ids):
        raise AiwmError(
            Code.model_invalid, f"eos_token_id must be an integer or a list, it is {value!r}", field="model"
        )
    return frozenset(ids)


def _refuse_unsupported(raw: dict[str, Any], architecture: str, context: int) -> None:
    quantization = raw.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method", "unknown") if isinstance(quantization, dict) else "unknown"
        raise _unsupported(f"quantised weights ({method})", "use the unquantised F16 model, or a GPU backend")
    activation = raw.get("hidden_act", "silu")
    if activation != "silu":
        raise _unsupported(f"hidden_act {activation!r}")
    window = raw.get("sliding_window")
    windowed = architecture == "MistralForCausalLM" or raw.get("use_sliding_window")
    if windowed and isinstance(window, int) and window < context:
        raise _unsupported(f"a sliding window of {window} tokens")


def read_config(directory: Path) -> ModelConfig:
    """Read and check a model directory's configuration. Raises model_not_found, model_invalid."""
    if not directory.is_dir():
        raise AiwmError(
            Code.model_not_found,
            f"model directory {directory} does not exist",
            field="model",
            fix="correct the path, or put the model's directory there",
        )
    raw = read_json(directory / "config.json", Code.model_invalid)
    named = raw.get("architectures") or ["nothing"]
    architecture = str(named[0]) if isinstance(named, list) and named else str(named)
    if architecture not in ARCHITECTURES:
        raise _unsupported(f"architecture {architecture!r} (it runs {', '.join(ARCHITECTURES)})")
    hidden, heads = _positive(raw, "hidden_size"), _positive(raw, "num_attention_heads")
    kv_heads = _positive(raw, "num_key_value_heads", heads)
    head_size = _positive(raw, "head_dim", hidden // heads or None)
    if heads % kv_heads or head_size % 2:
        raise AiwmError(
            Code.model_invalid,
            f"config.json: {heads} heads of size {head_size} cannot share {kv_heads} key-value heads",
            field="num_key_value_heads",
        )
    context = _positive(raw, "max_position_embeddings", 2048)
    _refuse_unsupported(raw, architecture, context)
    theta, scaling = _rope(raw)
    epsilon = raw.get("rms_norm_eps", 1e-6)
    if not isinstance(epsilon, int | float) or epsilon <= 0:
        raise AiwmError(Code.model_invalid, f"config.json: rms_norm_eps is {epsilon!r}", field="rms_norm_eps")
    bias = bool(raw.get("attention_bias", False))
    return ModelConfig(
        hidden=hidden,
        layers=_positive(raw, "num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        intermediate=_positive(raw, "intermediate_size"),
        vocabulary=_positive(raw, "vocab_size"),
        norm_epsilon=float(epsilon),
        rope_theta=theta,
        rope_scaling=scaling,
        tied_head=bool(raw.get("tie_word_embeddings", False)),
        qkv_bias=bias or architecture == "Qwen2ForCausalLM",
        output_bias=bias,
        mlp_bias=bool(raw.get("mlp_bias", False)),
        context=context,
        end_tokens=_end_tokens(directory, raw),
    )
