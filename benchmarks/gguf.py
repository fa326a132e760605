"""Just enough of the GGUF format to hand a Llama directory to llama.cpp, for side-by-side measurements and tests only.

The tokenizer is right for those that look words up whole (`ignore_merges`) and split text as Llama 3 does, as the shipped model's."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.inference.backends.reference.config import ModelConfig, read_config
from engine.inference.backends.reference.safetensors import TensorDirectory
from engine.inference.backends.reference.weights import interleave

_UINT32, _FLOAT32, _BOOL, _STRING, _ARRAY, _INT32 = 4, 6, 7, 8, 9, 5
_TYPES = {"F32": (0, "<f4"), "F16": (1, "<f2")}
_ALIGNMENT = 32
_NORMAL, _CONTROL = 1, 3  # token types of llama.cpp

_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    """A value with its type in front."""
    if isinstance(value, bool):
        return struct.pack("<IB", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    kind = _STRING if value and isinstance(value[0], str) else _INT32
    head = struct.pack("<IIQ", _ARRAY, kind, len(value))
    return head + b"".join(_text(one) if kind == _STRING else struct.pack("<i", one) for one in value)


def _metadata(directory: Path, config: ModelConfig) -> dict[str, Any]:
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    tokens, kinds = [f"<unused{index}>" for index in range(config.vocabulary)], [_NORMAL] * config.vocabulary
    for token, index in tokenizer["model"]["vocab"].items():
        tokens[index] = token
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]], kinds[added["id"]] = added["content"], _CONTROL
    end = min(config.end_tokens, default=0)
    return {
        "general.architecture": "llama",
        "general.name": directory.name,
        "llama.context_length": config.context,
        "llama.embedding_length": config.hidden,
        "llama.block_count": config.layers,
        "llama.feed_forward_length": config.intermediate,
        "llama.attention.head_count": config.heads,
        "llama.attention.head_count_kv": config.kv_heads,
        "llama.attention.key_length": config.head_size,
        "llama.attention.value_length": config.head_size,
        "llama.attention.layer_norm_rms_epsilon": config.norm_epsilon,
        "llama.rope.dimension_count": config.head_size,
        "llama.rope.freq_base": config.rope_theta,
        "llama.vocab_size": config.vocabulary,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": ["ÿ ÿ"],  # there must be one
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": (directory / "chat_template.jinja").read_text(),
    }


def _tensors(directory: Path, config: ModelConfig) -> dict[str, npt.NDArray[np.float32]]:
    tensors = TensorDirectory(directory)
    result = {}
    for info in tensors.infos():
        array = tensors.read(info.name, info.shape)
        name = info.name.removesuffix(".weight")
        if name.endswith(("q_proj", "k_proj")):
            array = interleave(array, config.head_size)
        if name.startswith("model.layers."):
            index, part = name.removeprefix("model.layers.").split(".", 1)
            result[f"blk.{index}.{_NAMES[part]}.weight"] = array
        else:
            plain = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}[name]
            result[f"{plain}.weight"] = array
    return result


def write_gguf(directory: Path, path: Path, kind: str) -> None:
    """Write a Llama directory as GGUF with matrices of this kind (F16 or F32); vectors are always F32."""
    config = read_config(directory)
    metadata, tensors = _metadata(directory, config), _tensors(directory, config)
    out = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    out += [_text(key) + _value(value) for key, value in metadata.items()]
    blobs, offset = [], 0
    for name, array in tensors.items():
        number, dtype = _TYPES["F32" if array.ndim == 1 else kind]
        blob = array.astype(dtype).tobytes()
        blob += b"\0" * (-len(blob) % _ALIGNMENT)
        out.append(_text(name) + struct.pack("<I", array.ndim))
        out.append(struct.pack(f"<{array.ndim}Q", *reversed(array.shape)) + struct.pack("<IQ", number, offset))
        blobs.append(blob)
        offset += len(blob)
    head = b"".join(out)
    path.write_bytes(head + b"\0" * (-len(head) % _ALIGNMENT) + b"".join(blobs))
