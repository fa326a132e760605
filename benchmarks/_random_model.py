"""A Llama of random weights, of any size, and adapters for it: what a GPU computes does not depend on what the numbers are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

SHIPPED = Path(__file__).parents[1] / "engine" / "inference" / "shipped" / "aiwm-nano"


@dataclass(frozen=True)
class Size:
    """The defaults are those of a Llama of a billion weights."""

    hidden: int = 2048
    layers: int = 16
    heads: int = 32
    kv_heads: int = 8
    head_size: int = 64
    intermediate: int = 8192
    vocabulary: int = 32768
    context: int = 4096

    def projections(self) -> Iterator[tuple[str, int, int]]:
        """(path, outputs, inputs) of every projection of every layer."""
        query, key = self.heads * self.head_size, self.kv_heads * self.head_size
        for layer in range(self.layers):
            stem = f"model.layers.{layer}."
            yield from (
                (f"{stem}self_attn.q_proj", query, self.hidden),
                (f"{stem}self_attn.k_proj", key, self.hidden),
                (f"{stem}self_attn.v_proj", key, self.hidden),
                (f"{stem}self_attn.o_proj", self.hidden, query),
                (f"{stem}mlp.gate_proj", self.intermediate, self.hidden),
                (f"{stem}mlp.up_proj", self.intermediate, self.hidden),
                (f"{stem}mlp.down_proj", self.hidden, self.intermediate),
            )


def write_model(directory: Path, size: Size) -> Path:
    """A directory of 16-bit weights with the shipped model's tokenizer. Its end token is beyond the tokenizer's last, so that every answer
    has as many tokens as it may have."""
    directory.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": size.hidden,
        "num_hidden_layers": size.layers, "num_attention_heads": size.heads, "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_size, "intermediate_size": size.intermediate, "vocab_size": size.vocabulary,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": size.context, "tie_word_embeddings": False,
        "attention_bias": False, "mlp_bias": False, "bos_token_id": 1, "eos_token_id": size.vocabulary - 1, "pad_token_id": 0,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SHIPPED / name, directory / name)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (size.vocabulary, size.hidden),
        "lm_head.weight": (size.vocabulary, size.hidden),
    }
    shapes |= {f"{path}.weight": (outputs, inputs) for path, outputs, inputs in size.projections()}
    norms = [
        f"model.layers.{n}.{norm}"
        for n in range(size.layers)
        for norm in ("input_layernorm", "post_attention_layernorm")
    ]
    shapes |= {f"{norm}.weight": (size.hidden,) for norm in (*norms, "model.norm")}
    _write(directory / "model.safetensors", shapes, np.random.default_rng(1))
    return directory


def write_adapter(directory: Path, size: Size, *, rank: int, seed: int) -> Path:
    """A LoRA of all projections."""
    directory.mkdir(parents=True)
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": "all-linear",
    }
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    shapes: dict[str, tuple[int, ...]] = {}
    for path, outputs, inputs in size.projections():
        shapes[f"base_model.model.{path}.lora_A.weight"] = (rank, inputs)
        shapes[f"base_model.model.{path}.lora_B.weight"] = (outputs, rank)
    _write(directory / "adapter_model.safetensors", shapes, np.random.default_rng(seed))
    return directory


def _write(path: Path, shapes: dict[str, tuple[int, ...]], chance: np.random.Generator) -> None:
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            file.write(_numbers(name, shape, chance).tobytes())


def _numbers(name: str, shape: tuple[int, ...], chance: np.random.Generator) -> npt.NDArray[np.float16]:
    if "norm" in name:
        return np.ones(shape, np.float16)
    return (chance.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)).astype(np.float16)
