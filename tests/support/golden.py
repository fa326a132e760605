"""Golden logits: what transformers and PEFT compute, kept in a file so that numpy can be checked where neither is installed.

`python -m tests.support.golden` writes the file anew (needs torch, transformers, peft)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.inference.adapter_files import adapter_digest, verified_files
from engine.inference.backends.reference.adapters import Adapters, FusedLayers
from engine.inference.backends.reference.blend import AdapterWeights, Blender
from engine.inference.backends.reference.cache import KVCache
from engine.inference.backends.reference.config import read_config
from engine.inference.backends.reference.model import Batch, Chunk, Model
from engine.inference.backends.reference.safetensors import TensorDirectory
from engine.inference.backends.reference.weights import read_weights
from tests.support.tiny_model import tiny_config, write_adapter, write_model

FloatArray = npt.NDArray[np.float32]
FOLDER = Path(__file__).parents[1] / "unit" / "data"
DATA = FOLDER / "golden_logits.npz"
SHIPPED_DATA = FOLDER / "golden_shipped.npz"
SHIPPED = Path(__file__).parents[2] / "engine" / "inference" / "shipped" / "aiwm-nano"
TOLERANCE = 1e-4

VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {"dtype": "F32"},
    "llama3": {
        "dtype": "BF16", "seed": 2, "tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True, "rope_theta": None,
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 5000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "mistral": {"seed": 3, "dtype": "F16", "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None,
                "num_key_value_heads": 4, "num_attention_heads": 4},
    "qwen2": {"seed": 4, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_key_value_heads": 1, "shards": 2},
}  # fmt: skip


@dataclass(frozen=True)
class Text:
    """A token sequence: logits are asked for at its last `asked` positions, under weighted adapters."""

    tokens: tuple[int, ...]
    asked: int
    adapters: tuple[tuple[str, float], ...] = ()


def texts(vocabulary: int, adapters: tuple[tuple[tuple[str, float], ...], ...]) -> list[Text]:
    """Texts of uneven lengths, one for each adapter set."""
    random = np.random.RandomState(7)
    lengths = (5, 23, 11, 40, 17, 30, 8)
    return [
        Text(tuple(random.randint(6, vocabulary, size=length).tolist()), 4, used)
        for length, used in zip(lengths, adapters, strict=False)
    ]


TINY_SETS: tuple[tuple[tuple[str, float], ...], ...] = (
    (),
    (("all", 1.0),),
    (("some", 0.5),),
    (("all", 0.75), ("some", -1.5)),
    (("all", 1.0),),
    (),
)


def tiny_adapters(folder: Path) -> dict[str, Path]:
    """Two adapters for the tiny model: a plain one, and one with every pattern that PEFT knows."""
    ranks = {"q_proj": 2, "down_proj": 3}
    return {
        "all": write_adapter(folder / "all", seed=11),
        "some": write_adapter(
            folder / "some", seed=12, rank=6, modules=("q_proj", "k_proj", "up_proj", "down_proj"), ranks=ranks,
            use_rslora=True, alpha_pattern={"layers.1.self_attn.k_proj": 5, "mlp.up_proj": 7},
        ),
    }  # fmt: skip


def numpy_logits(model_path: Path, asked: list[Text], adapters: dict[str, Path], chunk: int = 6) -> list[FloatArray]:
    """Every text at once in one ragged batch: prompts read in chunks together with the others' decoding, as in `step`."""
    config = read_config(model_path)
    model = Model(config, read_weights(TensorDirectory(model_path), config), config.context)
    cache = KVCache(config, len(asked), config.context)
    digests = {name: adapter_digest(path) for name, path in adapters.items()}
    fused: dict[str, FusedLayers] = {}
    reader = Adapters(config, model.weights.layers)
    for name, path in adapters.items():
        with verified_files(name, path, digests[name]) as files:
            fused[digests[name]] = reader.load(files)
    blender = Blender(fused)
    used: list[AdapterWeights] = [tuple((digests[name], weight) for name, weight in text.adapters) for text in asked]
    result: list[list[FloatArray]] = [[] for _ in asked]
    done = [0] * len(asked)
    writing = 0  # rows 0 … writing-1 have read their prompts; they become writers in order
    while any(count < len(text.tokens) for count, text in zip(done, asked, strict=True)):
        writers = list(range(writing))
        stretches = []
        if writing < len(asked):
            prompt = len(asked[writing].tokens) - asked[writing].asked + 1
            stretches = [(writing, done[writing], min(chunk, prompt - done[writing]))]
        parts = [(row, min(done[row], len(asked[row].tokens) - 1), 1) for row in writers] + stretches
        tokens: list[int] = []
        positions: list[int] = []
        rows, wanted, chunks, blended = [], [], [], []
        for row, start, length in parts:
            if row >= writing:
                chunks.append(Chunk(row, len(tokens), start, length))
            tokens += asked[row].tokens[start : start + length]
            rows += [row] * length
            positions += range(start, start + length)
            wanted.append(len(tokens) - 1)
            blended.append((used[row], length))
        arrays = [np.array(values, np.intp) for values in (tokens, rows, positions, wanted)]
        batch = Batch(arrays[0], arrays[1], arrays[2], writing, tuple(chunks), arrays[3])
        logits = model.forward(batch, cache, blender.blend(blended))
        for (row, start, length), line in zip(parts, logits, strict=True):
            if done[row] == start and start + length > len(asked[row].tokens) - asked[row].asked:
                result[row].append(line.copy())
            done[row] = max(done[row], start + length)
        writing += sum(1 for row, _, _ in stretches if done[row] > len(asked[row].tokens) - asked[row].asked)
    return [np.stack(lines) for lines in result]


def transformers_logits(model_path: Path, asked: list[Text], adapters: dict[str, Path]) -> list[FloatArray]:
    """The same by transformers and PEFT, one text at a time, nothing shared."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(str(model_path), dtype=torch.float32).eval()
    for index, (name, path) in enumerate(adapters.items()):
        if index == 0:
            model = PeftModel.from_pretrained(model, str(path), adapter_name=name)
        else:
            model.load_adapter(str(path), adapter_name=name)
    result = []
    for text in asked:
        with torch.no_grad():
            logits = _under(model, text, torch.tensor([text.tokens]))
        result.append(logits[0, -text.asked :].numpy().astype(np.float32))
    return result


def _under(model: Any, text: Text, tokens: Any) -> Any:
    if not hasattr(model, "peft_config"):
        return model(tokens).logits
    if not text.adapters:
        with model.disable_adapter():
            return model(tokens).logits
    model.base_model.set_adapter([name for name, _ in text.adapters])
    weighted = [m for m in model.modules() if hasattr(m, "lora_A") and hasattr(m, "scaling")]
    before = [dict(module.scaling) for module in weighted]
    for module in weighted:
        for name, weight in text.adapters:
            if name in module.scaling:
                module.scaling[name] *= weight
    logits = model(tokens).logits
    for module, scaling in zip(weighted, before, strict=True):
        module.scaling.update(scaling)
    return logits


@dataclass(frozen=True)
class Case:
    name: str
    model: Path
    texts: list[Text]
    adapters: dict[str, Path]


def cases(folder: Path) -> list[Case]:
    """Every golden case, its files written under `folder`."""
    result = []
    for name, changes in VARIANTS.items():
        model = write_model(folder / name, **changes)
        result.append(Case(name, model, texts(tiny_config()["vocab_size"], ((), (), ())), {}))
    adapters = tiny_adapters(folder)
    result.append(Case("adapted", folder / "llama", texts(tiny_config()["vocab_size"], TINY_SETS), adapters))
    return result


def shipped_case(folder: Path) -> Case:
    """The shipped model under its own shape of random adapters: base, adapted, weighted, blended."""
    config = json.loads((SHIPPED / "config.json").read_text())
    adapters = {
        "all": write_adapter(folder / "shipped-all", config, seed=21, rank=8, scale=0.06),
        "some": write_adapter(
            folder / "shipped-some",
            config,
            seed=22,
            rank=4,
            scale=0.1,
            modules=("q_proj", "v_proj", "up_proj", "down_proj"),
        ),
    }
    return Case("shipped", SHIPPED, texts(config["vocab_size"], TINY_SETS), adapters)


def shipped_digest() -> str:
    """Which weights the shipped golden data belong to."""
    return hashlib.sha256((SHIPPED / "model.safetensors").read_bytes()).hexdigest()


def golden(path: Path = DATA) -> dict[str, FloatArray]:
    with np.load(path) as data:
        return {name: data[name] for name in data.files}


def main() -> None:
    import tempfile

    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays = {
            case.name: np.concatenate(transformers_logits(case.model, case.texts, case.adapters))
            for case in cases(folder)
        }
        np.savez_compressed(DATA, allow_pickle=False, **arrays)
        case = shipped_case(folder)
        logits = np.concatenate(transformers_logits(case.model, case.texts, case.adapters))
        digest = np.frombuffer(bytes.fromhex(shipped_digest()), np.uint8)
        np.savez_compressed(SHIPPED_DATA, allow_pickle=False, shipped=logits, digest=digest)
    print(f"wrote {DATA} and {SHIPPED_DATA}")


if __name__ == "__main__":
    main()
