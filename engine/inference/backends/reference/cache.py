"""The key-value cache: what attention remembers of every token, one row a request.

    cache[layer, row, position] is [key heads then value heads, head size]

Rows 0 … n-1 always hold the n requests that are decoding. A step can then read them all as one slice; picking scattered rows
would copy the whole cache in every layer of every step. So when a request leaves, another row moves into its place: one copy
a request instead of one a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from engine.inference.backends.reference.config import ModelConfig
    from engine.inference.backends.reference.weights import FloatArray


def kv_bytes(config: ModelConfig, rows: int, context: int) -> int:
    """Bytes of a cache of this size."""
    return config.layers * rows * context * 2 * config.key_size * 4


class KVCache:
    """Memory is reserved at once and becomes real only where it is written: an unused slot costs nothing."""

    def __init__(self, config: ModelConfig, rows: int, context: int) -> None:
        self.rows, self.context = rows, context
        self.key_heads = config.kv_heads
        self.data: FloatArray = np.zeros(
            (config.layers, rows, context, 2 * config.kv_heads, config.head_size), np.float32
        )
        self.token_bytes = kv_bytes(config, 1, 1)

    def swap(self, first: int, second: int, positions: int) -> None:
        """Exchange two rows, of which at most `positions` tokens are in use."""
        if first != second:
            kept = self.data[:, first, :positions].copy()
            self.data[:, first, :positions] = self.data[:, second, :positions]
            self.data[:, second, :positions] = kept

    def move(self, source: int, target: int, positions: int) -> None:
        """Copy a row's first `positions` tokens over another row."""
        self.data[:, target, :positions] = self.data[:, source, :positions]
