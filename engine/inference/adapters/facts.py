"""What an adapter's files say of it, from its settings and the header of its weights: nothing is loaded.

Cheap to import: the engine uses it without numpy. Sizes in bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.inference.adapter_files import CONFIG_FILE, WEIGHTS_FILE, missing_part
from engine.inference.adapters.settings import unsupported
from engine.inference.backends.reference.config import read_json
from engine.inference.backends.reference.safetensors import TensorFile

if TYPE_CHECKING:
    from engine.inference.backends.reference.safetensors import TensorInfo

MANIFEST_FILE = "manifest.json"
MAX_RANK = 1024
_MOST_BYTES = 4 * 2**20
"""No settings are longer; what is, is something else."""
_FLOATS = frozenset({"F32", "F16", "BF16"})
_TENSOR = re.compile(
    r"base_model\.model\.(?P<module>(?:\w+\.)*(?P<projection>\w+))\.lora_(?P<half>[AB])(?:\.\w+)?\.weight"
)
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """`base` is the model that it was trained for, as its settings name it; `rank` the largest of its tensors; `features` what some
    backends refuse: alpha_pattern, rank_pattern, rslora; `manifest` what manifest.json says, {} without one."""

    base: str
    rank: int
    alpha: float
    projections: tuple[str, ...]
    layers: int
    tensors: int
    dtype: str
    size_bytes: int
    features: tuple[str, ...] = ()
    manifest: dict[str, Any] = {}


class Base(msgspec.Struct, frozen=True):
    """A base model as far as it matters to its adapters: its numbers of config.json, and what runs it."""

    name: str
    backend: str
    hidden: int
    query: int
    key: int
    wide: int
    layers: int


def read_base(name: str, backend: str, directory: Path) -> Base | None:
    """A model's shape from its config.json; None where it cannot be told (another family, another format)."""
    try:
        raw = read_json(directory / "config.json", Code.model_invalid)
        hidden, heads = int(raw["hidden_size"]), int(raw["num_attention_heads"])
        head = int(raw.get("head_dim") or hidden // heads)
        kv_heads = int(raw.get("num_key_value_heads") or heads)
        wide, layers = int(raw["intermediate_size"]), int(raw["num_hidden_layers"])
    except (AiwmError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return Base(name, backend, hidden, heads * head, kv_heads * head, wide, layers)


def read_facts(directory: Path) -> Facts:
    """Read a PEFT directory's settings and header. Raises adapter_not_found, adapter_invalid, adapter_unsupported, naming the
    directory and what is wrong."""
    settings = _settings(directory, CONFIG_FILE)
    what = unsupported(settings)
    if what is not None:
        raise _refused(Code.adapter_unsupported, directory, f"uses {what} and is no plain LoRA", _PLAIN)
    manifest = _settings(directory, MANIFEST_FILE) if (directory / MANIFEST_FILE).exists() else {}
    if not (directory / WEIGHTS_FILE).is_file():
        raise missing_part(directory, WEIGHTS_FILE)
    file = TensorFile(directory / WEIGHTS_FILE, Code.adapter_invalid)
    modules = _modules(directory, file.tensors)
    alpha = settings.get("lora_alpha")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        raise _refused(Code.adapter_invalid, directory, f"has lora_alpha={alpha!r}, which is no number")
    features = [name for name in ("alpha_pattern", "rank_pattern") if settings.get(name)]
    return Facts(
        base=str(settings.get("base_model_name_or_path") or ""),
        rank=max(_rank(directory, settings, path, halves) for path, halves in modules.items()),
        alpha=float(alpha),
        projections=tuple(sorted({_match(path)["projection"] for path in modules})),
        layers=len({_layer(path) for path in modules}),
        tensors=len(file.tensors),
        dtype=",".join(sorted({info.dtype for info in file.tensors.values()})),
        size_bytes=file.path.stat().st_size,
        features=(*features, *(("rslora",) if settings.get("use_rslora") else ())),
        manifest=manifest,
    )


def misfit(directory: Path, base: Base) -> AiwmError | None:
    """Why a readable adapter does not fit its base model, if it does not."""
    file = TensorFile(directory / WEIGHTS_FILE, Code.adapter_invalid)
    shapes = _shapes(base)
    for path, halves in _modules(directory, file.tensors).items():
        layer, projection = _layer(path), _match(path)["projection"]
        if layer is not None and layer >= base.layers:
            why = f"changes layer {layer}, {base.name} has {base.layers} layers"
            return _refused(Code.adapter_invalid, directory, why, _OTHER_BASE)
        if projection not in shapes:
            continue  # what else a model may have is for its backend to refuse
        sides = {"A": halves["A"].shape[1], "B": halves["B"].shape[0]}
        for half, expected in zip("AB", shapes[projection], strict=True):
            if sides[half] != expected:
                why = f"was made for another model: lora_{half} of {projection} has {sides[half]} where {base.name} has {expected}"
                return _refused(Code.adapter_invalid, directory, why, _OTHER_BASE)
    return None


_PLAIN = "train or export it as a plain LoRA of the linear projections"
_OTHER_BASE = "use it with the model it was trained for, or train it again"


def _shapes(base: Base) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of each projection that an adapter may change."""
    return {
        "q_proj": (base.hidden, base.query),
        "k_proj": (base.hidden, base.key),
        "v_proj": (base.hidden, base.key),
        "o_proj": (base.query, base.hidden),
        "gate_proj": (base.hidden, base.wide),
        "up_proj": (base.hidden, base.wide),
        "down_proj": (base.wide, base.hidden),
    }


def _modules(directory: Path, tensors: Mapping[str, TensorInfo]) -> dict[str, dict[str, TensorInfo]]:
    """Both halves of every changed projection, by the name of its A."""
    modules: dict[str, dict[str, TensorInfo]] = {}
    for name, info in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None or len(info.shape) != 2:
            raise _refused(Code.adapter_unsupported, directory, f"has tensor {name!r}, which is none of a LoRA", _PLAIN)
        if info.dtype not in _FLOATS:
            raise _refused(
                Code.adapter_unsupported, directory, f"has tensor {name!r} of type {info.dtype}", "save it as F16"
            )
        start, end = match.span("half")
        modules.setdefault(f"{name[:start]}A{name[end:]}", {})[match["half"]] = info
    if not modules:
        raise _refused(Code.adapter_invalid, directory, "has no tensors")
    for path, halves in modules.items():
        if len(halves) != 2:
            missing = "B" if "A" in halves else "A"
            raise _refused(Code.adapter_invalid, directory, f"has no lora_{missing} for {_match(path)['module']}")
    return modules


def _rank(directory: Path, settings: Mapping[str, Any], path: str, halves: Mapping[str, TensorInfo]) -> int:
    """The rank of one projection: both halves must agree on it, and with the settings unless these have patterns."""
    rank, other = halves["A"].shape[0], halves["B"].shape[1]
    said = settings.get("r")
    module = _match(path)["module"]
    if rank != other or not 0 < rank <= MAX_RANK:
        raise _refused(Code.adapter_invalid, directory, f"has rank {rank} in lora_A and {other} in lora_B of {module}")
    if rank != said and not settings.get("rank_pattern"):
        raise _refused(Code.adapter_invalid, directory, f"has rank {rank} in {module}, its settings say r={said!r}")
    return rank


def _match(path: str) -> re.Match[str]:
    found = _TENSOR.fullmatch(path)
    assert found is not None
    return found


def _layer(path: str) -> int | None:
    found = _LAYER.search(_match(path)["module"])
    return None if found is None else int(found[1])


def _settings(directory: Path, name: str) -> dict[str, Any]:
    """A small file of JSON, read only if it is one."""
    path = directory / name
    if not path.is_file():
        raise missing_part(directory, name)
    if path.stat().st_size > _MOST_BYTES:
        raise _refused(Code.adapter_invalid, directory, f"has a {name} of more than {_MOST_BYTES} bytes")
    return read_json(path, Code.adapter_invalid)


def _refused(code: Code, directory: Path, why: str, fix: str | None = None) -> AiwmError:
    return AiwmError(code, f"adapter {directory} {why}", field="adapters", fix=fix)
