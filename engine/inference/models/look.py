"""Look at a directory or file: what model is in it. Pure but for reading headers; well under a second whatever the size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from os.path import getmtime, isdir, isfile
from pathlib import Path
from typing import Any

from engine.contract.errors import AiwmError, Code
from engine.inference.models import gguf
from engine.inference.models.kinds import QUANTISATIONS, ModelKind, Seen, Shape, Template
from engine.inference.models.weights import Weights, json_damage, read_json, read_weights
from engine.inference.templates import SPECIAL_TOKENS, template_source, token_text

_GGUF_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_MOST_FOUND, _MOST_VISITED, _DEEPEST = 500, 5_000, 4
_LONGEST_TEMPLATE = 1_000_000


def look(path: Path) -> Seen:
    """What lies there. Raises model_not_found if nothing does, model_invalid if it cannot be read at all; what is wrong with a model that
    can be recognised is said in what is returned."""
    try:
        if path.is_dir():
            files = sorted(path.glob("*.gguf"))
            if files and not (path / "config.json").is_file():
                return _gguf(_first_shard(files), name_of(path))
            return _directory(path)
        if path.is_file():
            if path.suffix == ".gguf":
                return _gguf(path, name_of(path))
            return Seen(path=str(path), name=name_of(path), kind=ModelKind.unknown, notes=(_of_file(path),))
    except OSError as error:
        raise AiwmError(Code.model_invalid, f"{path} cannot be read: {error.strerror}", field="path") from error
    raise AiwmError(
        Code.model_not_found,
        f"there is nothing at {path}",
        field="path",
        fix="a model's directory, a .gguf file, or a directory of these",
    )


def models_in(path: Path) -> list[Path]:
    """The models beneath a directory, at most 500, in the layouts that download tools make: a directory or GGUF file each, Hugging Face's
    cache (models--ORG--NAME/snapshots/…), LM Studio's (PUBLISHER/NAME/FILE.gguf). The directory itself if it is a model. After 5,000
    directories it looks no further: somebody may have said `/`."""
    if not path.is_dir():
        return [path]
    found: list[Path] = []
    _search(path, 0, found, iter(range(_MOST_VISITED)), set())
    return found


def name_of(path: Path) -> str:
    """A name for a model: its directory's or file's, in the letters that names may have."""
    parts = path.parts
    hub = next((part for part in reversed(parts) if part.startswith("models--")), None)
    text = hub.split("--")[-1] if hub is not None else path.name
    shard = _GGUF_SHARD.fullmatch(text)
    text = shard[1] if shard else text.removesuffix(".gguf")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or "model"


# -- directories -----------------------------------------------------------------------------------------------------


def _search(path: Path, depth: int, found: list[Path], left: Iterator[int], known: set[tuple[int, int]]) -> None:
    """`known` are device and number of the directories that were looked into: links lead to some of them again."""
    if len(found) >= _MOST_FOUND or depth > _DEEPEST or next(left, None) is None:
        return
    try:
        status = path.stat()
    except OSError:
        return
    if (status.st_dev, status.st_ino) in known:
        return
    known.add((status.st_dev, status.st_ino))
    if isfile(path / "config.json") or isfile(path / "adapter_config.json"):
        found.append(path)
        return
    try:
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError:
        return
    files = [entry for entry in entries if entry.suffix == ".gguf" and isfile(entry)]
    found += [file for file in files if _is_first(file) and not file.name.startswith("mmproj")]
    if path.name == "snapshots" and path.parent.name.startswith("models--"):
        entries = _current_snapshot(path, entries)
    for entry in entries:
        if isdir(entry) and entry.name not in ("blobs", "refs"):
            _search(entry, depth + 1, found, left, known)


def _current_snapshot(path: Path, entries: list[Path]) -> list[Path]:
    """Of the versions in Hugging Face's cache the one that `main` means, else the newest."""
    try:
        commit = (path.parent / "refs" / "main").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        commit = ""
    named = [entry for entry in entries if entry.name == commit]
    return named or sorted(entries, key=getmtime)[-1:]


def _directory(path: Path) -> Seen:
    name = name_of(path)
    if (path / "adapter_config.json").is_file():
        note = "a LoRA adapter, not a model: aiwm adapter add"
        return Seen(path=str(path), name=name, kind=ModelKind.unknown, notes=(note,))
    config = read_json(path / "config.json")
    weights = read_weights(path)
    if not config:
        there = (path / "config.json").is_file()
        damaged = "config.json: is not readable JSON"
        nothing = "no config.json: not the directory of a model"
        if there:
            return Seen(path=str(path), name=name, kind=ModelKind.unknown, damaged=(damaged,))
        return Seen(path=str(path), name=name, kind=ModelKind.unknown, notes=(nothing,))
    # Models that see carry the numbers of their language half apart.
    text = config.get("text_config")
    numbers = {**config, **text} if isinstance(text, dict) and "hidden_size" not in config else config
    kind, quant = _quantisation(path, config, weights)
    shape = _shape(numbers)
    architecture, notes = _architecture(config)
    tokenizer = (path / "tokenizer.json").is_file()
    if not tokenizer:
        other = "only tokenizer.model" if (path / "tokenizer.model").is_file() else "no tokenizer"
        notes.append(f"no tokenizer.json ({other})")
    refused = ""
    if not weights.files:
        refused = f"only {weights.pickled}, a pickle that could run code" if weights.pickled else "no weights"
    packed = kind not in (ModelKind.plain, ModelKind.unknown)
    return Seen(
        path=str(path),
        name=name,
        kind=kind,
        quant=quant,
        architecture=architecture,
        shape=shape,
        parameters=(_estimated(numbers, shape) if packed else 0) or (0 if packed else weights.elements),
        weights_bytes=weights.bytes,
        template=_template(path, notes),
        has_tokenizer=tokenizer,
        damaged=weights.damaged + json_damage(path / "tokenizer_config.json"),
        refused=refused,
        notes=tuple(notes),
    )


def _quantisation(path: Path, config: dict[str, Any], weights: Weights) -> tuple[ModelKind, str]:
    """Kind and exact quantisation: as the configuration says, else as the tensors are called."""
    said = config.get("quantization_config") or config.get("compression_config")
    said = said if isinstance(said, dict) and said else read_json(path / "quantize_config.json")
    method = str(said.get("quant_method") or ("gptq" if said else "")).lower()
    bits = said.get("bits") or said.get("w_bit")
    per_weight = f"{bits:g} bpw" if isinstance(bits, int | float) else ""
    if method in QUANTISATIONS:
        return QUANTISATIONS[method], per_weight
    if method:
        return ModelKind.other, f"{method} {per_weight}".strip()[:40]
    for ending, kind in ((".q_weight", ModelKind.exl2), (".trellis", ModelKind.exl3), (".qweight", ModelKind.gptq)):
        if any(name.endswith(ending) for name in weights.shapes):
            return kind, ""
    if not weights.types:
        return ModelKind.unknown, ""
    widest = max(weights.types, key=lambda dtype: weights.types[dtype])
    return (ModelKind.plain if widest in ("F32", "F16", "BF16") else ModelKind.other), widest


def _architecture(config: dict[str, Any]) -> tuple[str, list[str]]:
    named = config.get("architectures")
    names = [str(name)[:80] for name in named] if isinstance(named, list) else [str(named)[:80]] if named else []
    if not names:
        return "", ["config.json names no architecture"]
    if len(names) > 1:
        return names[0], [f"config.json names several architectures ({', '.join(names[:4])}): {names[0]} counts"]
    return names[0], []


def _number(config: dict[str, Any], *keys: str) -> int:
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40:
            return value
    return 0


def _shape(config: dict[str, Any]) -> Shape:
    heads, hidden = _number(config, "num_attention_heads", "n_head"), _number(config, "hidden_size", "n_embd")
    return Shape(
        layers=_number(config, "num_hidden_layers", "n_layer"),
        hidden=hidden,
        heads=heads,
        kv_heads=_number(config, "num_key_value_heads") or heads,
        head_size=_number(config, "head_dim") or (hidden // heads if heads else 0),
        intermediate=_number(config, "intermediate_size"),
        vocabulary=_number(config, "vocab_size"),
        context=_number(config, "max_position_embeddings", "n_positions", "max_sequence_length"),
    )


def _estimated(config: dict[str, Any], shape: Shape) -> int:
    """Parameters of a dense model by its numbers; 0 for a mixture of experts, whose layers differ."""
    if _number(config, "num_experts", "num_local_experts", "n_routed_experts") or not shape.intermediate:
        return 0
    attention = shape.hidden * shape.head_size * 2 * (shape.heads + shape.kv_heads)
    layer = attention + 3 * shape.hidden * shape.intermediate
    heads = 1 if config.get("tie_word_embeddings") else 2
    return shape.layers * layer + heads * shape.vocabulary * shape.hidden


def _template(path: Path, notes: list[str]) -> Template | None:
    settings = read_json(path / "tokenizer_config.json")
    own = path / "chat_template.jinja"
    try:
        if own.is_file() and own.stat().st_size > _LONGEST_TEMPLATE:
            raise OSError
        source = template_source(path, settings)
    except (OSError, UnicodeDecodeError):
        notes.append("chat_template.jinja cannot be read")
        return None
    if source is None:
        value = read_json(path / "chat_template.json").get("chat_template")
        source = value if isinstance(value, str) else None
    if source is None:
        return None
    return Template(source=source, tokens={key: token_text(settings.get(key)) for key in SPECIAL_TOKENS})


# -- GGUF ------------------------------------------------------------------------------------------------------------


def _gguf(path: Path, name: str) -> Seen:
    damaged: list[str] = []
    parameters = weights = 0
    first: gguf.Header | None = None
    for shard in _shards(path):
        try:
            header = gguf.read_header(shard)
        except FileNotFoundError:
            damaged.append(f"{shard.name}: is missing")
            continue
        except gguf.BadGguf as error:
            damaged.append(f"{shard.name}: {error}")
            continue
        if header.missing_bytes:
            damaged.append(f"{shard.name}: cut short, {header.missing_bytes:,} bytes are missing")
        first = first or header
        parameters += header.parameters
        weights += header.weights_bytes
    if first is None:
        return Seen(path=str(path), name=name, kind=ModelKind.gguf, damaged=tuple(damaged))
    metadata = first.metadata
    architecture = str(metadata.get("general.architecture", ""))[:80]
    source = metadata.get("tokenizer.chat_template")
    return Seen(
        path=str(path),
        name=name,
        kind=ModelKind.gguf,
        quant=gguf.FILE_TYPES.get(metadata.get("general.file_type", -1), first.widest),
        architecture=architecture,
        shape=_gguf_shape(first, architecture),
        parameters=parameters,
        weights_bytes=weights,
        template=Template(source=source, tokens=first.special) if isinstance(source, str) else None,
        damaged=tuple(damaged),
    )


def _gguf_shape(header: gguf.Header, architecture: str) -> Shape:
    numbers = {
        key.removeprefix(f"{architecture}."): (max(value, default=0) if isinstance(value, list) else value)
        for key, value in header.metadata.items()
        if key.startswith(f"{architecture}.") and not (isinstance(value, list) and value and isinstance(value[0], str))
    }
    heads, hidden = _number(numbers, "attention.head_count"), _number(numbers, "embedding_length")
    return Shape(
        layers=_number(numbers, "block_count"),
        hidden=hidden,
        heads=heads,
        kv_heads=_number(numbers, "attention.head_count_kv") or heads,
        head_size=_number(numbers, "attention.key_length") or (hidden // heads if heads else 0),
        intermediate=_number(numbers, "feed_forward_length"),
        vocabulary=header.lengths.get("tokenizer.ggml.tokens", 0) or _number(numbers, "vocab_size"),
        context=_number(numbers, "context_length"),
    )


def _shards(path: Path) -> list[Path]:
    shard = _GGUF_SHARD.fullmatch(path.name)
    if shard is None or not 1 <= int(shard[3]) <= 1000:
        return [path]
    return [path.with_name(f"{shard[1]}-{n:05d}-of-{shard[3]}.gguf") for n in range(1, int(shard[3]) + 1)]


def _is_first(file: Path) -> bool:
    shard = _GGUF_SHARD.fullmatch(file.name)
    return shard is None or int(shard[2]) == 1


def _first_shard(files: list[Path]) -> Path:
    firsts = [file for file in files if _is_first(file) and not file.name.startswith("mmproj")]
    return (firsts or files)[0]


def _of_file(path: Path) -> str:
    if path.suffix == ".safetensors":
        return f"one file of a model: add its directory, {path.parent}"
    return "neither a directory nor a .gguf file"
