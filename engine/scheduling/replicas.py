"""Models and their replicas: the processes whose slots tasks need, and who holds those slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.scheduling.inputs import Now, ReplicaChanged

if TYPE_CHECKING:
    from engine.scheduling.pools import Pool


class Replica:
    """One process of a model. `reserved` counts the slots that tasks hold from StartTask to their end, `outside` those that others hold."""

    __slots__ = ("gone", "latency_ms", "model", "name", "outside", "reserved", "resident", "total")

    def __init__(self, name: str, model: Model) -> None:
        self.name = name
        self.model = model
        self.total: int | None = 0  # None: no limit; 0: not ready
        self.gone = False
        self.outside = 0
        self.reserved = 0
        self.resident: frozenset[str] = frozenset()  # by every name that means an adapter that is there
        self.latency_ms = 0.0  # to the first token, lately; 0: not known

    @property
    def taken(self) -> int:
        return self.reserved + self.outside

    @property
    def free(self) -> int | None:
        """Slots that a task could take now; None when there is no limit."""
        return None if self.total is None else max(0, self.total - self.outside - self.reserved)


class Model:
    """A model's replicas, and their slots added up. One that nobody told of has no limits: whoever knows of models speaks first."""

    __slots__ = ("free", "name", "pools", "replicas", "since_ms", "told")

    def __init__(self, name: str) -> None:
        self.name = name
        self.replicas: dict[str, Replica] = {}
        self.pools: list[Pool] = []
        self.told = False
        self.free: int | None = None  # slots that a task could take now; None when there is no limit
        self.since_ms: int | None = None  # since when no slot is free

    @property
    def total(self) -> int | None:
        """All slots, None when there is no limit."""
        if not self.told:
            return None
        totals = [replica.total for replica in self.replicas.values()]
        known = [total for total in totals if total is not None]
        return sum(known) if len(known) == len(totals) else None

    @property
    def taken(self) -> int:
        return sum(replica.taken for replica in self.replicas.values())

    @property
    def outside(self) -> int:
        return sum(replica.outside for replica in self.replicas.values())

    def changed(self, inp: ReplicaChanged, now: Now) -> None:
        replica = self.replicas.get(inp.replica)
        if replica is None:
            replica = self.replicas[inp.replica] = Replica(inp.replica, self)
        self.told = True
        replica.gone = False
        replica.total, replica.outside = inp.total, inp.outside
        replica.resident, replica.latency_ms = inp.resident, inp.latency_ms
        self._count(now)

    def gone(self, name: str, now: Now) -> None:
        """A replica is no more. While tasks that started on it have not ended it is remembered: one of the same name has their slots to
        keep, too."""
        replica = self.replicas.get(name)
        if replica is not None:
            replica.gone = True
            replica.total, replica.outside, replica.resident = 0, 0, frozenset()
            self._count(now)
            if not replica.reserved:
                del self.replicas[name]

    def take(self, replica: Replica, now: Now) -> None:
        """A task that starts holds a slot of this replica."""
        replica.reserved += 1
        self._count(now)

    def give(self, replica: Replica, now: Now) -> None:
        """It does no longer."""
        replica.reserved -= 1
        self._count(now)
        if replica.gone and not replica.reserved:
            del self.replicas[replica.name]

    def _count(self, now: Now) -> None:
        free = 0
        for replica in self.replicas.values():
            slots = replica.free
            if slots is None:
                self.free = self.since_ms = None
                return
            free += slots
        self.free = free
        if free:
            self.since_ms = None
        elif self.since_ms is None:
            self.since_ms = now.wall_ms
