"""Who is in the batch, in which row of the cache, and what each does in the next step.

Requests are of two sorts: those that write, in rows 0 … n-1, and those whose prompts are still being read, in the rows after
them. Prompts are read in order of arrival and in stretches, so that a long one delays the others' next token only a little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.inference.backends.reference.model import Batch, Chunk

if TYPE_CHECKING:
    from engine.inference.backends.reference.blend import AdapterWeights
    from engine.inference.backends.reference.cache import KVCache
    from engine.inference.backends.reference.running import Running

# Prompt tokens a step may read while others write: what some 0.1 s of arithmetic allows, within bounds.
CHUNK_WORK = 3_000_000_000
SMALLEST_CHUNK, LARGEST_CHUNK = 16, 256
ALONE_FACTOR = 4  # when nobody writes, a step may take longer


@dataclass(frozen=True, slots=True)
class Turn:
    """One step's work. `sampled` get a token from it, in the order of `batch.wanted`; those of them in `ready` their first."""

    batch: Batch
    writing: tuple[Running, ...]
    reading: tuple[tuple[Running, Chunk], ...]
    ready: tuple[Running, ...]

    @property
    def sampled(self) -> tuple[Running, ...]:
        return self.writing + self.ready

    def shares(self) -> list[tuple[AdapterWeights, int]]:
        """Whose the batch's tokens are, in order: (adapters, token count)."""
        return [(running.adapters, 1) for running in self.writing] + [
            (running.adapters, chunk.length) for running, chunk in self.reading
        ]


class Roster:
    """Keeps the rows of the writers without gaps; see `cache.KVCache` for why."""

    def __init__(self, cache: KVCache, parameters: int) -> None:
        self.cache = cache
        self._chunk = max(SMALLEST_CHUNK, min(LARGEST_CHUNK, CHUNK_WORK // (2 * parameters)))
        self._writing: list[Running] = []  # the n-th is in row n
        self._reading: list[Running] = []  # in order of arrival, in any of the rows after the writers

    def __len__(self) -> int:
        return len(self._writing) + len(self._reading)

    def everyone(self) -> list[Running]:
        return [*self._writing, *self._reading]

    def add(self, running: Running) -> None:
        """A newcomer, in the row after all others."""
        self._reading.append(running)

    def next_turn(self) -> Turn:
        reading = self._stretches()
        writing = tuple(self._writing)
        tokens = [running.newest for running in writing]
        positions = [running.length for running in writing]
        rows = list(range(len(writing)))
        wanted = list(range(len(writing)))
        ready = []
        for running, chunk in reading:
            end = chunk.start + chunk.length
            tokens += running.prepared.tokens[chunk.start : end]
            positions += range(chunk.start, end)
            rows += [chunk.row] * chunk.length
            if chunk.length == running.unread:
                wanted.append(chunk.first + chunk.length - 1)
                ready.append(running)
        batch = Batch(
            np.array(tokens, np.intp),
            np.array(rows, np.intp),
            np.array(positions, np.intp),
            len(writing),
            tuple(chunk for _, chunk in reading),
            np.array(wanted, np.intp),
        )
        return Turn(batch, writing, tuple(reading), tuple(ready))

    def _stretches(self) -> list[tuple[Running, Chunk]]:
        """What the next step reads of the prompts that wait."""
        budget = self._chunk if self._writing else self._chunk * ALONE_FACTOR
        first = len(self._writing)
        stretches = []
        for running in self._reading:
            length = min(running.unread, budget)
            if not length:
                break
            stretches.append((running, Chunk(running.row, first, running.length, length)))
            first += length
            budget -= length
        return stretches

    def done(self, turn: Turn) -> None:
        """The turn was computed: its tokens are in the cache, and who is ready begins to write."""
        for running in turn.writing:
            running.length += 1
        for running, chunk in turn.reading:
            running.length += chunk.length
        for running in turn.ready:
            self._promote(running)

    def _promote(self, running: Running) -> None:
        """Move to the row behind the writers, exchanging rows with whoever has it."""
        row = len(self._writing)
        for other in self._reading:
            if other.row == row and other is not running:
                self.cache.swap(row, running.row, max(other.length, running.length))
                other.row, running.row = running.row, row
        self._reading.remove(running)
        self._writing.append(running)

    def remove(self, leaving: Running) -> None:
        """Free a row and close the gap: the last writer moves into it, the last row's reader behind the writers."""
        gap = leaving.row
        if leaving in self._writing:
            last = self._writing[-1]
            self._move(last, gap)
            self._writing[gap] = last
            self._writing.pop()
            gap = len(self._writing)
        else:
            self._reading.remove(leaving)
        behind = max(self._reading, key=lambda running: running.row, default=None)
        if behind is not None and behind.row > gap:
            self._move(behind, gap)

    def _move(self, running: Running, row: int) -> None:
        if running.row != row:
            self.cache.move(running.row, row, running.length)
            running.row = row
