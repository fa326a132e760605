"""Tiny random-weight models and adapters on disk, written without torch: a Hugging Face directory with a byte tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

SPECIAL = ["<|pad|>", "<|bos|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
END = SPECIAL.index("<|end|>")
VOCABULARY = len(SPECIAL) + 256
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def write_safetensors(path: Path, tensors: dict[str, FloatArray], dtype: str = "F32") -> None:
    """Write tensors as F32, F16 or BF16 (rounded towards zero)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs, offset = [], 0
    for name, tensor in tensors.items():
        if dtype == "F32":
            blob = tensor.astype("<f4").tobytes()
        elif dtype == "F16":
            blob = tensor.astype("<f2").tobytes()
        else:
            blob = (np.ascontiguousarray(tensor, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def byte_alphabet() -> list[str]:
    """The 256 printable characters that byte-level tokenizers write bytes as, in byte order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def write_tokenizer(directory: Path, *, template: str | None = TEMPLATE) -> None:
    vocabulary = {token: index for index, token in enumerate(SPECIAL + byte_alphabet())}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": t, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False}
            for i, t in enumerate(SPECIAL)
        ],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "ignore_merges": False},
    }  # fmt: skip
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|bos|>", "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
    }  # fmt: skip
    if template is not None:
        settings["chat_template"] = template
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


def tiny_config(**changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "intermediate_size": 48, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "max_position_embeddings": 128, "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
        "bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0,
    }  # fmt: skip
    return config | changes


def _sizes(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    query = config["num_attention_heads"] * config["head_dim"]
    key = config["num_key_value_heads"] * config["head_dim"]
    return {
        "self_attn.q_proj": (query, hidden), "self_attn.k_proj": (key, hidden), "self_attn.v_proj": (key, hidden),
        "self_attn.o_proj": (hidden, query), "mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }  # fmt: skip


def model_tensors(config: dict[str, Any], seed: int) -> dict[str, FloatArray]:
    random = np.random.RandomState(seed)  # its stream never changes, golden data rely on it

    def normal(*shape: int, scale: float = 0.25) -> FloatArray:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    tensors = {"model.embed_tokens.weight": normal(vocabulary, hidden, scale=0.5)}
    qwen = config["architectures"] == ["Qwen2ForCausalLM"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, shape in _sizes(config).items():
            tensors[f"{prefix}{name}.weight"] = normal(*shape)
            attention = name.startswith("self_attn")
            biased = (config["attention_bias"] if attention else config["mlp_bias"]) or (
                qwen and attention and not name.endswith("o_proj")
            )
            if biased:
                tensors[f"{prefix}{name}.bias"] = normal(shape[0])
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}{norm}.weight"] = 1 + normal(hidden, scale=0.1)
    tensors["model.norm.weight"] = 1 + normal(hidden, scale=0.1)
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = normal(vocabulary, hidden)
    return tensors


def write_model(directory: Path, *, seed: int = 0, dtype: str = "F32", shards: int = 1, **changes: Any) -> Path:
    """A complete model directory; `changes` override config.json (None removes a key)."""
    directory.mkdir(parents=True, exist_ok=True)
    config = tiny_config(**changes)
    tensors = model_tensors(config, seed)
    names = sorted(tensors)
    for shard in range(shards):
        part = {name: tensors[name] for name in names[shard::shards]}
        file = "model.safetensors" if shards == 1 else f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        write_safetensors(directory / file, part, dtype)
    if shards > 1:
        index = {n: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, n in enumerate(names)}
        (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    kept = {key: value for key, value in config.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(kept))
    write_tokenizer(directory)
    return directory


def write_adapter(
    directory: Path,
    config: dict[str, Any] | None = None,
    *,
    seed: int = 1,
    rank: int = 4,
    modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    ranks: dict[str, int] | None = None,
    scale: float = 0.3,
    **changes: Any,
) -> Path:
    """A PEFT LoRA directory for a model of this configuration; `changes` override adapter_config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    config = config or tiny_config()
    random = np.random.RandomState(seed)  # its stream never changes, golden data rely on it
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name, (outputs, inputs) in _sizes(config).items():
            module = name.split(".")[1]
            if module in modules:
                r = (ranks or {}).get(module, rank)
                stem = f"base_model.model.model.layers.{layer}.{name}"
                tensors[f"{stem}.lora_A.weight"] = (random.standard_normal((r, inputs)) * scale).astype(np.float32)
                tensors[f"{stem}.lora_B.weight"] = (random.standard_normal((outputs, r)) * scale).astype(np.float32)
    write_safetensors(directory / "adapter_model.safetensors", tensors)
    settings: dict[str, Any] = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "tiny", "r": rank,
        "lora_alpha": 2 * rank, "lora_dropout": 0.0, "bias": "none", "target_modules": list(modules),
        "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True, "use_rslora": False,
        "use_dora": False, "modules_to_save": None, "rank_pattern": dict(ranks or {}), "alpha_pattern": {},
    }  # fmt: skip
    (directory / "adapter_config.json").write_text(json.dumps(settings | changes))
    return directory
