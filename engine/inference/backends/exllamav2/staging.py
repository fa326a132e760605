"""Adapters on their way: from files into one piece of host memory, and from there to the GPUs in one copy each.

exllamav2 loads an adapter tensor by tensor and waits for the whole device after each, hundreds of times; under load every wait lasts as
long as what the device has to do. Here all of an adapter lies in one pinned piece, already in the form and precision that is used, and
travels while steps run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from engine.contract.errors import AiwmError, Code
from engine.inference.backends.peft_files import PeftFiles, Projection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.inference.adapter_files import AdapterFiles

LARGEST_HALF = 65504.0
ALIGNMENT = 64  # numbers, 128 bytes: where kernels like a matrix to begin
RANKS = (
    8  # ranks are filled up with zeros to a multiple of this: a kernel of exllamav2's reads rows in pieces of 16 bytes
)


@dataclass(frozen=True, slots=True)
class Linear:
    """A projection of the loaded model. `outputs` are the model's, `width` those with exllamav2's padding."""

    module: Any
    inputs: int
    outputs: int
    width: int
    device: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where one factor lies in its piece: numbers `start` onwards."""

    path: str
    half: str  # A [inputs, rank] or B [rank, width], as they are multiplied
    start: int
    shape: tuple[int, int]

    @property
    def count(self) -> int:
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True, slots=True)
class Piece:
    """All factors of an adapter that belong on one device, in one tensor of 16-bit numbers."""

    device: str
    data: torch.Tensor
    places: tuple[Place, ...]

    def factors(self) -> dict[tuple[str, str], torch.Tensor]:
        """Views of the tensor by path and half."""
        return {
            (place.path, place.half): self.data[place.start : place.start + place.count].view(place.shape)
            for place in self.places
        }


def linears_of(model: Any) -> dict[str, Linear]:
    """Every projection of a loaded exllamav2 model that an adapter may change, by its path in the checkpoint."""
    from exllamav2.linear import ExLlamaV2Linear

    found = {}
    for key, module in model.modules_dict.items():
        if isinstance(module, ExLlamaV2Linear) and ".layers." in key:
            outputs = module.out_features - module.padding
            found[key] = Linear(module, module.in_features, outputs, module.out_features, str(module.device()))
    return found


def stage(adapter: AdapterFiles, linears: Mapping[str, Linear], backend: str) -> tuple[Piece, ...]:
    """Check, scale, cast and turn an adapter, by device. Raises adapter_invalid, adapter_unsupported."""
    sizes = {path: (linear.inputs, linear.outputs) for path, linear in linears.items()}
    files = PeftFiles(adapter, backend, sizes)
    by_device: dict[str, list[Projection]] = {}
    for projection in files.projections():
        by_device.setdefault(linears[projection.path].device, []).append(projection)
    return tuple(_piece(files, device, projections, linears) for device, projections in sorted(by_device.items()))


def _piece(files: PeftFiles, device: str, projections: list[Projection], linears: Mapping[str, Linear]) -> Piece:
    places, start = [], 0
    for projection in projections:
        rank, linear = -(-projection.a.shape[0] // RANKS) * RANKS, linears[projection.path]
        for half, shape in (("A", (linear.inputs, rank)), ("B", (rank, linear.width))):
            places.append(Place(projection.path, half, start, shape))
            start += -(-shape[0] * shape[1] // ALIGNMENT) * ALIGNMENT
    data = torch.zeros(start, dtype=torch.float16, pin_memory=device.startswith("cuda"))
    piece = Piece(device, data, tuple(places))
    factors = piece.factors()
    for projection in projections:
        scaled = projection.b * np.float32(projection.scale)
        if max(np.abs(projection.a).max(), np.abs(scaled).max()) > LARGEST_HALF:
            raise files.invalid(f"{projection.path} has numbers beyond {LARGEST_HALF:g}, the largest in 16 bits")
        outputs, rank = scaled.shape
        factors[projection.path, "A"][:, :rank].copy_(torch.from_numpy(np.array(projection.a)).T)
        factors[projection.path, "B"][:rank, :outputs].copy_(torch.from_numpy(scaled).T)
    return piece


def upload(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """Bring an adapter to its devices, on a stream of its own. It is there when this returns; steps go on meanwhile."""
    return tuple(_uploaded(piece) for piece in pieces)


def _uploaded(piece: Piece) -> Piece:
    if not piece.device.startswith("cuda"):
        return Piece(piece.device, piece.data.clone(), piece.places)
    stream = _streams.get(piece.device)
    if stream is None:
        stream = _streams[piece.device] = torch.cuda.Stream(piece.device)
    with torch.cuda.stream(stream):
        there = torch.empty(piece.data.shape, dtype=torch.float16, device=piece.device)
        there.copy_(piece.data, non_blocking=True)
    stream.record_event().synchronize()
    return Piece(piece.device, there, piece.places)


_streams: dict[str, Any] = {}  # by device; one each, as torch keeps freed memory for the stream that it was taken on


def hand_over(pieces: tuple[Piece, ...]) -> None:
    """Steps use these from now on: their memory may be taken again only when the steps' own stream is done with it."""
    for piece in pieces:
        if piece.data.is_cuda:
            piece.data.record_stream(torch.cuda.current_stream(piece.device))


def bytes_of(pieces: tuple[Piece, ...]) -> int:
    return sum(piece.data.nbytes for piece in pieces)


def refuse_architecture(architecture: str) -> AiwmError:
    """The error for an adapter of a model whose layers exllamav2 adds up in 32 bits: it applies no adapters there."""
    return AiwmError(
        Code.adapter_unsupported,
        f"exllamav2 applies no adapters to models of architecture {architecture}, which add up their layers in 32 bits",
        field="adapters",
        fix="use the model without adapters, or merge the adapter into its weights",
    )
