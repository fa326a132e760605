"""Adapters on the GPU: exllamav2 keeps their factors in the projections, by an object that stands for the adapter, and every pass over the
model names the objects that take part. An adapter at its own weight is one such object; at another weight it is a second one, which
shares A and has its own B, for as long as a lane uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from engine.inference.backends.exllamav2.staging import Linear, Piece, hand_over

Weights = tuple[tuple[str, float], ...]
"""(digest, weight) of the adapters that work together, in one order whoever names them; empty: the base model."""


class Lora:
    """What exllamav2 knows an adapter by. It may replace the head and the embeddings; ours do not."""

    __slots__ = ("embed_tokens", "lm_head", "size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self.embed_tokens = None
        self.lm_head = None
        self.size_bytes = size_bytes


class Loras:
    """The adapters of one loaded model. All methods belong to the stepper's thread, between two steps."""

    def __init__(self, model: Any, linears: Mapping[str, Linear]) -> None:
        self._model = model
        self._linears = linears
        self._quantised = bool(model.is_quant())
        self._attached: dict[str, tuple[Lora, dict[tuple[str, str], torch.Tensor]]] = {}
        self._scaled: list[Lora] = []

    def __contains__(self, digest: str) -> bool:
        return digest in self._attached

    @property
    def size_bytes(self) -> int:
        """What all adapters take, those at other weights too."""
        return sum(lora.size_bytes for lora, _ in self._attached.values()) + sum(
            lora.size_bytes for lora in self._scaled
        )

    def attach(self, digest: str, pieces: tuple[Piece, ...]) -> None:
        if digest in self._attached:
            return
        hand_over(pieces)
        factors: dict[tuple[str, str], torch.Tensor] = {}
        for piece in pieces:
            factors |= piece.factors()
        lora = Lora(sum(piece.data.nbytes for piece in pieces))
        self._attached[digest] = lora, factors
        self._insert(lora, factors)

    def detach(self, digest: str) -> int:
        """Remove every trace of an adapter; the bytes freed. No lane may use it."""
        lora, factors = self._attached.pop(digest, (None, {}))
        if lora is None:
            return 0
        self._remove(lora, {path for path, _ in factors})
        return lora.size_bytes

    def take(self, weights: Weights) -> list[Lora]:
        """The objects for a lane's passes; `give_back` them when it closes."""
        return [self._at(digest, weight) for digest, weight in weights]

    def give_back(self, loras: list[Lora]) -> None:
        for lora in loras:
            if lora in self._scaled:
                self._scaled.remove(lora)
                self._remove(lora, set(self._linears))

    def _at(self, digest: str, weight: float) -> Lora:
        lora, factors = self._attached[digest]
        if weight == 1.0:
            return lora
        with torch.inference_mode():
            scaled = {key: tensor * weight for key, tensor in factors.items() if key[1] == "B"}
        own = Lora(sum(tensor.nbytes for tensor in scaled.values()))
        self._scaled.append(own)
        self._insert(own, factors | scaled)
        return own

    def _insert(self, lora: Lora, factors: Mapping[tuple[str, str], torch.Tensor]) -> None:
        for (path, half), tensor in factors.items():
            self._tensors(path, half)[lora] = tensor
        self._tell()

    def _remove(self, lora: Lora, paths: set[str]) -> None:
        for path in paths:
            for half in ("A", "B"):
                self._tensors(path, half).pop(lora, None)
        self._tell()

    def _tensors(self, path: str, half: str) -> dict[Lora, torch.Tensor]:
        module = self._linears[path].module
        tensors: dict[Lora, torch.Tensor] = module.lora_a_tensors if half == "A" else module.lora_b_tensors
        return tensors

    def _tell(self) -> None:
        """Quantised layers keep tables of their own, in C++."""
        if self._quantised:
            self._model.update_loras()
