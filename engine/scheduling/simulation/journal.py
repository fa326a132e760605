"""The world's journal: operations become commits, commits succeed or fail, and a killed engine never learns which."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.scheduling.simulation.world import World


class Op:
    """One operation of the journal: what it does to the disk (and whether it hit its row), and what control does once it is committed or
    has failed."""

    __slots__ = ("apply", "done", "failed")

    def __init__(
        self, apply: Callable[[], bool], done: Callable[[bool], None], failed: Callable[[], None] | None = None
    ) -> None:
        self.apply = apply
        self.done = done
        self.failed = failed


class Journal:
    """Group commit without a timer: while one batch is being committed the next one collects."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._batch: list[Op] = []
        self._flying: list[Op] = []

    def write(self, op: Op) -> None:
        self._batch.append(op)
        if not self._flying:
            self._fly()

    def die(self, last_one_lands: bool) -> None:
        """The engine is killed: the batch on its way is on disk whole or not at all, and nobody is told either way."""
        if last_one_lands:
            for op in self._flying:
                op.apply()
        self._batch, self._flying = [], []

    def _fly(self) -> None:
        world = self._world
        self._flying, self._batch = self._batch, []
        world.later(world.rng.expovariate(1 / world.plan.commit_ms), self._land)

    def _land(self, _: None) -> None:
        batch, self._flying = self._flying, []
        if self._world.storage_ok:
            hits = [op.apply() for op in batch]
            for op, hit in zip(batch, hits, strict=True):
                op.done(hit)
        else:
            batch += self._batch
            self._batch = []
            for op in batch:
                if op.failed is not None:
                    op.failed()
        if self._batch and not self._flying:
            self._fly()
