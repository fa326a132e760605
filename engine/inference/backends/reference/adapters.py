"""LoRA adapters in the form that the forward pass wants: laid out like the fused projections they are added to.

`peft_files` reads and checks their settings and headers, `Layout` decides where the factors of one layer's q, k and v (or gate and up)
go: one pair, A side by side, B block by block under its columns, both rearranged as the base model's own weights are (see `weights`). The
blocks of zeros between save a small model two products a layer; where they are large each projection keeps a pair of its own.

Adapters of one base that one tool made with one rank have the same header, so that what follows from it is kept for the next (`Adapters`);
every number is checked and written once while the disk reads on (`adapter_moves`): a load should cost little more than reading the file."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Literal

import numpy as np

from engine.inference.backends.peft_files import Part, PeftFiles, bounded
from engine.inference.backends.reference.adapter_moves import Haul, Stretch, Strided, stretches
from engine.inference.backends.reference.weights import Arena, FloatArray, Layer, arrangement, padded

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


@dataclass(frozen=True, slots=True)
class Pair:
    """Where factors are in an adapter's memory, in elements: a [inputs, rank] from `a` on, b [rank, outputs] from `b` on."""

    site: Site
    layer: int
    a: int
    b: int
    inputs: int
    rank: int
    outputs: int
    start: int

    def of(self, memory: FloatArray) -> Factors:
        a = memory[self.a : self.a + self.inputs * self.rank].reshape(self.inputs, self.rank)
        b = memory[self.b : self.b + self.rank * self.outputs].reshape(self.rank, self.outputs)
        return Factors(a, b, self.start)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done with every adapter of one header: `elements` of memory, what is read and where it goes, what is there then."""

    elements: int
    stretches: tuple[Stretch, ...]
    pairs: tuple[Pair, ...]
    layers: int

    def factors(self, memory: FloatArray) -> FusedLayers:
        layers: list[dict[Site, tuple[Factors, ...]]] = [{} for _ in range(self.layers)]
        for pair in self.pairs:
            sites = layers[pair.layer]
            sites[pair.site] = (*sites.get(pair.site, ()), pair.of(memory))
        return tuple(layers)


MOST_PLANS = 8
MOST_HEADER = 1 << 20
"""Bytes of a header whose plan is kept; one of a model with a hundred layers has a fifth of it."""


class Adapters:
    """Reads the adapters of one model with these layers, from any thread."""

    def __init__(self, config: ModelConfig, base: Sequence[Layer]) -> None:
        self._config, self._base = config, base
        self._keys, self._sizes = _paths(config)
        self._plans: OrderedDict[tuple[bytes, int, str], Plan] = OrderedDict()
        self._lock = Lock()

    def load(self, files: AdapterFiles) -> FusedLayers:
        """Read, check and lay out an adapter. Raises adapter_invalid, adapter_unsupported."""
        adapter = PeftFiles(files, "reference", self._sizes)
        plan = self._plan(adapter)
        memory = Arena(plan.elements, 1).take(plan.elements)
        for stretch in plan.stretches:
            read = stretch.read(files)
            if not bounded(read):
                for path, begin, end in stretch.tensors:
                    if not bounded(read[begin:end]):
                        raise adapter.beyond(path)
            stretch.lay_out(read, memory)
        return plan.factors(memory)

    def _plan(self, adapter: PeftFiles) -> Plan:
        """That of the adapters that are like it, or a new one. What is refused is in no plan, and so is looked at anew."""
        likeness = adapter.likeness(MOST_HEADER)
        if likeness is None:
            return self._new_plan(adapter)
        with self._lock:
            plan = self._plans.pop(likeness, None) or self._new_plan(adapter)
            self._plans[likeness] = plan
            if len(self._plans) > MOST_PLANS:
                self._plans.popitem(last=False)
        return plan

    def _new_plan(self, adapter: PeftFiles) -> Plan:
        parts = {self._keys[part.path]: part for part in adapter.parts()}
        layout = Layout({key: part.a.shape[0] for key, part in parts.items()}, self._config, self._base)
        hauls = [haul for key, part in parts.items() for haul in layout.hauls(*key, part)]
        return Plan(layout.elements, stretches(hauls), tuple(layout.pairs), self._config.layers)


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
    """Where one projection's factors begin: a's, whose rows are `a_row` apart, and b's, whose rows are `b_row` apart."""

    a: int
    a_row: int
    b: int
    b_row: int


class Layout:
    """The places of an adapter's factors, whose ranks are known by layer and name of the projection: `pairs` in `elements` of memory."""

    def __init__(self, ranks: dict[tuple[int, str], int], config: ModelConfig, base: Sequence[Layer]) -> None:
        self._head_size = config.head_size
        self._base = base
        self._places = places(config)
        self._blocks: dict[tuple[int, str], _Block] = {}
        self.elements = 0
        self.pairs: list[Pair] = []
        widths = _widths(config)
        sites: dict[tuple[int, Site], dict[str, int]] = {}
        for (layer, name), rank in ranks.items():
            sites.setdefault((layer, self._places[name].site), {})[name] = rank
        for (layer, site), within in sites.items():
            if self._zeros(within, widths[site]) > MOST_ZEROS:
                for name, rank in within.items():
                    place = self._places[name]
                    self._pair(layer, {name: rank}, place.outputs, place.start)
            else:
                self._pair(layer, within, widths[site], 0)

    def _zeros(self, ranks: dict[str, int], width: int) -> int:
        """Bytes of b that stay zero where all projections of a site are one pair."""
        return 4 * sum(rank * (width - self._places[name].outputs) for name, rank in ranks.items())

    def _take(self, elements: int) -> int:
        start = self.elements
        self.elements += padded(elements)
        return start

    def _pair(self, layer: int, ranks: dict[str, int], width: int, start: int) -> None:
        """Room for projections of one site, b's `width` columns of which begin at column `start` of the site."""
        first, total = self._places[next(iter(ranks))], sum(ranks.values())
        a, b = self._take(first.inputs * total), self._take(total * width)
        self.pairs.append(Pair(first.site, layer, a, b, first.inputs, total, width, start))
        row = 0
        for name, rank in ranks.items():
            column = self._places[name].start - start
            self._blocks[layer, name] = _Block(a + row, total, b + row * width + column, width)
            row += rank

    def hauls(self, layer: int, name: str, part: Part) -> tuple[Haul, Haul]:
        """The ways of a's numbers and of b's. Both go along the long side of the tensor, a's inputs and b's outputs: along its
        rank, which is short, takes up to five times as long."""
        block, place = self._blocks[layer, name], self._places[name]
        rank, norm = part.a.shape[0], _ONE
        if place.site in ("qkv", "gate_up"):
            base = self._base[layer]
            norm = (base.attention_norm if place.site == "qkv" else base.mlp_norm)[np.newaxis]
        a = Haul(part.path, part.a, (rank, place.inputs), (place.inputs, 1), Strided(block.a, (1, block.a_row)), norm)
        interleaved, factor = arrangement(name, self._head_size)
        scale = np.array(part.scale * factor, np.float32)
        if not interleaved:
            target = Strided(block.b, (block.b_row, 1))
            return a, Haul(part.path, part.b, (rank, place.outputs), (1, rank), target, scale)
        size, half = self._head_size, self._head_size // 2  # the halves of each head become every other column
        shape, apart = (place.outputs // size, 2, rank, half), (size * rank, half * rank, 1, rank)
        return a, Haul(part.path, part.b, shape, apart, Strided(block.b, (size, 1, block.b_row, 2)), scale)


_ONE = np.ones((), np.float32)


def fused_bytes(layers: FusedLayers) -> int:
    return sum(f.a.nbytes + f.b.nbytes for layer in layers for site in layer.values() for f in site)
