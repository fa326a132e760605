"""Model directories and files as download tools leave them, with headers as real ones have and no weights behind them (sparse files)."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4, "I16": 2, "U8": 1, "F8_E4M3": 1}

LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
"""meta-llama/Llama-3.1-8B's config.json: 8.03 billion parameters."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def llama_tensors(
    config: dict[str, Any], dtype: str = "BF16", linear: tuple[str, ...] = (".weight",)
) -> dict[str, tuple[str, list[int]]]:
    """The tensors of a Llama by name: (dtype, shape). `linear` are the endings of a linear layer's tensors; all but `.weight` are
    packed, one 32-bit number for eight weights."""
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = hidden // config["num_attention_heads"]
    keys = head * config["num_key_value_heads"]
    tensors: dict[str, tuple[str, list[int]]] = {
        "model.embed_tokens.weight": (dtype, [vocabulary, hidden]),
        "model.norm.weight": (dtype, [hidden]),
        "lm_head.weight": (dtype, [vocabulary, hidden]),
    }
    shapes = {"q": (hidden, hidden), "k": (keys, hidden), "v": (keys, hidden), "o": (hidden, hidden)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        every = {f"self_attn.{name}_proj": shape for name, shape in shapes.items()}
        every |= {"mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
        for name, (out, into) in every.items():
            for ending in linear:
                plain = ending == ".weight"
                tensors[f"{at}.{name}{ending}"] = (dtype, [out, into]) if plain else ("I32", [into // 8, out])
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}.{name}.weight"] = (dtype, [hidden])
    return tensors


def write_safetensors(path: Path, tensors: dict[str, tuple[str, list[int]]], *, cut: int = 0) -> None:
    """A file with this header, as long as it must be less `cut` bytes; its data are a hole in the file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        size = _BYTES[dtype]
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + offset - cut)


def write_model(
    directory: Path,
    config: dict[str, Any],
    tensors: dict[str, tuple[str, list[int]]],
    *,
    shards: int = 1,
    template: str | None = CHATML,
    tokenizer: bool = True,
) -> Path:
    """A Hugging Face directory; with several shards their index too."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    if tokenizer:
        (directory / "tokenizer.json").write_text("{}")
    settings: dict[str, Any] = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    (directory / "tokenizer_config.json").write_text(
        json.dumps(settings | ({"chat_template": template} if template else {}))
    )
    names = sorted(tensors)
    if shards == 1:
        write_safetensors(directory / "model.safetensors", tensors)
        return directory
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        mine = {name: tensors[name] for name in names[number::shards]}
        write_safetensors(directory / file, mine)
        weight_map |= dict.fromkeys(mine, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return directory


# -- GGUF --------------------------------------------------------------------------------------------------------------

_UINT32, _FLOAT32, _STRING, _ARRAY = 4, 6, 8, 9


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_text, value))


def write_gguf(
    path: Path, metadata: dict[str, Any], tensors: dict[str, tuple[int, list[int], int]], *, cut: int = 0
) -> Path:
    """A GGUF file: tensors are (ggml type, dimensions, bytes); the data are a hole, less `cut` bytes at the end."""
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    head += [_text(key) + _value(value) for key, value in metadata.items()]
    offset = 0
    for name, (kind, dimensions, size) in tensors.items():
        head.append(_text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset))
        offset += -(-size // 32) * 32
    raw = b"".join(head)
    with path.open("wb") as file:
        file.write(raw)
        file.truncate(-(-len(raw) // 32) * 32 + offset - cut)
    return path


QWEN_GGUF: dict[str, Any] = {
    "general.architecture": "qwen2",
    "general.file_type": 15,
    "qwen2.context_length": 32768,
    "qwen2.embedding_length": 5120,
    "qwen2.block_count": 48,
    "qwen2.feed_forward_length": 13824,
    "qwen2.attention.head_count": 40,
    "qwen2.attention.head_count_kv": 8,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.tokens": ["<unk>", "<s>", *(f"word{n}" for n in range(200))],
    "tokenizer.chat_template": CHATML,
}
"""Of the shape of Qwen2.5-14B, with few words."""
