"""Weights in the form the forward pass wants: float32, fused, and cut into tiles.

Four rearrangements at load make every later step cheaper:

*Fusing.* q, k and v read the same input, as do gate and up, so each group is one matrix and one multiplication.

*Interleaving.* A rotary embedding turns the pairs (i, i + size/2) of each head. With the two members of a pair side by side
a pair is one complex number, and the whole embedding one complex multiplication. Queries and keys are reordered alike, so
their dot products stay what they were.

*Folding.* What multiplies the input or output of a matrix always by the same numbers is multiplied into the matrix: the
weight of the norm before it, the 1/√size by which attention scales its queries, the half of g/2 in silu. A small model's
step is made of some hundred numpy calls that cost more than their arithmetic, so a call saved is time saved.

*Tiling.* A matrix is kept as tiles of 32 columns, each in one piece of memory, and a product is one numpy call over the tiles.
BLAS multiplies a few rows with a whole matrix by first copying ("packing") the matrix, which costs more than the product;
tiles are small enough that OpenBLAS goes without, and lie so that it reads memory straight through. Measured at 2 to 32 rows:
1.3 to 7 times faster than whole matrices, no slower at one row or at hundreds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engine.inference.backends.base import Progress, quietly

if TYPE_CHECKING:
    from engine.inference.backends.reference.config import ModelConfig
    from engine.inference.backends.reference.safetensors import TensorDirectory

FloatArray = npt.NDArray[np.float32]

TILE = 32
_ALIGNMENT = 16  # elements: a cache line


def padded(elements: int) -> int:
    """The elements that an array takes, if another one is to begin on a cache line of its own behind it."""
    return elements + -elements % _ALIGNMENT


class Arena:
    """One piece of memory for all matrices of a model, or of an adapter. numpy asks Linux for large pages from 4 MiB on, and a step that
    reads every weight once spends less time on finding its pages: measured 15 to 35 % a step against separate arrays. Filling it for
    the first time takes a quarter of the time. It is zero where nobody writes."""

    def __init__(self, elements: int, pieces: int) -> None:
        self._memory: FloatArray = np.zeros(elements + (pieces + 1) * _ALIGNMENT, np.float32)
        self._used = -(self._memory.ctypes.data // 4) % _ALIGNMENT

    def take(self, *shape: int) -> FloatArray:
        """A contiguous array of zeros."""
        start, size = self._used, math.prod(shape)
        self._used += padded(size)
        return self._memory[start : start + size].reshape(shape)

    def place(self, array: FloatArray) -> FloatArray:
        """A contiguous copy."""
        placed = self.take(*array.shape)
        placed[...] = array
        return placed


class Output:
    """A buffer that a `Linear` writes: `flat` is [rows, outputs], `tiles` the same numbers as [tiles, rows, 32], `rest` the
    columns that fill no tile."""

    __slots__ = ("flat", "rest", "tiles")

    def __init__(self, rows: int, outputs: int) -> None:
        tiles = outputs // TILE
        self.flat: FloatArray = np.empty((rows, outputs), np.float32)
        self.tiles = self.flat[:, : tiles * TILE].reshape(rows, tiles, TILE).transpose(1, 0, 2)
        self.rest = self.flat[:, tiles * TILE :]


class Linear:
    """y = x·Wᵀ + b."""

    __slots__ = ("_bias", "_rest", "_tiles", "inputs", "outputs")

    def __init__(self, weight: FloatArray, arena: Arena, bias: FloatArray | None = None) -> None:
        """`weight` is [outputs, inputs], as files hold it."""
        self.outputs, self.inputs = weight.shape
        tiles = self.outputs // TILE
        self._tiles = arena.place(weight[: tiles * TILE].reshape(tiles, TILE, self.inputs).transpose(0, 2, 1))
        self._rest = arena.place(weight[tiles * TILE :].T) if self.outputs % TILE else None
        self._bias = bias

    def __call__(self, x: FloatArray, out: Output) -> None:
        """x is [rows, inputs]."""
        np.matmul(x, self._tiles, out=out.tiles)
        if self._rest is not None:
            np.matmul(x, self._rest, out=out.rest)
        if self._bias is not None:
            out.flat += self._bias

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self._tiles, self._rest, self._bias) if part is not None)


@dataclass(frozen=True, slots=True)
class Layer:
    """`attention_norm` and `mlp_norm` are folded into `qkv` and `gate_up`; adapters need them once more."""

    attention_norm: FloatArray
    qkv: Linear
    output: Linear
    mlp_norm: FloatArray
    gate_up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class Weights:
    """`embedding` [vocabulary, hidden]; `nbytes` counts every array once."""

    embedding: FloatArray
    layers: tuple[Layer, ...]
    head: Linear
    nbytes: int


def interleave(rows: FloatArray, head_size: int) -> FloatArray:
    """Reorder the outputs (axis 0) of a q or k projection so that row i and row i + size/2 of each head are neighbours."""
    split = rows.reshape(-1, 2, head_size // 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


class _LayerReader:
    def __init__(self, tensors: TensorDirectory, config: ModelConfig, arena: Arena, index: int) -> None:
        self._tensors, self._config, self._arena, self._prefix = tensors, config, arena, f"model.layers.{index}."

    def norm(self, name: str) -> FloatArray:
        """A norm's weight, times √hidden: see `Model._norm` for where the rest of the mean is."""
        weight = self._tensors.read(f"{self._prefix}{name}.weight", (self._config.hidden,))
        return weight * np.float32(self._config.hidden**0.5)

    def _parts(self, names: tuple[str, ...], sizes: tuple[int, ...], inputs: int | None) -> list[FloatArray]:
        """The weights (or, without inputs, the biases) of some projections, arranged."""
        parts = []
        for name, size in zip(names, sizes, strict=True):
            kind, shape = ("bias", (size,)) if inputs is None else ("weight", (size, inputs))
            part = self._tensors.read(f"{self._prefix}{name}.{kind}", shape)
            arranged, factor = arrange(name, part, self._config.head_size)
            parts.append(arranged if factor == 1 else arranged * np.float32(factor))
        return parts

    def linear(
        self, names: tuple[str, ...], sizes: tuple[int, ...], inputs: int, *, bias: bool, norm: FloatArray | None = None
    ) -> Linear:
        weight = np.concatenate(self._parts(names, sizes, inputs))
        if norm is not None:
            weight *= norm
        return Linear(weight, self._arena, np.concatenate(self._parts(names, sizes, None)) if bias else None)


def arrange(name: str, rows: FloatArray, head_size: int) -> tuple[FloatArray, float]:
    """The outputs (axis 0) of a projection as the forward pass wants them, and by what they are still to be multiplied: q and k are
    interleaved, q and gate scaled."""
    interleaved, factor = arrangement(name, head_size)
    return interleave(rows, head_size) if interleaved else rows, factor


def arrangement(name: str, head_size: int) -> tuple[bool, float]:
    """Whether a projection's outputs are interleaved, and by what they are multiplied."""
    if name.endswith("gate_proj"):
        return False, 0.5
    if name.endswith("q_proj"):
        return True, head_size**-0.5
    return name.endswith("k_proj"), 1.0


def _read_layer(reader: _LayerReader, config: ModelConfig) -> Layer:
    hidden, query, key, wide = config.hidden, config.query_size, config.key_size, config.intermediate
    attention_norm, mlp_norm = reader.norm("input_layernorm"), reader.norm("post_attention_layernorm")
    qkv = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    gate_up = ("mlp.gate_proj", "mlp.up_proj")
    return Layer(
        attention_norm=attention_norm,
        qkv=reader.linear(qkv, (query, key, key), hidden, bias=config.qkv_bias, norm=attention_norm),
        output=reader.linear(("self_attn.o_proj",), (hidden,), query, bias=config.output_bias),
        mlp_norm=mlp_norm,
        gate_up=reader.linear(gate_up, (wide, wide), hidden, bias=config.mlp_bias, norm=mlp_norm),
        down=reader.linear(("mlp.down_proj",), (hidden,), wide, bias=config.mlp_bias),
    )


def _arena_for(config: ModelConfig) -> Arena:
    attention = 2 * config.hidden * (config.query_size + config.key_size)
    mlp = 3 * config.hidden * config.intermediate
    pieces = 2 * (4 * config.layers + 1)  # of each matrix its tiles and its rest
    return Arena(config.layers * (attention + mlp) + config.vocabulary * config.hidden, pieces)


def read_weights(tensors: TensorDirectory, config: ModelConfig, progress: Progress = quietly) -> Weights:
    """Read, convert and rearrange every weight. Raises model_invalid on a missing or misshapen tensor."""
    table = (config.vocabulary, config.hidden)
    embedding = np.ascontiguousarray(tensors.read("model.embed_tokens.weight", table))
    rows = embedding if config.tied_head else tensors.read("lm_head.weight", table)
    norm = tensors.read("model.norm.weight", (config.hidden,)) * np.float32(config.hidden**0.5)
    arena = _arena_for(config)
    head = Linear(rows * norm, arena)
    layers = []
    for index in range(config.layers):
        progress("reading the weights", index / config.layers)
        layers.append(_read_layer(_LayerReader(tensors, config, arena, index), config))
    nbytes = embedding.nbytes + head.nbytes
    for layer in layers:
        nbytes += layer.attention_norm.nbytes + layer.mlp_norm.nbytes
        nbytes += sum(linear.nbytes for linear in (layer.qkv, layer.output, layer.gate_up, layer.down))
    return Weights(embedding, tuple(layers), head, nbytes)
