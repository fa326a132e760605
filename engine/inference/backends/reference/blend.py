"""Adapters at work: every request of a batch with its own weighted set of them, in two products a projection.

The factors of all adapters in the batch stand side by side, so `x·A` computes every adapter for every token at once. A gate
then multiplies each token's part of each adapter by the weight that its request asked for, 0 if it did not ask, and `·B` adds
up what remains:    y += ((x·A) ∘ gate)·B

Rows without adapters get exactly zero. Which adapters stand side by side changes only when the batch's adapters change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from engine.inference.backends.reference.adapters import Factors, FusedLayers, Site
    from engine.inference.backends.reference.weights import FloatArray

AdapterWeights = tuple[tuple[str, float], ...]  # (digest, weight) of each adapter of one request


Term = tuple["FloatArray", "FloatArray", tuple[int, ...], slice]
"""Factors of some adapters side by side, the rank of each adapter of the stack in them, and the outputs to which they add."""


class Stack:
    """Some adapters side by side, by layer and fused projection."""

    def __init__(self, digests: tuple[str, ...], adapters: Mapping[str, FusedLayers]) -> None:
        self.digests = digests
        self.sites: list[dict[Site, list[Term]]] = []
        chosen = [adapters[digest] for digest in digests]
        for index in range(len(chosen[0])):
            sites = dict.fromkeys(site for adapter in chosen for site in adapter[index])
            self.sites.append({site: _terms([adapter[index].get(site, ()) for adapter in chosen]) for site in sites})


def _terms(parts: Sequence[tuple[Factors, ...]]) -> list[Term]:
    """What each adapter adds at one site, those that add to the same outputs together."""
    places: dict[tuple[int, int], dict[int, Factors]] = {}
    for adapter, factors in enumerate(parts):
        for it in factors:
            places.setdefault((it.start, it.b.shape[1]), {})[adapter] = it
    return [_side_by_side(found, len(parts), slice(start, start + width)) for (start, width), found in places.items()]


def _side_by_side(found: dict[int, Factors], count: int, outputs: slice) -> Term:
    widths = tuple(found[adapter].a.shape[1] if adapter in found else 0 for adapter in range(count))
    present = list(found.values())
    if len(present) == 1:
        return present[0].a, present[0].b, widths, outputs
    a, b = np.concatenate([p.a for p in present], axis=1), np.concatenate([p.b for p in present])
    return a, b, widths, outputs


class Blend:
    """The adapters of one step: a stack, and for every token the weight of every adapter in it."""

    def __init__(self, stack: Stack, weights: FloatArray) -> None:
        """`weights` is [tokens, adapters in the stack]."""
        self._stack = stack
        self._weights = weights
        self._everywhere_whole = bool((weights == 1).all())
        self._gates: dict[tuple[int, ...], FloatArray] = {}

    def add(self, layer: int, site: Site, x: FloatArray, y: FloatArray) -> None:
        """Add to y [tokens, outputs] what the adapters make of x [tokens, inputs]."""
        for a, b, widths, outputs in self._stack.sites[layer].get(site, ()):
            low = x @ a
            if not self._everywhere_whole:
                low *= self._gate(widths)
            part = y[:, outputs]
            part += low @ b

    def _gate(self, widths: tuple[int, ...]) -> FloatArray:
        gate = self._gates.get(widths)
        if gate is None:
            gate = self._gates[widths] = np.repeat(self._weights, widths, axis=1)
        return gate


class Blender:
    """Keeps the stack from step to step. It is rebuilt when a request brings an adapter that it lacks, or when it has grown to
    more than twice what the batch uses: idle adapters in it cost arithmetic, rebuilding costs copies."""

    def __init__(self, adapters: Mapping[str, FusedLayers]) -> None:
        self._adapters = adapters
        self._stack: Stack | None = None

    def forget(self, digest: str) -> None:
        if self._stack and digest in self._stack.digests:
            self._stack = None

    def blend(self, requests: Sequence[tuple[AdapterWeights, int]]) -> Blend | None:
        """The blend for a step whose tokens belong to these (adapters, token count), in order; None if none has any."""
        needed = tuple(sorted({digest for used, _ in requests for digest, _ in used}))
        if not needed:
            return None
        stack = self._stack
        if stack is None or not set(needed) <= set(stack.digests) or len(stack.digests) > 2 * len(needed):
            stack = self._stack = Stack(needed, self._adapters)
        column = {digest: index for index, digest in enumerate(stack.digests)}
        weights = np.zeros((len(requests), len(column)), np.float32)
        for row, (used, _) in enumerate(requests):
            for digest, weight in used:
                weights[row, column[digest]] += weight
        counts = [count for _, count in requests]
        return Blend(stack, weights if max(counts) == 1 else np.repeat(weights, counts, axis=0))
