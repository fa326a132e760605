"""From logits to a token: greedy, or by chance with a temperature and a nucleus (top-p).

Chance is one uniform number a token from a generator that belongs to the request alone, so that a seed gives the same text
whoever shares the batch. (Logits may differ in the last bit between batches of different size; a draw within that of the edge
between two tokens, about one in a million, can fall on the other side.)"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

from engine.contract.errors import AiwmError, Code

if TYPE_CHECKING:
    from engine.inference.backends.base import Sampling
    from engine.inference.backends.reference.weights import FloatArray


def allow(logits: FloatArray, mask: bytes) -> bool:
    """Leave of these logits [vocabulary] only those that a constraint's mask allows; False if it allows none of them."""
    bits = np.unpackbits(
        np.frombuffer(mask, np.uint8), count=len(logits), bitorder="little"
    )  # short masks: filled with 0
    np.copyto(logits, np.float32(-np.inf), where=bits == 0)
    return bool(bits.any())


def check_sampling(sampling: Sampling) -> None:
    """Raises bad_request that names the field and its bounds."""
    for field, value, low, high in (
        ("temperature", sampling.temperature, 0.0, 100.0),
        ("top_p", sampling.top_p, 0.0, 1.0),
    ):
        if not low <= value <= high:
            raise AiwmError(
                Code.bad_request, f"{field} must lie between {low:g} and {high:g}, it is {value!r}", field=field
            )
    if sampling.max_tokens < 1:
        raise AiwmError(
            Code.bad_request, f"max_tokens must be at least 1, it is {sampling.max_tokens}", field="max_tokens"
        )
    if any(not stop for stop in sampling.stop):
        raise AiwmError(Code.bad_request, "a stop string must not be empty", field="stop")


class Sampler:
    """Chooses the tokens of one request."""

    __slots__ = ("_random", "_temperature", "_top_p")

    def __init__(self, sampling: Sampling) -> None:
        self._temperature = sampling.temperature
        self._top_p = sampling.top_p
        self._random = random.Random(sampling.seed)

    @property
    def greedy(self) -> bool:
        return self._temperature == 0.0

    def choose(self, logits: FloatArray) -> int:
        """A token id for these logits [vocabulary]."""
        if self.greedy:
            return int(logits.argmax())
        scaled = logits.astype(np.float64)
        scaled -= scaled.max()
        scaled /= self._temperature
        chances = np.exp(scaled)
        chances /= chances.sum()
        draw = self._random.random()
        if self._top_p >= 1.0:
            index = int(np.searchsorted(np.cumsum(chances), draw, side="right"))
            return min(index, len(chances) - 1)
        order = np.argsort(-chances, kind="stable")
        reached = np.cumsum(chances[order])
        kept = (
            int(np.searchsorted(reached, self._top_p, side="left")) + 1
        )  # fewest tokens that reach top_p, at least one
        kept = min(kept, len(order))
        index = int(np.searchsorted(reached[:kept], draw * reached[kept - 1], side="right"))
        return int(order[min(index, kept - 1)])
