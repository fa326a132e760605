"""Muon for the matrices inside the layers, AdamW for embeddings and norms.

Muon orthogonalises each matrix's momentum by a few Newton-Schulz steps. Matrices of one shape go through it as one batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.model import Weights

_A, _B, _C = 3.4445, -4.7750, 2.0315  # the usual quintic: fast rather than exact, singular values end within 0.7..1.2


def orthogonal(batch: Tensor, steps: int = 5) -> Tensor:
    """[n, rows, columns] to nearly orthogonal matrices of the same shape."""
    x = batch.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Optimizer:
    """Updates fp32 weights in place; gradients come as a dict of the same keys."""

    def __init__(self, weights: Weights, matrix_rate: float, other_rate: float, decay: float) -> None:
        self.weights, self.matrix_rate, self.decay = weights, matrix_rate, decay
        self.groups: dict[torch.Size, list[str]] = {}
        others = []
        for key, value in weights.items():
            if value.ndim == 2 and "layers" in key:
                self.groups.setdefault(value.shape, []).append(key)
            else:
                others.append(key)
        self.momentum = {shape: torch.zeros(len(keys), *shape) for shape, keys in self.groups.items()}
        self.others = others
        self.adam = torch.optim.AdamW(
            [weights[key] for key in others], lr=other_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )
        self.other_rate = other_rate

    def step(self, gradients: Weights, factor: float, beta: float) -> None:
        """One update; factor scales both rates (schedule), beta is Muon's momentum."""
        with torch.no_grad():
            self._adam_step(gradients, factor)
            self._muon_step(gradients, self.matrix_rate * factor, beta)

    def _adam_step(self, gradients: Weights, factor: float) -> None:
        for key in self.others:
            self.weights[key].grad = gradients[key]
        for group in self.adam.param_groups:
            group["lr"] = self.other_rate * factor
        self.adam.step()

    def _muon_step(self, gradients: Weights, rate: float, beta: float) -> None:
        for shape, keys in self.groups.items():
            fresh = torch.stack([gradients[key] for key in keys])
            momentum = self.momentum[shape].lerp_(fresh, 1 - beta)
            update = orthogonal(fresh.lerp(momentum, beta))
            scale = rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for key, delta in zip(keys, update, strict=True):
                self.weights[key].mul_(1 - rate * self.decay).add_(delta, alpha=-scale)
