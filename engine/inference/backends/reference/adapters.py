"""LoRA adapters in the form that the forward pass wants: laid out like the fused projections they are added to.

`peft_files` reads and checks them, `Layout` makes of the factors of one layer's q, k and v (or gate and up) one pair: A side by side, B
block by block under its columns, both rearranged as the base model's own weights are (see `weights`). Every number is read and
written once, while the disk reads on: a load should cost little more than reading the file does."""

from __future__ import annotations

from dataclasses import dataclass
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
    """One fused projection of one layer: y[rows] += (x·a)·b. a [inputs, rank], b [rank, site outputs], scaled."""

    a: FloatArray
    b: FloatArray


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


def _widths(config: ModelConfig) -> dict[Site, int]:
    """The outputs of each fused projection."""
    widths: dict[Site, int] = {}
    for place in places(config).values():
        widths[place.site] = max(widths.get(place.site, 0), place.start + place.outputs)
    return widths


def load_adapter(files: AdapterFiles, config: ModelConfig, base: Sequence[Layer]) -> FusedLayers:
    """Read, check and lay out an adapter for a model with these layers. Raises adapter_invalid, adapter_unsupported."""
    keys: dict[str, tuple[int, str]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name, place in places(config).items():
        block = "self_attn" if place.site in ("qkv", "output") else "mlp"
        for layer in range(config.layers):
            path = f"model.layers.{layer}.{block}.{name}"
            keys[path], sizes[path] = (layer, name), (place.inputs, place.outputs)
    adapter = PeftFiles(files, "reference", sizes)
    layout = Layout({keys[path]: rank for path, rank in adapter.ranks().items()}, config, base)
    for projection in adapter.projections():
        layout.put(*keys[projection.path], projection)
    return tuple(layout.layers)


class Layout:
    """The places of an adapter's factors, whose ranks are known by layer and name of the projection."""

    def __init__(self, ranks: dict[tuple[int, str], int], config: ModelConfig, base: Sequence[Layer]) -> None:
        self._head_size = config.head_size
        self._base = base
        self._places = places(config)
        self._rows: dict[tuple[int, str], int] = {}  # where each begins among the ranks of its site
        totals: dict[tuple[int, Site], int] = {}
        for name, place in self._places.items():
            for layer in range(config.layers):
                if (layer, name) in ranks:
                    row = self._rows[layer, name] = totals.get((layer, place.site), 0)
                    totals[layer, place.site] = row + ranks[layer, name]
        self.layers: list[dict[Site, Factors]] = [{} for _ in range(config.layers)]
        self._make_room(totals, _widths(config))

    def _make_room(self, totals: dict[tuple[int, Site], int], widths: dict[Site, int]) -> None:
        inputs = {place.site: place.inputs for place in self._places.values()}
        arena = Arena(sum(rank * (inputs[site] + widths[site]) for (_, site), rank in totals.items()), 2 * len(totals))
        for (layer, site), rank in totals.items():
            self.layers[layer][site] = Factors(arena.take(inputs[site], rank), arena.take(rank, widths[site]))

    def put(self, layer: int, name: str, projection: Projection) -> None:
        place = self._places[name]
        factors = self.layers[layer][place.site]
        row = self._rows[layer, name]
        end = row + projection.a.shape[0]
        norms: dict[Site, FloatArray] = {"qkv": self._base[layer].attention_norm, "gate_up": self._base[layer].mlp_norm}
        norm = norms.get(place.site)
        np.multiply(projection.a.T, 1 if norm is None else norm[:, None], out=factors.a[:, row:end])
        arranged, factor = arrange(name, projection.b, self._head_size)
        block = factors.b[row:end, place.start : place.start + place.outputs]
        np.multiply(arranged.T, np.float32(projection.scale * factor), out=block)


def fused_bytes(layers: FusedLayers) -> int:
    return sum(f.a.nbytes + f.b.nbytes for layer in layers for f in layer.values())
