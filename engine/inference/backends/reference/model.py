"""The forward pass of a Llama: how a language model computes, in numpy.

Every token is a vector `x` of `hidden` numbers, looked up in the embedding table. Each layer adds two things to it: what
*attention* gathers from the tokens before it, and what the *MLP* makes of the token by itself. The head then compares the
result with every word of the vocabulary; the scores are the logits of the next token.

One call computes any mixture of work over one pass of the weights (`Batch`): one new token for each of several requests that
are writing (*decoding*), and stretches of prompts that are being read (*chunks*). Tokens of different requests meet only in
the matrix products, where each row minds its own business; attention is done per request."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engine.inference.backends.reference.weights import FloatArray, Layer, Output, Weights

if TYPE_CHECKING:
    from engine.inference.backends.reference.blend import Blend
    from engine.inference.backends.reference.cache import KVCache
    from engine.inference.backends.reference.config import ModelConfig

IntArray = npt.NDArray[np.intp]
ComplexArray = npt.NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of one prompt: tokens `first … first + length - 1` of the batch go to `row` from position `start` on."""

    row: int
    first: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The tokens of one step. The first `decoding` of them are the newest tokens of cache rows 0 … decoding-1; chunks follow.
    `wanted` are the indices of the tokens whose logits are asked for."""

    tokens: IntArray
    rows: IntArray
    positions: IntArray
    decoding: int
    chunks: tuple[Chunk, ...]
    wanted: IntArray


def rope_frequencies(config: ModelConfig) -> npt.NDArray[np.float64]:
    """How fast each pair of a head turns, in radians a position. Llama 3 slows down those that turn less than once in its
    original context, keeps the fast ones, and blends in between."""
    size = config.head_size
    frequencies = config.rope_theta ** -(np.arange(0, size, 2) / size)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    turns = scaling.original_context * frequencies / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    result: npt.NDArray[np.float64] = frequencies * (keep + (1.0 - keep) / scaling.factor)
    return result


class Workspace:
    """Buffers for a step of `tokens` tokens, and the views of them that every layer needs. Reused from step to step: fresh
    arrays would cost more than some of the arithmetic."""

    def __init__(self, config: ModelConfig, tokens: int) -> None:
        def empty(*shape: int) -> FloatArray:
            return np.empty(shape, np.float32)

        query, key, heads = config.query_size, config.key_size, config.heads + config.kv_heads
        self.x = empty(tokens, config.hidden)
        self.x_row, self.x_column = self.x[:, None, :], self.x[:, :, None]
        self.alone: FloatArray | None = self.x[0] if tokens == 1 else None
        self.square = empty(tokens, 1, 1)
        self.scale = self.square[:, 0]
        self.normed = empty(tokens, config.hidden)
        self.added = Output(tokens, config.hidden)
        self.qkv = Output(tokens, query + 2 * key)
        flat = self.qkv.flat
        self.rotated: ComplexArray = flat.view(np.complex64)[:, : (query + key) // 2].reshape(
            tokens, heads, config.head_size // 2
        )
        self.queries = flat[:, :query].reshape(tokens, config.kv_heads, -1, config.head_size)
        self.keys_values = flat[:, query:].reshape(tokens, 2 * config.kv_heads, config.head_size)
        self.attended = empty(tokens, query)
        self.gate_up = Output(tokens, 2 * config.intermediate)
        self.gate = self.gate_up.flat[:, : config.intermediate]
        self.up = self.gate_up.flat[:, config.intermediate :]
        self.active = empty(tokens, config.intermediate)


class Model:
    """Weights and the arithmetic on them; holds nothing of any request."""

    def __init__(self, config: ModelConfig, weights: Weights, context: int) -> None:
        self.config, self.weights = config, weights
        angles = np.outer(np.arange(context), rope_frequencies(config))
        self._turns: ComplexArray = np.exp(1j * angles).astype(np.complex64)[:, None, :]
        self._norm_epsilon = np.float32(config.norm_epsilon * config.hidden)
        self._one_logits = Output(1, config.vocabulary)
        self._workspaces: dict[int, Workspace] = {}

    def forward(self, batch: Batch, cache: KVCache, blend: Blend | None = None) -> FloatArray:
        """Logits [len(batch.wanted), vocabulary], valid until the next call; appends the batch's keys and values to the cache."""
        tokens = len(batch.tokens)
        space = self._workspace(tokens)
        space.x[:] = self.weights.embedding[batch.tokens]
        turns = self._turns[batch.positions]
        decoding = _Decoding(batch, cache) if batch.decoding else None
        # One token's place as plain numbers: picking by arrays costs several times as much.
        rows, positions = (batch.rows, batch.positions) if tokens > 1 else (int(batch.rows[0]), int(batch.positions[0]))
        for index, layer in enumerate(self.weights.layers):
            self._norm(space)
            layer.qkv(space.normed, space.qkv)
            if blend:
                blend.add(index, "qkv", space.normed, space.qkv.flat)
            space.rotated *= turns
            cache.data[index, rows, positions] = space.keys_values
            if decoding:
                decoding.attend(index, space)
            for chunk in batch.chunks:
                self._attend_chunk(cache, index, chunk, space)
            layer.output(space.attended, space.added)
            if blend:
                blend.add(index, "output", space.attended, space.added.flat)
            space.x += space.added.flat
            self._mlp(index, layer, space, blend)
        self._norm(space)
        if tokens == len(batch.wanted) == 1:
            self.weights.head(space.normed, self._one_logits)
            return self._one_logits.flat
        logits = Output(len(batch.wanted), self.config.vocabulary)
        self.weights.head(space.normed[batch.wanted], logits)
        return logits.flat

    def _workspace(self, tokens: int) -> Workspace:
        """Steps of a few tokens come back again and again; long ones differ from each other and are not kept."""
        space = self._workspaces.get(tokens)
        if space is None:
            space = Workspace(self.config, tokens)
            if tokens <= 64:
                self._workspaces[tokens] = space
        return space

    def _norm(self, space: Workspace) -> None:
        """Root mean square normalisation, x / sqrt(mean(x²) + ε) · weight, as x / sqrt(sum(x²) + ε·hidden) here and the rest,
        √hidden · weight, folded into the matrix that comes next."""
        if space.alone is not None:  # one token's sum as a plain number: a third of the time
            np.divide(space.x, math.sqrt(space.alone.dot(space.alone) + self._norm_epsilon), out=space.normed)
            return
        scale = space.scale
        np.matmul(space.x_row, space.x_column, out=space.square)
        scale += self._norm_epsilon
        np.sqrt(scale, out=scale)
        np.divide(space.x, scale, out=space.normed)

    def _mlp(self, index: int, layer: Layer, space: Workspace, blend: Blend | None) -> None:
        """x += down(silu(gate) · up), where silu(g) = g·sigmoid(g) lets through what is positive, softly. It is computed as
        (g/2)·(1 + tanh(g/2)); the halves are folded into the gate's matrix."""
        self._norm(space)
        layer.gate_up(space.normed, space.gate_up)
        if blend:
            blend.add(index, "gate_up", space.normed, space.gate_up.flat)
        active = np.tanh(space.gate, out=space.active)
        active += 1
        active *= space.gate
        active *= space.up
        layer.down(active, space.added)
        if blend:
            blend.add(index, "down", active, space.added.flat)
        space.x += space.added.flat

    def _attend_chunk(self, cache: KVCache, layer: int, chunk: Chunk, space: Workspace) -> None:
        """Attention for a stretch of one prompt: every token looks at all before it and at itself, none ahead."""
        end = chunk.start + chunk.length
        heads = cache.key_heads
        row = cache.data[layer, chunk.row, :end]
        keys, values = row[:, :heads].transpose(1, 2, 0), row[:, heads:].transpose(1, 0, 2)
        here = slice(chunk.first, chunk.first + chunk.length)
        queries = space.queries[here].transpose(1, 2, 0, 3)  # [kv heads, queries a kv head, tokens, size]
        scores = queries @ keys[:, None]
        ahead = np.arange(end) > np.arange(chunk.start, end)[:, None]
        np.copyto(scores, np.float32(-np.inf), where=ahead)
        gathered = _softmax_times(scores, values[:, None])
        space.attended[here] = gathered.transpose(2, 0, 1, 3).reshape(chunk.length, -1)


def _softmax_times(scores: FloatArray, values: FloatArray) -> FloatArray:
    """softmax(scores)·values, overwriting scores. Dividing after the product divides fewer numbers."""
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    total = np.add.reduce(scores, axis=-1, keepdims=True)
    result: FloatArray = np.matmul(scores, values)
    result /= total
    return result


class _Decoding:
    """Attention of one new token each for rows 0 … n-1, of different lengths, as one batched product. What is the same in
    every layer (views of the cache, the mask of the ragged ends) is made once a step."""

    def __init__(self, batch: Batch, cache: KVCache) -> None:
        count = self._count = batch.decoding
        positions = batch.positions[:count]
        longest = int(positions.max()) + 1
        data = cache.data[:, :count, :longest]
        self._keys = data[:, :, :, : cache.key_heads].transpose(0, 1, 3, 4, 2)
        self._values = data[:, :, :, cache.key_heads :].transpose(0, 1, 3, 2, 4)
        self._mask: FloatArray | None = None
        if count > 1:
            beyond = np.arange(longest) > positions[:, None]
            if beyond.any():
                self._mask = np.where(beyond, np.float32(-np.inf), np.float32(0))[:, None, None, :]

    def attend(self, layer: int, space: Workspace) -> None:
        scores = np.matmul(space.queries[: self._count], self._keys[layer])
        if self._mask is not None:
            scores += self._mask
        gathered = _softmax_times(scores, self._values[layer])
        space.attended[: self._count] = gathered.reshape(self._count, -1)
