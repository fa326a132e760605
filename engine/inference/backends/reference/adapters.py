"""LoRA adapters as PEFT writes them, read strictly: what would change the result and is not computed here is refused by name.

A LoRA adds to a projection y = x·W the low-rank product (x·Aᵀ·Bᵀ)·scale, where A is [rank, inputs], B [outputs, rank] and
scale = alpha / rank (or alpha / √rank, "rsLoRA"). Staging reads and checks the files; `fuse` lays the factors out like the
fused projections they will be added to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from engine.contract.errors import AiwmError, Code
from engine.inference.adapter_files import CONFIG_FILE, WEIGHTS_FILE, missing_part
from engine.inference.adapters.settings import unsupported
from engine.inference.backends.reference.config import ModelConfig, read_json
from engine.inference.backends.reference.safetensors import TensorFile
from engine.inference.backends.reference.weights import FloatArray, Layer, arrange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Site = Literal["qkv", "output", "gate_up", "down"]

# Beyond this a product could overflow, and infinity times a gate of zero would reach the other requests of a batch.
LARGEST_VALUE = 1e6
_TENSOR = re.compile(
    r"base_model\.model\.(model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+))\.lora_([AB])(?:\.\w+)?\.weight"
)
_PLAIN_PATTERN = re.compile(r"\^?[\w.\\]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a projection sits: its outputs start at column `start` of fused projection `site`."""

    site: Site
    start: int
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Factors:
    """One fused projection of one layer: y[rows] += (x·a)·b. a [inputs, rank], b [rank, site outputs], scaled."""

    a: FloatArray
    b: FloatArray


@dataclass(frozen=True, slots=True)
class Module:
    """The factors of one projection as the files hold them, and their scale."""

    a: FloatArray
    b: FloatArray
    scale: float


StagedModules = dict[tuple[int, str], Module]
FusedLayers = tuple[dict[Site, Factors], ...]


def places(config: ModelConfig) -> dict[str, Place]:
    """Every projection that an adapter may change."""
    hidden, query, key, wide = config.hidden, config.query_size, config.key_size, config.intermediate
    return {
        "q_proj": Place("qkv", 0, hidden, query),
        "k_proj": Place("qkv", query, hidden, key),
        "v_proj": Place("qkv", query + key, hidden, key),
        "o_proj": Place("output", 0, query, hidden),
        "gate_proj": Place("gate_up", 0, hidden, wide),
        "up_proj": Place("gate_up", wide, hidden, wide),
        "down_proj": Place("down", 0, wide, hidden),
    }


class _Reader:
    """Reads one adapter; every refusal names the adapter and what it asks for."""

    def __init__(self, directory: Path, config: ModelConfig) -> None:
        self._directory = directory
        self._model = config
        self._places = places(config)
        if not (directory / CONFIG_FILE).is_file():
            raise missing_part(directory, CONFIG_FILE)
        self._settings = read_json(directory / CONFIG_FILE, Code.adapter_invalid)

    def _unsupported(self, what: str) -> AiwmError:
        return AiwmError(
            Code.adapter_unsupported,
            f"adapter {self._directory} uses {what}, which the reference backend does not compute",
            field="adapters",
            fix="train or export it as a plain LoRA of the linear projections",
        )

    def _invalid(self, why: str) -> AiwmError:
        return AiwmError(Code.adapter_invalid, f"adapter {self._directory}: {why}", field="adapters")

    def read(self) -> StagedModules:
        self._check_settings()
        if not (self._directory / WEIGHTS_FILE).is_file():
            raise missing_part(self._directory, WEIGHTS_FILE)
        file = TensorFile(self._directory / WEIGHTS_FILE, Code.adapter_invalid)
        halves: dict[tuple[int, str], dict[str, FloatArray]] = {}
        paths: dict[tuple[int, str], str] = {}
        for name in file.tensors:
            match = _TENSOR.fullmatch(name)
            if match is None or match[3] not in self._places:
                raise self._unsupported(f"tensor {name!r}")
            key = (int(match[2]), match[3])
            if key[0] >= self._model.layers:
                raise self._invalid(f"it changes layer {key[0]}, the model has {self._model.layers} layers")
            halves.setdefault(key, {})[match[4]] = file.read(name)
            paths[key] = match[1]
        if not halves:
            raise self._invalid("it has no tensors")
        return {key: self._module(key, paths[key], both) for key, both in halves.items()}

    def _check_settings(self) -> None:
        what = unsupported(self._settings)
        if what is not None:
            raise self._unsupported(what)

    def _pattern(self, name: str, module: str, default: object) -> object:
        """PEFT's rule: the first pattern that equals the module's dotted name or a tail of it."""
        patterns = self._settings.get(name) or {}
        if not isinstance(patterns, dict):
            raise self._invalid(f"{name} must be an object")
        for pattern, value in patterns.items():
            if not _PLAIN_PATTERN.fullmatch(pattern):
                raise self._unsupported(f"the regular expression {pattern!r} in {name}")
            if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module):
                return value
        return default

    def _module(self, key: tuple[int, str], path: str, both: Mapping[str, FloatArray]) -> Module:
        place = self._places[key[1]]
        a, b = both.get("A"), both.get("B")
        if a is None or b is None:
            raise self._invalid(f"{path} has only lora_{'A' if b is None else 'B'}")
        rank = self._pattern("rank_pattern", path, self._settings.get("r"))
        alpha = self._pattern("alpha_pattern", path, self._settings.get("lora_alpha"))
        if not isinstance(rank, int) or rank <= 0 or not isinstance(alpha, int | float):
            raise self._invalid(f"r={rank!r} and lora_alpha={alpha!r} of {path} are not numbers to use")
        for half, shape, expected in (("A", a.shape, (rank, place.inputs)), ("B", b.shape, (place.outputs, rank))):
            if shape != expected:
                raise self._invalid(f"lora_{half} of {path} has shape {shape}, for this model it must be {expected}")
        if not max(np.abs(a).max(), np.abs(b).max()) <= LARGEST_VALUE:
            raise self._invalid(
                f"{path} has numbers that no trained adapter has (not finite, or above {LARGEST_VALUE:g})"
            )
        return Module(a, b, float(alpha) / (rank**0.5 if self._settings.get("use_rslora") else rank))


def read_adapter(directory: Path, config: ModelConfig) -> StagedModules:
    """Read and check a PEFT directory. Raises adapter_not_found, adapter_invalid, adapter_unsupported."""
    return _Reader(directory, config).read()


def staged_bytes(modules: StagedModules) -> int:
    return sum(module.a.nbytes + module.b.nbytes for module in modules.values())


def bytes_when_fused(modules: StagedModules, config: ModelConfig) -> int:
    """What `fuse` will make of these takes."""
    where, widths = places(config), _widths(config)
    numbers = 0
    for (_, name), module in modules.items():
        rank, inputs = module.a.shape
        numbers += rank * (inputs + widths[where[name].site])
    return numbers * 4


def _widths(config: ModelConfig) -> dict[Site, int]:
    """The outputs of each fused projection."""
    widths: dict[Site, int] = {}
    for place in places(config).values():
        widths[place.site] = max(widths.get(place.site, 0), place.start + place.outputs)
    return widths


def fuse(modules: StagedModules, config: ModelConfig, base: Sequence[Layer]) -> FusedLayers:
    """Lay the factors out by layer and fused projection: A side by side, B block by block under its columns, both rearranged
    as the base model's own weights are."""
    where, widths = places(config), _widths(config)
    layers: list[dict[Site, Factors]] = [{} for _ in range(config.layers)]
    for index, layer in enumerate(layers):
        norms: dict[Site, FloatArray] = {"qkv": base[index].attention_norm, "gate_up": base[index].mlp_norm}
        for site, width in widths.items():
            names = [name for name, place in where.items() if place.site == site and (index, name) in modules]
            if names:
                parts = [(where[name].start, *_arranged(name, modules[index, name], config)) for name in names]
                layer[site] = _side_by_side(parts, width, norms.get(site))
    return tuple(layers)


def _arranged(name: str, module: Module, config: ModelConfig) -> tuple[FloatArray, FloatArray]:
    return module.a, arrange(name, module.b, config.head_size) * np.float32(module.scale)


def _side_by_side(parts: list[tuple[int, FloatArray, FloatArray]], width: int, norm: FloatArray | None) -> Factors:
    a = np.ascontiguousarray(np.concatenate([part for _, part, _ in parts]).T)
    if norm is not None:
        a *= norm[:, None]
    b = np.zeros((a.shape[1], width), np.float32)
    row = 0
    for start, _, part in parts:
        outputs, rank = part.shape
        b[row : row + rank, start : start + outputs] = part.T
        row += rank
    return Factors(a, b)


def fused_bytes(layers: FusedLayers) -> int:
    return sum(f.a.nbytes + f.b.nbytes for layer in layers for f in layer.values())
