"""How an adapter's numbers get from its file into the arrays that the forward pass reads: stretches of the file, and for each the moves
of what lies in it. Tensors that are treated alike and lie equally far apart, as those of one projection in all layers do, are one move: a
call into numpy costs more than the numbers of a small tensor.

All of this follows from headers and shapes; what is done with it is the same for every adapter that has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.inference.backends.reference.safetensors import ITEM_BYTES, numbers

if TYPE_CHECKING:
    from engine.inference.adapter_files import AdapterFiles
    from engine.inference.backends.reference.safetensors import TensorInfo
    from engine.inference.backends.reference.weights import FloatArray

STRETCH = 1 << 20
"""Bytes of a file that are read at once, unless one tensor has more: they are in the processor's cache while they are looked at."""


@dataclass(frozen=True, slots=True)
class Strided:
    """Where numbers of an array are: the first, and how far apart they are along each axis, in elements."""

    first: int
    apart: tuple[int, ...]

    def of(self, array: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        """A view. numpy raises if anything of it were outside the array."""
        return np.ndarray(shape, np.float32, array, 4 * self.first, tuple(4 * each for each in self.apart))


@dataclass(frozen=True, slots=True)
class Haul:
    """One tensor's way: it is read as `shape`, numbers `apart` from its own begin on, multiplied by `factor` (which broadcasts) and put to
    `target`."""

    path: str
    tensor: TensorInfo
    shape: tuple[int, ...]
    apart: tuple[int, ...]
    target: Strided
    factor: FloatArray

    @property
    def kind(self) -> object:
        """What is equal for tensors that are treated alike: those of one projection's half in all layers."""
        name = self.path.rpartition(".")[2]
        return name, self.shape, self.apart, self.target.apart, self.factor.shape or self.factor.item()


@dataclass(frozen=True, slots=True)
class Move:
    """Tensors that move in one call; `source` is in the numbers of the stretch."""

    shape: tuple[int, ...]
    source: Strided
    target: Strided
    factor: FloatArray


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the file, bytes `begin` to `end`, without gaps. `tensors` has the path of each, and where its numbers begin and end."""

    begin: int
    end: int
    dtype: str
    moves: tuple[Move, ...]
    tensors: tuple[tuple[str, int, int], ...]

    def read(self, files: AdapterFiles) -> FloatArray:
        """All of its numbers in one row, good until the next stretch is read. Raises adapter_invalid for a file that was cut."""
        return numbers(self.dtype, files.passing(self.begin, self.end))

    def lay_out(self, read: FloatArray, memory: FloatArray) -> None:
        for move in self.moves:
            np.multiply(move.source.of(read, move.shape), move.factor, out=move.target.of(memory, move.shape))


def stretches(hauls: Iterable[Haul]) -> tuple[Stretch, ...]:
    """The file's way, from its beginning to its end."""
    found: list[list[Haul]] = []
    for haul in sorted(hauls, key=lambda haul: haul.tensor.begin):
        if not (found and _goes_on(found[-1], haul.tensor)):
            found.append([])
        found[-1].append(haul)
    return tuple(map(_stretch, found))


def _goes_on(stretch: list[Haul], tensor: TensorInfo) -> bool:
    first, last = stretch[0].tensor, stretch[-1].tensor
    return tensor.begin == last.end and tensor.dtype == last.dtype and tensor.end - first.begin <= STRETCH


def _stretch(hauls: list[Haul]) -> Stretch:
    begin, dtype = hauls[0].tensor.begin, hauls[0].tensor.dtype
    size = ITEM_BYTES[dtype]
    alike: dict[object, list[tuple[int, Haul]]] = {}
    for haul in hauls:
        alike.setdefault(haul.kind, []).append(((haul.tensor.begin - begin) // size, haul))
    moves = tuple(_move(run) for same in alike.values() for run in _runs(same))
    ends = tuple((h.path, (h.tensor.begin - begin) // size, (h.tensor.end - begin) // size) for h in hauls)
    return Stretch(begin, hauls[-1].tensor.end, dtype, moves, ends)


def _runs(alike: list[tuple[int, Haul]]) -> list[list[tuple[int, Haul]]]:
    """Cut where the distance to the next changes, in the file or in memory."""
    runs: list[list[tuple[int, Haul]]] = []
    for one in alike:
        run = runs[-1] if runs else []
        if not run or (len(run) > 1 and _distance(run[-1], one) != _distance(run[0], run[1])):
            runs.append([one])
        else:
            run.append(one)
    return runs


def _distance(one: tuple[int, Haul], other: tuple[int, Haul]) -> tuple[int, int]:
    return other[0] - one[0], other[1].target.first - one[1].target.first


def _move(run: Sequence[tuple[int, Haul]]) -> Move:
    first, haul = run[0]
    source, target = _distance(run[0], run[1]) if len(run) > 1 else (0, 0)
    return Move(
        (len(run), *haul.shape),
        Strided(first, (source, *haul.apart)),
        Strided(haul.target.first, (target, *haul.target.apart)),
        np.stack([haul.factor for _, haul in run]) if haul.factor.shape else haul.factor,
    )
