"""What a model directory says about itself, and that directory as exllamav2 understands it. Imports no torch.

exllamav2 reads configurations as transformers 4 wrote them. transformers 5 moved the rotary settings, and exllamav2 does not miss them:
it takes its defaults and computes nonsense. So it is shown a folder of links with a rewritten config.json."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.contract.errors import AiwmError, Code
from engine.inference.backends.reference.config import read_json

GENERATION_FILE = "generation_config.json"
MULTIPLE = 32
ARCHITECTURES = frozenset(
    f"{name}ForCausalLM"
    for name in (
        "Llama", "Mistral", "Mixtral", "Yi", "Orion", "Qwen2", "Qwen3", "Qwen3Moe", "Gemma", "Gemma2", "Starcoder2", "Gemmoe",
        "Cohere", "Cohere2", "Dbrx", "Phi3", "GPTBigCode", "MiniCPM", "InternLM2", "Index", "Granite", "Glm4",
    )
) | {
    "LlavaForConditionalGeneration", "Mistral3ForConditionalGeneration", "Qwen2VLForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration", "Gemma3ForConditionalGeneration", "GPT2LMHeadModel",
}  # fmt: skip
"""What exllamav2 0.3.2 knows (its architecture.py); anything else it would load as a Llama, and write nonsense."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Sizes of a model as config.json has them; `end_tokens` are all tokens that end an answer."""

    architecture: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    end_tokens: frozenset[int]

    @property
    def kv_numbers(self) -> int:
        """Numbers that the cache keeps for one token."""
        return 2 * self.layers * self.kv_heads * self.head_size


def read_facts(directory: Path) -> ModelFacts:
    """Read and check config.json. Raises model_not_found, model_invalid, model_refused."""
    if not directory.is_dir():
        raise AiwmError(
            Code.model_not_found,
            f"model directory {directory} does not exist",
            field="model",
            fix="correct the path, or put the model's directory there",
        )
    raw = read_json(directory / "config.json", Code.model_invalid)
    named = raw.get("architectures")
    if not (isinstance(named, list) and len(named) == 1 and isinstance(named[0], str)):
        raise _invalid(f"architectures is {named!r}; exllamav2 wants exactly one", "architectures")
    if named[0] not in ARCHITECTURES:
        raise AiwmError(
            Code.model_refused,
            f"exllamav2 does not know architecture {named[0]} and would compute it as a Llama",
            field="architectures",
            fix="run it with a server: llama-server, vLLM",
        )
    text = raw | (raw["text_config"] if isinstance(raw.get("text_config"), dict) else {})
    hidden, heads = _number(text, "hidden_size"), _number(text, "num_attention_heads")
    return ModelFacts(
        architecture=named[0],
        layers=_number(text, "num_hidden_layers"),
        hidden=hidden,
        intermediate=_number(text, "intermediate_size", 4 * hidden),
        heads=heads,
        kv_heads=_number(text, "num_key_value_heads", heads),
        head_size=_number(text, "head_dim", hidden // heads),
        vocabulary=_number(text, "vocab_size"),
        context=_context(named[0], text),
        end_tokens=_end_tokens(directory, text),
    )


def check_sizes(facts: ModelFacts) -> None:
    """exllamav2 fills up every projection to a multiple of 32 outputs, and forgets that it did. Raises model_refused."""
    for what, size in (
        ("hidden_size", facts.hidden),
        ("intermediate_size", facts.intermediate),
        ("num_attention_heads x head_dim", facts.heads * facts.head_size),
        ("num_key_value_heads x head_dim", facts.kv_heads * facts.head_size),
    ):
        if size % MULTIPLE:
            raise AiwmError(
                Code.model_refused,
                f"exllamav2 computes sizes in multiples of {MULTIPLE}; {what} of this model is {size}",
                field=what.split()[0],
                fix="run it with the reference backend or with a server",
            )


def _invalid(why: str, field: str) -> AiwmError:
    return AiwmError(Code.model_invalid, f"config.json: {why}", field=field)


def _number(raw: Mapping[str, Any], key: str, default: int = 0) -> int:
    value = raw.get(key)
    if value is None:
        value = default
    if not isinstance(value, int) or value < 1:
        raise _invalid(f"{key} is {value!r}, it must be a positive integer", key)
    return value


def _context(architecture: str, text: Mapping[str, Any]) -> int:
    """exllamav2 lets every token see all before it, also where a model learned to see only a window: within that it is the same."""
    context, window = _number(text, "max_position_embeddings", 2048), text.get("sliding_window")
    windowed = architecture == "MistralForCausalLM" or text.get("use_sliding_window")
    return min(context, window) if windowed and isinstance(window, int) and window > 0 else context


def _end_tokens(directory: Path, text: Mapping[str, Any]) -> frozenset[int]:
    """The end tokens of both files: exllamav2 knows only the first of config.json's."""
    path = directory / GENERATION_FILE
    settings = read_json(path, Code.model_invalid) if path.is_file() else {}
    found: set[int] = set()
    for value in (text.get("eos_token_id"), settings.get("eos_token_id")):
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(number, int) for number in ids):
            raise _invalid(f"eos_token_id must be an integer or a list of them, it is {value!r}", "eos_token_id")
        found.update(ids)
    return frozenset(found)


def normalised(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as transformers 4 would have written it: what `rope_parameters` says stands where it stood then."""
    config = dict(raw)
    if isinstance(config.get("text_config"), dict):
        config["text_config"] = normalised(config["text_config"])
    rope = config.pop("rope_parameters", None)
    if isinstance(rope, dict):
        sorts = {name: value for name, value in rope.items() if isinstance(value, dict) and name.endswith("_attention")}
        config |= _rope(sorts.get("full_attention", {}) if sorts else rope)
    scaling = config.get("rope_scaling")
    if isinstance(scaling, dict) and "type" in scaling and "rope_type" in scaling:  # exllamav2 takes only one of them
        config["rope_scaling"] = {key: value for key, value in scaling.items() if key != "type"}
    return config


# What transformers 5 keeps with the rotary settings and transformers 4 kept beside them.
_BESIDE = ("rope_theta", "partial_rotary_factor")


def _rope(rope: Mapping[str, Any]) -> dict[str, Any]:
    beside = {key: rope[key] for key in _BESIDE if key in rope}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return beside
    if kind in ("longrope", "su") and "original_max_position_embeddings" in rope:
        beside["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
    scaling = {key: value for key, value in rope.items() if key not in (*_BESIDE, "type", "rope_type")}
    return beside | {"rope_scaling": scaling | {"rope_type": kind}}


@contextmanager
def readable(directory: Path) -> Iterator[Path]:
    """A model directory that exllamav2 reads rightly, for as long as it loads: links to the files, and a config.json of our own."""
    config = normalised(read_json(directory / "config.json", Code.model_invalid))
    with tempfile.TemporaryDirectory(prefix="aiwm-model-") as folder:
        shadow = Path(folder)
        for entry in directory.iterdir():
            if entry.name != "config.json":
                (shadow / entry.name).symlink_to(entry.resolve())
        (shadow / "config.json").write_text(json.dumps(config), encoding="utf-8")
        yield shadow
