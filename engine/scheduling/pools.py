"""Pools and their instances: who could run a task right now."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.scheduling.inputs import Key, PoolChanged, TaskRef
from engine.scheduling.lines import Line

if TYPE_CHECKING:
    from engine.scheduling.classes import ReadyClass
    from engine.scheduling.definitions import Definition
    from engine.scheduling.replicas import Model
    from engine.scheduling.task import Task


class Instance:
    """A live session of a pool's definition; runs at most one task."""

    __slots__ = ("born_ns", "definition", "id", "idle_ns", "pool", "retire", "served", "task")

    def __init__(self, identifier: str, pool: Pool, definition: Definition, mono_ns: int) -> None:
        self.id = identifier
        self.pool = pool
        self.definition = definition  # that it was made from; the pool's may be another one by now
        self.born_ns = mono_ns
        self.idle_ns = mono_ns  # since when it has no task
        self.task: Task | None = None
        self.retire: str | None = None  # why it takes no further task
        self.served = 0


class Pool:
    """The instances of one definition, and which classes of waiting tasks they could serve now, in a line for each queue."""

    __slots__ = (
        "definition",
        "failures",
        "held",
        "held_since_ms",
        "idle",
        "instances",
        "last_start",
        "leaving",
        "lines",
        "model",
        "name",
        "offered",
        "retry_ns",
        "spawning",
        "spec",
    )

    def __init__(self, spec: PoolChanged, definition: Definition) -> None:
        self.name = spec.name
        self.spec = spec
        self.definition = definition
        self.model: Model | None = None
        self.instances: dict[str, Instance] = {}  # the oldest first
        self.idle: dict[str, Instance] = {}  # the one that has rested longest first
        self.spawning: deque[Definition] = deque()  # of which definition the instances that are on their way will be
        self.leaving = 0  # instances that take no further task
        self.failures = 0  # spawns in a row that came to nothing
        self.retry_ns = 0  # no spawn before this monotonic time
        self.lines: dict[str, Line] = {}
        self.offered: dict[ReadyClass, None] = {}
        self.held: str | None = None  # the gate that keeps its waiting tasks from starting
        self.held_since_ms = 0
        self.last_start = 0  # the number of its last start, over all pools

    @property
    def starting(self) -> int:
        """Instances that are on their way."""
        return len(self.spawning)

    @property
    def total(self) -> int:
        """Instances that exist or are on their way, also those that are being retired."""
        return len(self.instances) + len(self.spawning)

    @property
    def busy(self) -> int:
        return sum(1 for instance in self.instances.values() if instance.task is not None)

    @property
    def spare(self) -> int:
        """Idle instances above the minimum."""
        return len(self.idle) - self.spec.min_idle

    def adapters_of(self, ref: TaskRef) -> tuple[str, ...]:
        """The adapters that a task will use here."""
        return self.spec.adapters if ref.adapters is None else ref.adapters

    def offer(self, cls: ReadyClass, rank: int, seq: int) -> None:
        """This class's first task is now (rank, seq)."""
        self.offered[cls] = None
        line = self.lines.get(cls.key.queue)
        if line is None:
            line = self.lines[cls.key.queue] = Line()
        line.offer(cls, rank, seq)

    def withdraw(self, cls: ReadyClass) -> None:
        """This class has nothing to start, or not here."""
        if cls in self.offered:
            del self.offered[cls]
            self.lines[cls.key.queue].withdraw(cls)

    def first(self) -> Key | None:
        """The smallest (rank, seq) of all that is on offer."""
        return min((key for line in self.lines.values() if (key := line.first()) is not None), default=None)

    def best(self) -> ReadyClass | None:
        """The class whose first task is next: of the queue with the smallest (rank, seq), the tenant whose turn it is."""
        lines = self.lines
        if len(lines) == 1:
            return next(iter(lines.values())).next()
        best, least = None, None
        for line in lines.values():
            key = line.first()
            if key is not None and (least is None or key < least):
                best, least = line, key
        return None if best is None else best.next()

    def heads(self) -> Iterator[tuple[Key, ReadyClass]]:
        """Of each line the smallest (rank, seq) and the class that is next."""
        for line in self.lines.values():
            key = line.first()
            cls = None if key is None else line.next()
            if key is not None and cls is not None:
                yield key, cls

    def waiting(self, enough: int) -> int:
        """How many tasks wait for this pool, counted up to `enough` at most, class by class."""
        count = 0
        for cls in self.offered:
            count += len(cls.window)
            if count >= enough:
                return enough
        return count
