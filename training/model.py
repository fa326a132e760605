"""The shape of the shipped model and a plain bf16 forward pass for training it.

The parameters have the names and layouts of transformers' LlamaForCausalLM, so saving is copying; a slow test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from training.tokenizer import BOS, END, PAD, VOCABULARY

HIDDEN, LAYERS, HEADS, INTERMEDIATE, CONTEXT, THETA, EPSILON = 256, 4, 4, 512, 512, 10_000.0, 1e-5
HEAD = HIDDEN // HEADS
Weights = dict[str, Tensor]

CONFIG: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "head_dim": HEAD,
    "hidden_act": "silu",
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": EPSILON,
    "rope_theta": THETA,
    "rope_parameters": {"rope_theta": THETA, "rope_type": "default"},
    "tie_word_embeddings": True,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "initializer_range": 0.02,
    "use_cache": True,
    "bos_token_id": BOS,
    "eos_token_id": END,
    "pad_token_id": PAD,
    "dtype": "float16",
    "torch_dtype": "float16",
}


def fresh(seed: int) -> Weights:
    """New fp32 parameters; matrices that write to the residual stream start smaller."""
    generator = torch.Generator().manual_seed(seed)

    def matrix(rows: int, columns: int, std: float = 0.02) -> Tensor:
        return torch.randn(rows, columns, generator=generator) * std

    weights = {"model.embed_tokens.weight": matrix(VOCABULARY, HIDDEN)}
    small = 0.02 / (2 * LAYERS) ** 0.5
    for i in range(LAYERS):
        at = f"model.layers.{i}"
        for part in "qkv":
            weights[f"{at}.self_attn.{part}_proj.weight"] = matrix(HIDDEN, HIDDEN, 0.04)
        weights[f"{at}.self_attn.o_proj.weight"] = matrix(HIDDEN, HIDDEN, small)
        weights[f"{at}.mlp.gate_proj.weight"] = matrix(INTERMEDIATE, HIDDEN, 0.04)
        weights[f"{at}.mlp.up_proj.weight"] = matrix(INTERMEDIATE, HIDDEN, 0.04)
        weights[f"{at}.mlp.down_proj.weight"] = matrix(HIDDEN, INTERMEDIATE, small)
        weights[f"{at}.input_layernorm.weight"] = torch.ones(HIDDEN)
        weights[f"{at}.post_attention_layernorm.weight"] = torch.ones(HIDDEN)
    weights["model.norm.weight"] = torch.ones(HIDDEN)
    return weights


def rotation(length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin of shape [length, head]; angles in fp32, since bf16 positions would be too coarse."""
    frequency = THETA ** (-torch.arange(0, HEAD, 2, dtype=torch.float32) / HEAD)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), frequency).repeat(1, 2)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def hidden_states(w: Weights, ids: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
    """[rows, length] token ids to [chosen, hidden]: the states of the positions where `wanted` ([rows, length]) is true.

    Rows are padded on the right, so the causal mask is all it takes. In the last layer the other positions matter only as keys
    and values, so the rest of that layer is left out for them.
    """
    x = F.embedding(ids, w["model.embed_tokens.weight"])
    rows, length, _ = x.shape
    for i in range(LAYERS):
        at = f"model.layers.{i}"
        y = F.rms_norm(x, (HIDDEN,), w[f"{at}.input_layernorm.weight"], EPSILON)
        q, k, v = (
            F.linear(y, w[f"{at}.self_attn.{p}_proj.weight"]).view(rows, length, HEADS, HEAD).transpose(1, 2)
            for p in "qkv"
        )
        scores = _rotate(q, cos, sin) @ _rotate(k, cos, sin).transpose(2, 3) * HEAD**-0.5 + mask
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(rows, length, HIDDEN)
        if i == LAYERS - 1:
            mixed, x = mixed[wanted], x[wanted]
        x = x + F.linear(mixed, w[f"{at}.self_attn.o_proj.weight"])
        y = F.rms_norm(x, (HIDDEN,), w[f"{at}.post_attention_layernorm.weight"], EPSILON)
        gate = F.silu(F.linear(y, w[f"{at}.mlp.gate_proj.weight"]))
        x = x + F.linear(gate * F.linear(y, w[f"{at}.mlp.up_proj.weight"]), w[f"{at}.mlp.down_proj.weight"])
    return F.rms_norm(x, (HIDDEN,), w["model.norm.weight"], EPSILON)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin


def causal(length: int, dtype: torch.dtype) -> Tensor:
    return torch.full((length, length), -30_000.0, dtype=dtype).triu(1)


def save(weights: Weights, out: Path) -> None:
    """Write config.json, generation_config.json and model.safetensors (fp16) in Hugging Face form."""
    out.mkdir(parents=True, exist_ok=True)
    half = {key: value.detach().to(torch.float16).contiguous() for key, value in weights.items()}
    save_file(half, str(out / "model.safetensors"), metadata={"format": "pt"})
    generation = {"bos_token_id": BOS, "eos_token_id": END, "pad_token_id": PAD, "do_sample": False}
    for name, data in (("config.json", CONFIG), ("generation_config.json", generation)):
        (out / name).write_text(json.dumps(data, indent=2) + "\n")
