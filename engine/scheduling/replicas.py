"""Models and their replicas: the processes whose slots tasks need, and who holds those slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.scheduling.inputs import Now, ReplicaChanged

if TYPE_CHECKING:
    from engine.scheduling.pools import Pool

_COMING = 64
"""Of so many adapters that were asked for it is remembered that they are on their way."""


class Replica:
    """One process of a model. `reserved` counts the slots that tasks hold from StartTask to their end, `outside` those that others hold."""

    __slots__ = (
        "coming",
        "gone",
        "latency_ms",
        "model",
        "name",
        "outside",
        "reserved",
        "resident",
        "total",
        "until_ms",
        "why",
    )

    def __init__(self, name: str, model: Model) -> None:
        self.name = name
        self.model = model
        self.total: int | None = 0  # None: no limit; 0: not ready
        self.gone = False
        self.outside = 0
        self.reserved = 0
        self.resident: frozenset[str] = frozenset()  # by every name that means an adapter that is there
        self.coming: dict[
            str, None
        ] = {}  # adapters that somebody needs there and that have not been seen there since, the latest last
        self.latency_ms = 0.0  # to the first token, lately; 0: not known
        self.why = ""  # what is wrong, while it is not ready
        self.until_ms: int | None = None  # when it is tried again

    @property
    def taken(self) -> int:
        return self.reserved + self.outside

    @property
    def free(self) -> int | None:
        """Slots that a task could take now; None when there is no limit."""
        return None if self.total is None else max(0, self.total - self.outside - self.reserved)

    def now_has(self, resident: frozenset[str]) -> None:
        """These adapters are there now. A process that is not ready has lost what was on its way, too."""
        if not self.total and self.total is not None:
            self.coming.clear()
        elif self.coming:
            self.coming = {name: None for name in self.coming if name not in resident}
        self.resident = resident

    def has(self, adapters: tuple[str, ...]) -> bool:
        """Whether all of these are there."""
        return self.resident.issuperset(adapters)

    def will_have(self, adapters: tuple[str, ...]) -> bool:
        """Whether all of these are there or on their way."""
        return all(name in self.resident or name in self.coming for name in adapters)

    def missing(self, adapters: tuple[str, ...]) -> tuple[str, ...]:
        """Those that are not there yet."""
        return tuple(name for name in adapters if name not in self.resident)

    def expect(self, adapters: tuple[str, ...]) -> None:
        """These adapters come there now, if they are not there."""
        for name in self.missing(adapters):
            self.coming[name] = None
            if len(self.coming) > _COMING:
                del self.coming[next(iter(self.coming))]


class Model:
    """A model's replicas, and their slots added up. One that nobody told of has no limits: whoever knows of models speaks first."""

    __slots__ = ("free", "name", "pools", "replicas", "short_ns", "since_ms", "told", "total", "work_ns")

    def __init__(self, name: str) -> None:
        self.name = name
        self.replicas: dict[str, Replica] = {}
        self.pools: list[Pool] = []
        self.told = False
        self.free: int | None = None  # slots that a task could take now; None when there is no limit
        self.total: int | None = None  # all slots; None when there is no limit
        self.since_ms: int | None = None  # since when no slot is free
        self.short_ns: int | None = None  # since when tasks have waited for a slot all the time
        self.work_ns = 0  # how long its tasks have taken lately, about

    @property
    def taken(self) -> int:
        return sum(replica.taken for replica in self.replicas.values())

    @property
    def outside(self) -> int:
        return sum(replica.outside for replica in self.replicas.values())

    @property
    def trouble(self) -> tuple[str, int | None]:
        """Of a model that is not ready: what is wrong with the replica that is tried again first, and when (Unix ms, None: not known)."""
        told = [(it.until_ms is None, it.until_ms or 0, it.why) for it in self.replicas.values() if it.why]
        unknown, until, why = min(told, default=(True, 0, ""))
        return why, None if unknown else until

    def changed(self, inp: ReplicaChanged, now: Now) -> None:
        replica = self.replicas.get(inp.replica)
        if replica is None:
            replica = self.replicas[inp.replica] = Replica(inp.replica, self)
        self.told = True
        replica.gone = False
        replica.total, replica.outside = inp.total, inp.outside
        replica.latency_ms = inp.latency_ms
        replica.why, replica.until_ms = inp.why, inp.until_ms
        replica.now_has(inp.resident)
        self._count(now)

    def gone(self, name: str, now: Now) -> None:
        """A replica is no more. While tasks that started on it have not ended it is remembered: one of the same name has their slots to
        keep, too."""
        replica = self.replicas.get(name)
        if replica is not None:
            replica.gone = True
            replica.total, replica.outside = 0, 0
            replica.now_has(frozenset())
            self._count(now)
            if not replica.reserved:
                del self.replicas[name]

    def take(self, replica: Replica, adapters: tuple[str, ...], now: Now) -> None:
        """A task that starts holds a slot of this replica, and its adapters come there."""
        replica.reserved += 1
        if adapters:
            replica.expect(adapters)
        self._count(now)

    def give(self, replica: Replica, began_ns: int, now: Now) -> None:
        """It does no longer."""
        replica.reserved -= 1
        took_ns = now.mono_ns - began_ns
        self.work_ns = self.work_ns + (took_ns - self.work_ns >> 3) if self.work_ns else took_ns
        self._count(now)
        if replica.gone and not replica.reserved:
            del self.replicas[replica.name]

    def _count(self, now: Now) -> None:
        free = total = 0
        for replica in self.replicas.values():
            slots = replica.total
            if slots is None:
                self.free = self.total = self.since_ms = None
                return
            total += slots
            free += replica.free or 0
        self.free, self.total = free, total
        if free:
            self.since_ms = None
        elif self.since_ms is None:
            self.since_ms = now.wall_ms
