"""The shipped model's files are whole, small, of the agreed shape, and the ones its card speaks about."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from training.bounds import inbox_bound, inbox_mix
from training.card import ADAPTER_FILES, MODEL_FILES, render
from training.curriculum import GATED

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "engine/inference/shipped"
MODEL = SHIPPED / "aiwm-nano"
CARD: dict[str, Any] = json.loads((MODEL / "card.json").read_text(encoding="utf-8"))
CONFIG: dict[str, Any] = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
ADAPTERS = sorted(path.name for path in (SHIPPED / "adapters").iterdir() if path.is_dir())


def header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file, checked against the file's length."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    tensors: dict[str, Any] = json.loads(data[8 : 8 + size])
    tensors.pop("__metadata__", None)
    assert max(tensor["data_offsets"][1] for tensor in tensors.values()) == len(data) - 8 - size
    return tensors


def test_every_file_of_the_card_has_its_size_and_digest() -> None:
    expected = {*MODEL_FILES, *(f"adapters/{name}/{file}" for name in ADAPTERS for file in ADAPTER_FILES)}
    assert set(CARD["files"]) == expected
    for name, recorded in CARD["files"].items():
        data = (SHIPPED / name if name.startswith("adapters/") else MODEL / name).read_bytes()
        assert {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} == recorded, name


def test_nothing_else_is_shipped() -> None:
    assert {path.name for path in MODEL.iterdir()} == {*MODEL_FILES, "card.json"}
    for name in ADAPTERS:
        assert {path.name for path in (SHIPPED / "adapters" / name).iterdir()} == set(ADAPTER_FILES)


def test_the_model_has_the_shape_that_other_engines_accept() -> None:
    assert CONFIG["architectures"] == ["LlamaForCausalLM"]
    heads, kv_heads, head = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"], CONFIG["head_dim"]
    assert head in (32, 64)
    for width in (CONFIG["hidden_size"], CONFIG["intermediate_size"], heads * head, kv_heads * head):
        assert width % 32 == 0
    assert CONFIG["max_position_embeddings"] % 256 == 0
    assert CONFIG["rope_theta"] == CONFIG["rope_parameters"]["rope_theta"]


def test_the_weights_are_half_precision_and_match_the_config() -> None:
    assert (MODEL / "model.safetensors").stat().st_size <= 6_000_000
    tensors = header(MODEL / "model.safetensors")
    assert {tensor["dtype"] for tensor in tensors.values()} == {"F16"}
    assert len(tensors) == 2 + 9 * CONFIG["num_hidden_layers"]
    hidden, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    assert tensors["model.embed_tokens.weight"]["shape"] == [CONFIG["vocab_size"], hidden]
    assert tensors["model.layers.0.mlp.down_proj.weight"]["shape"] == [hidden, inner]


def test_the_tokenizer_fits_the_model_and_returns_what_it_was_given() -> None:
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == CONFIG["vocab_size"]
    text = 'What is 12+30? {"name": "Zoë", "n": -4}\nü → 表'
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == text
    assert len(tokenizer.encode("1234567890", add_special_tokens=False).ids) == 10
    assert tokenizer.token_to_id("<|end|>") == CONFIG["eos_token_id"]
    assert tokenizer.token_to_id("<|bos|>") == CONFIG["bos_token_id"]


def test_the_chat_template_is_where_readers_look_for_it() -> None:
    template = (MODEL / "chat_template.jinja").read_text(encoding="utf-8")
    config = json.loads((MODEL / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["chat_template"] == template
    assert "<|assistant|>" in template


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_fit_the_model(name: str) -> None:
    config = json.loads((SHIPPED / "adapters" / name / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["peft_type"] == "LORA"
    assert config["r"] <= 16
    assert config["base_model_name_or_path"] == "aiwm-nano"
    assert not config["alpha_pattern"]
    assert not config["rank_pattern"]
    tensors = header(SHIPPED / "adapters" / name / "adapter_model.safetensors")
    assert len(tensors) == 2 * len(config["target_modules"]) * CONFIG["num_hidden_layers"]
    assert all(config["r"] in tensor["shape"] for tensor in tensors.values())


def test_the_card_keeps_its_promises_about_adapters() -> None:
    assert set(ADAPTERS) == set(CARD["adapters"]) - {CARD["left_to_academy"]}
    assert len(CARD["adapters"]) == 3
    for name, data in CARD["adapters"].items():
        assert data["before"]["accuracy"] < 0.2, name
        assert data["after"]["accuracy"] > 0.8, name
        assert data["run"]["cpu_s"] <= 300, name
        for other, change in data["others"].items():
            assert change["after"] >= change["before"] - 0.1, (name, other)


def test_the_card_names_every_gated_skill_with_its_interval() -> None:
    assert set(GATED) <= set(CARD["skills"])
    for name in GATED:
        score = CARD["skills"][name]
        assert score["n"] >= 200
        assert score["correct"] / score["n"] == pytest.approx(score["accuracy"], abs=1e-4)
        assert score["low95"] <= score["accuracy"] <= score["high95"]
        z = 1.959964  # Wilson's interval solves (p - share)^2 = z^2 p (1 - p) / n: put the bounds into it
        for bound in (score["low95"], score["high95"]):
            distance = abs(bound - score["correct"] / score["n"])
            assert distance == pytest.approx(z * math.sqrt(bound * (1 - bound) / score["n"]), abs=3e-4)


def test_the_inbox_bound_follows_from_the_skills() -> None:
    assert CARD["inbox"] == inbox_bound(CARD["skills"], inbox_mix(ROOT / "examples/inbox.jsonl"))
    assert 0.85 < CARD["inbox"]["low99"] <= CARD["inbox"]["expected"] <= 1


def test_the_inbox_uses_only_skills_that_reach_95_percent() -> None:
    for skill, count in inbox_mix(ROOT / "examples/inbox.jsonl").items():
        assert count >= 10
        assert CARD["skills"][skill]["accuracy"] >= CARD["gate"] == 0.95, skill


def test_the_page_is_the_card() -> None:
    page = render(CARD)
    assert (SHIPPED / "MODEL_CARD.md").read_text(encoding="utf-8") == page
    assert (ROOT / "docs/model-card.md").read_text(encoding="utf-8") == page
