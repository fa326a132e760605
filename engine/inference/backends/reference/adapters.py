"""LoRA adapters in the form that the forward pass wants: laid out like the fused projections they are added to.

`peft_files` reads and checks them, `Layout` makes of the factors of one layer's q, k and v (or gate and up) one pair: A side by side, B
block by block under its columns, both rearranged as the base model's own weights are (see `weights`). The blocks of zeros between
save a small model two products a layer; where they are large each projection keeps a pair of its own. Every number is read and
written once, while the disk reads on: a load should cost little more than reading the file does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from engine.inference.backends.peft_files import PeftFiles, Projection
from engine.inference.backends.reference.weights import Arena, FloatArray, Layer, arrange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.inference.adapter_files import AdapterFiles
    from engine.inference.backends.reference.config import ModelConfig

Site = Literal["qkv", "output", "gate_up", "down"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a projection sits: its outputs start at column `start` of fused projection `site`."""

    site: Site
    start: int
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Factors:
    """What is added to some outputs of a fused projection of one layer, from column `start` on: (x·a)·b. a [inputs, rank],
    b [rank, outputs], scaled."""

    a: FloatArray
    b: FloatArray
    start: int


FusedLayers = tuple[dict[Site, tuple[Factors, ...]], ...]

MOST_ZEROS = 1 << 16
"""Bytes of zeros that a fused pair may have: reading them in every step takes about as long as the calls that they save."""


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


def _widths(config: ModelConfig) -> dict[Site, int]:
    """The outputs of each fused projection."""
    widths: dict[Site, int] = {}
    for place in places(config).values():
        widths[place.site] = max(widths.get(place.site, 0), place.start + place.outputs)
    return widths


def load_adapter(files: AdapterFiles, config: ModelConfig, base: Sequence[Layer]) -> FusedLayers:
    """Read, check and lay out an adapter for a model with these layers. Raises adapter_invalid, adapter_unsupported."""
    keys, sizes = _paths(config)
    adapter = PeftFiles(files, "reference", sizes)
    layout = Layout({keys[path]: rank for path, rank in adapter.ranks().items()}, config, base)
    for projection in adapter.passing():
        layout.put(*keys[projection.path], projection)
    return tuple(layout.layers)


@lru_cache(maxsize=2)
def _paths(config: ModelConfig) -> tuple[dict[str, tuple[int, str]], dict[str, tuple[int, int]]]:
    """By path of a projection: its layer and name, its inputs and outputs."""
    keys: dict[str, tuple[int, str]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name, place in places(config).items():
        block = "self_attn" if place.site in ("qkv", "output") else "mlp"
        for layer in range(config.layers):
            path = f"model.layers.{layer}.{block}.{name}"
            keys[path], sizes[path] = (layer, name), (place.inputs, place.outputs)
    return keys, sizes


@dataclass(frozen=True, slots=True)
class _Block:
    """Where one projection's factors go: columns of a's, and a block of b's, of what its site has."""

    a: FloatArray
    b: FloatArray


class Layout:
    """The places of an adapter's factors, whose ranks are known by layer and name of the projection."""

    def __init__(self, ranks: dict[tuple[int, str], int], config: ModelConfig, base: Sequence[Layer]) -> None:
        self._head_size = config.head_size
        self._base = base
        self._places = places(config)
        self._blocks: dict[tuple[int, str], _Block] = {}
        self.layers: list[dict[Site, tuple[Factors, ...]]] = [{} for _ in range(config.layers)]
        sites: dict[tuple[int, Site], dict[str, int]] = {}
        for (layer, name), rank in ranks.items():
            sites.setdefault((layer, self._places[name].site), {})[name] = rank
        self._make_room(sites, _widths(config))

    def _make_room(self, sites: dict[tuple[int, Site], dict[str, int]], widths: dict[Site, int]) -> None:
        own = {key: self._zeros(ranks, widths[key[1]]) > MOST_ZEROS for key, ranks in sites.items()}
        elements = pieces = 0
        for key, ranks in sites.items():
            for name, rank in ranks.items():
                place = self._places[name]
                elements += rank * (place.inputs + (place.outputs if own[key] else widths[key[1]]))
                pieces += 2
        arena = Arena(elements, pieces)
        for (layer, site), ranks in sites.items():
            if own[layer, site]:
                self.layers[layer][site] = tuple(self._alone(arena, layer, name, ranks[name]) for name in ranks)
            else:
                self.layers[layer][site] = (self._fused(arena, layer, ranks, widths[site]),)

    def _zeros(self, ranks: dict[str, int], width: int) -> int:
        """Bytes of b that stay zero where all projections of a site are one pair."""
        return 4 * sum(rank * (width - self._places[name].outputs) for name, rank in ranks.items())

    def _alone(self, arena: Arena, layer: int, name: str, rank: int) -> Factors:
        place = self._places[name]
        block = self._blocks[layer, name] = _Block(arena.take(place.inputs, rank), arena.take(rank, place.outputs))
        return Factors(block.a, block.b, place.start)

    def _fused(self, arena: Arena, layer: int, ranks: dict[str, int], width: int) -> Factors:
        inputs, total = self._places[next(iter(ranks))].inputs, sum(ranks.values())
        factors = Factors(arena.take(inputs, total), arena.take(total, width), 0)
        row = 0
        for name, rank in ranks.items():
            place, end = self._places[name], row + rank
            b = factors.b[row:end, place.start : place.start + place.outputs]
            self._blocks[layer, name] = _Block(factors.a[:, row:end], b)
            row = end
        return factors

    def put(self, layer: int, name: str, projection: Projection) -> None:
        block, site = self._blocks[layer, name], self._places[name].site
        norms: dict[Site, FloatArray] = {"qkv": self._base[layer].attention_norm, "gate_up": self._base[layer].mlp_norm}
        # Read straight through, written across: the other way round takes three times as long.
        np.multiply(projection.a, norms.get(site, _ONE), out=block.a.T)
        arranged, factor = arrange(name, projection.b, self._head_size)
        np.multiply(arranged.T, np.float32(projection.scale * factor), out=block.b)


_ONE = np.ones((), np.float32)


def fused_bytes(layers: FusedLayers) -> int:
    return sum(f.a.nbytes + f.b.nbytes for layer in layers for site in layer.values() for f in site)
