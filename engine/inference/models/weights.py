"""The safetensors files of a directory by their headers: how much there is, in what types, and which files are not whole."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import msgspec

from engine.contract.errors import NOT_JSON
from engine.inference.adapter_files import UNSAFE_SUFFIXES

INDEX = "model.safetensors.index.json"
_MAX_HEADER = 100_000_000
_MOST_ELEMENTS = 2**50
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
_BITS |= {
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "U16": 16,
    "U32": 32,
    "U64": 64,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E8M0": 8,
}
_SHARD = re.compile(r".+-(\d{5})-of-(\d{5})\.safetensors")


class _Tensor(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """`elements` of all tensors; `types` bytes by dtype; `names` of tensors; `damaged` files, each with why; `pickled` weights that lie
    there instead."""

    files: int = 0
    bytes: int = 0
    elements: int = 0
    types: dict[str, int] = {}
    names: frozenset[str] = frozenset()
    shapes: dict[str, tuple[int, ...]] = {}
    damaged: tuple[str, ...] = ()
    pickled: str = ""


def read_weights(directory: Path) -> Weights:
    """Look at every *.safetensors of a directory. Raises OSError only if the directory itself cannot be listed."""
    paths = sorted(path for path in directory.iterdir() if path.is_file())
    weights = [path for path in paths if path.suffix == ".safetensors"]
    if not weights:
        pickled = next((path.name for path in paths if path.suffix in UNSAFE_SUFFIXES), "")
        return Weights(pickled=pickled)
    damaged = _missing(directory, {path.name for path in weights})
    types: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    elements = 0
    for path in weights:
        try:
            tensors = _header(path)
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            damaged.append(f"{path.name}: {reason}")
            continue
        for name, tensor in tensors.items():
            begin, end = tensor.data_offsets
            types[tensor.dtype] = types.get(tensor.dtype, 0) + end - begin
            elements += math.prod(tensor.shape)
            shapes[name] = tuple(tensor.shape)
    return Weights(
        files=len(weights),
        bytes=sum(types.values()),
        elements=elements,
        types=types,
        names=frozenset(shapes),
        shapes=shapes,
        damaged=tuple(damaged),
    )


def _header(path: Path) -> dict[str, _Tensor]:
    """The entries of a file's header. Raises ValueError saying what is not whole."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length > min(size - 8, _MAX_HEADER):
            raise ValueError("its header is longer than the file")
        raw = file.read(length)
    try:
        entries: dict[str, msgspec.Raw] = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        entries.pop("__metadata__", None)
        tensors = {name: msgspec.json.decode(entry, type=_Tensor) for name, entry in entries.items()}
    except NOT_JSON:
        raise ValueError("its header is not readable") from None
    end = 0
    for name, tensor in tensors.items():
        first, last = tensor.data_offsets
        bits = _BITS.get(tensor.dtype)
        if not 0 <= first <= last or any(side < 0 for side in tensor.shape) or math.prod(tensor.shape) > _MOST_ELEMENTS:
            raise ValueError(f"the entry of {name[:80]} is malformed")
        if bits is not None and math.prod(tensor.shape) * bits > (last - first + 1) * 8:
            raise ValueError(f"{name[:80]} has another size than its shape says")
        end = max(end, last)
    missing = 8 + length + end - size
    if missing > 0:
        raise ValueError(f"cut short, {missing:,} bytes are missing")
    return tensors


def _missing(directory: Path, there: set[str]) -> list[str]:
    """Shards that an index or the names of the others promise, and that are not there."""
    promised: set[str] = set()
    index = read_json(directory / INDEX)
    weight_map = index.get("weight_map")
    if isinstance(weight_map, dict):
        promised |= {name for name in weight_map.values() if isinstance(name, str) and "/" not in name}
    for name in there:
        shard = _SHARD.fullmatch(name)
        if shard and int(shard[2]) <= 10_000:
            stem = name[: -len(f"-{shard[1]}-of-{shard[2]}.safetensors")]
            promised |= {f"{stem}-{n:05d}-of-{shard[2]}.safetensors" for n in range(1, int(shard[2]) + 1)}
    return [f"{name}: is missing" for name in sorted(promised - there)]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of at most 16 MB; empty when there is none that can be read."""
    try:
        if not path.is_file() or path.stat().st_size > 16_000_000:
            return {}
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def json_damage(path: Path) -> tuple[str, ...]:
    """What is wrong with a file that must be a JSON object where there is one; nested so deep that no reader follows counts, too."""
    try:
        if path.is_file() and not isinstance(json.loads(path.read_bytes()), dict):
            return (f"{path.name}: is not a JSON object",)
    except (OSError, ValueError, RecursionError):
        return (f"{path.name}: is not readable JSON",)
    return ()
