"""Pools, their instances, and the models whose slots they need: who could run a task right now."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from engine.scheduling.inputs import PoolChanged

if TYPE_CHECKING:
    from engine.scheduling.classes import ReadyClass
    from engine.scheduling.task import Task


class Model:
    """A model's slots. `reserved` counts those that tasks hold from StartTask to their end, over all pools."""

    __slots__ = ("name", "outside", "pools", "reserved", "since_ms", "total")

    def __init__(self, name: str) -> None:
        self.name = name
        self.total: int | None = None
        self.outside = 0
        self.reserved = 0
        self.pools: list[Pool] = []
        self.since_ms: int | None = None  # since when no slot is free

    @property
    def free(self) -> int | None:
        """Slots that a task could take now; None when there is no limit."""
        return None if self.total is None else max(0, self.total - self.outside - self.reserved)


class Instance:
    """A live session of a pool's definition; runs at most one task."""

    __slots__ = ("id", "pool", "retire", "served", "task")

    def __init__(self, identifier: str, pool: Pool) -> None:
        self.id = identifier
        self.pool = pool
        self.task: Task | None = None
        self.retire: str | None = None  # why it takes no further task
        self.served = 0


class Pool:
    """The instances of one definition, and which classes of waiting tasks they could serve now.

    `heads` orders those classes by the (rank, seq) of their first task. A class is pushed again whenever its first task changes; entries
    that no longer say the truth are dropped when they come up."""

    __slots__ = (
        "failures",
        "heads",
        "held",
        "held_since_ms",
        "idle",
        "instances",
        "leaving",
        "model",
        "name",
        "offered",
        "retry_ns",
        "spec",
        "starting",
    )

    def __init__(self, spec: PoolChanged) -> None:
        self.name = spec.name
        self.spec = spec
        self.model: Model | None = None
        self.instances: dict[str, Instance] = {}
        self.idle: dict[str, Instance] = {}
        self.starting = 0
        self.leaving = 0  # instances that take no further task
        self.failures = 0  # spawns in a row that came to nothing
        self.retry_ns = 0  # no spawn before this monotonic time
        self.heads: list[tuple[int, int, ReadyClass]] = []
        self.offered: dict[ReadyClass, None] = {}
        self.held: str | None = None  # the gate that keeps its waiting tasks from starting
        self.held_since_ms = 0

    @property
    def total(self) -> int:
        """Instances that exist or are on their way, also those that are being retired."""
        return len(self.instances) + self.starting

    @property
    def busy(self) -> int:
        return sum(1 for instance in self.instances.values() if instance.task is not None)

    def offer(self, cls: ReadyClass, rank: int, seq: int) -> None:
        """This class's first task is now (rank, seq)."""
        self.offered[cls] = None
        heappush(self.heads, (rank, seq, cls))

    def best(self) -> ReadyClass | None:
        """The class with the smallest (rank, seq) among those on offer."""
        heads = self.heads
        if len(heads) > 64 + 4 * len(self.offered):
            self._compact()
            heads = self.heads
        while heads:
            _, seq, cls = heads[0]
            if cls in self.offered:
                first = cls.window.first()
                if first is not None and first[1] == seq:
                    return cls
            heappop(heads)
        return None

    def _compact(self) -> None:
        """A pool that shares its classes with a faster one collects entries of tasks that the other took."""
        heads = []
        for cls in self.offered:
            first = cls.window.first()
            if first is not None:
                heads.append((first[0], first[1], cls))
        heapify(heads)
        self.heads = heads

    def waiting(self, enough: int) -> int:
        """How many tasks wait for this pool, counted up to `enough` at most, class by class."""
        count = 0
        for cls in self.offered:
            count += len(cls.window)
            if count >= enough:
                return enough
        return count
