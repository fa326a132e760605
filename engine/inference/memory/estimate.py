"""What a load will take, from a model's headers alone: weights, keys and values, adapters, scratch, and the process around them."""

from __future__ import annotations

from dataclasses import dataclass

from engine.contract.definitions import Backend, KvPrecision
from engine.inference.models.kinds import ModelKind, Shape

_REFERENCE_BYTES = 4  # the reference backend computes and keeps everything in float32
_PREFILL_TOKENS = 256  # tokens that one of its steps computes at most
_REFERENCE_PROCESS = 60_000_000  # an interpreter with numpy and tokenizers, measured
_CUDA_CONTEXT = 500_000_000  # context and cuBLAS workspace of one process on a device
_CHUNK_TOKENS = 2048  # exllamav2's prefill chunk
_KV_SHARE = {KvPrecision.fp16: 1.0, KvPrecision.q8: 0.53, KvPrecision.q6: 0.41, KvPrecision.q4: 0.28}
"""Bytes of a quantised cache over those of fp16, scales included (measured for exllamav2 0.3.2)."""
_ADAPTER_RANK = 16
_SERVER_PROCESS = 150_000_000


@dataclass(frozen=True, slots=True)
class Sizing:
    """How a model is to be run: everything besides its files that decides what it takes. Sizes in bytes."""

    slots: int
    context: int
    kv: KvPrecision = KvPrecision.fp16
    kv_bytes: int = 0
    adapter_slots: int = 20
    adapter_bytes: int = 500_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes on the device. `process` is what the process takes beside the model: interpreter, CUDA context."""

    weights: int = 0
    kv: int = 0
    adapters: int = 0
    scratch: int = 0
    process: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.adapters + self.scratch + self.process


def estimate(
    backend: Backend, kind: ModelKind, shape: Shape, parameters: int, weights_bytes: int, sizing: Sizing
) -> Estimate:
    """What one process takes. `weights_bytes` are those of the files. Never raises: what the files do not say counts nothing."""
    context = (
        min(sizing.context, shape.context) if shape.context and sizing.context else sizing.context or shape.context
    )
    if backend is Backend.reference:
        return _reference(shape, parameters, sizing, context)
    if backend is Backend.exllamav2:
        return _exllamav2(kind, shape, parameters, weights_bytes, sizing, context)
    kv = _kv_elements(shape) * context * max(1, sizing.slots) * 2
    return Estimate(weights=weights_bytes, kv=kv, scratch=weights_bytes // 20, process=_SERVER_PROCESS)


def _reference(shape: Shape, parameters: int, sizing: Sizing, context: int) -> Estimate:
    head_copy = shape.vocabulary * shape.hidden if _tied(shape, parameters) else 0
    key = shape.kv_heads * shape.head_size
    widest = max(shape.heads * shape.head_size + 2 * key, 2 * shape.intermediate, shape.hidden)
    scratch = _PREFILL_TOKENS * widest * 4 + shape.heads * _PREFILL_TOKENS * context * 2
    return Estimate(
        weights=(parameters + head_copy) * _REFERENCE_BYTES,
        kv=_kv_elements(shape) * context * sizing.slots * _REFERENCE_BYTES,
        adapters=_adapters(shape, sizing, _REFERENCE_BYTES),
        scratch=scratch * _REFERENCE_BYTES,
        process=_REFERENCE_PROCESS,
    )


def _exllamav2(
    kind: ModelKind, shape: Shape, parameters: int, weights_bytes: int, sizing: Sizing, context: int
) -> Estimate:
    # Plain weights of any precision are cast to fp16; quantised ones lie on the device as in the file.
    weights = parameters * 2 if kind is ModelKind.plain else weights_bytes
    kv = sizing.kv_bytes or int(_kv_elements(shape) * context * max(1, sizing.slots) * 2 * _KV_SHARE[sizing.kv])
    widest = max(shape.hidden * 4, shape.intermediate * 3, shape.vocabulary // 8)
    return Estimate(
        weights=weights,
        kv=kv,
        adapters=_adapters(shape, sizing, 2),
        scratch=_CHUNK_TOKENS * widest * 2 + shape.vocabulary * 64 * 4,
        process=_CUDA_CONTEXT,
    )


def _kv_elements(shape: Shape) -> int:
    """Numbers that one token's keys and values are, over all layers."""
    return 2 * shape.layers * shape.kv_heads * shape.head_size


def _body(shape: Shape) -> int:
    """Parameters of the layers, without embeddings and head."""
    query, key = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    attention = shape.hidden * (2 * query + 2 * key)
    return shape.layers * (attention + 3 * shape.hidden * shape.intermediate)


def _tied(shape: Shape, parameters: int) -> bool:
    """Whether head and embeddings are one matrix: then it is counted once in the file."""
    return parameters - _body(shape) < 1.5 * shape.vocabulary * shape.hidden


def _adapters(shape: Shape, sizing: Sizing, element: int) -> int:
    """What the adapter cache may come to hold: as many adapters of a usual size (rank 16, every projection) as it has slots for."""
    query, key = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    ends = 2 * (shape.hidden + query) + 2 * (shape.hidden + key) + 3 * (shape.hidden + shape.intermediate)
    one = shape.layers * ends * _ADAPTER_RANK * element
    return min(sizing.adapter_bytes, one * sizing.adapter_slots)
