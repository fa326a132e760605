"""Which replica of a model a call goes to: each is given a score, and the best one wins.

The base model must match, which is why only replicas of one model are compared. Of these, the one that has most of the call's adapters is
best by far; then the one with the most room, then the one with the fewest requests beyond its slots, then the quickest."""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.scheduling.replicas import Model, Replica

ADAPTERS: Final = 100.0
LOAD: Final = 40.0
QUEUE: Final = 20.0
LATENCY: Final = 10.0
_LATENCY_MS: Final = 250.0
"""A replica this slow gets half of the points for latency."""


class Score(NamedTuple):
    """The points of a replica, by part; more is better."""

    adapters: float
    load: float
    queue: float
    latency: float

    @property
    def total(self) -> float:
        return self.adapters + self.load + self.queue + self.latency


def score(replica: Replica, adapters: tuple[str, ...]) -> Score:
    """What speaks for sending a call with these adapters to this replica."""
    taken, total, resident = replica.taken, replica.total, replica.resident
    here = sum(1 for name in adapters if name in resident) / len(adapters) if adapters else 1.0
    room = 1.0 / (1 + taken) if total is None else max(0.0, 1.0 - taken / total) if total else 0.0
    beyond = 0 if total is None else max(0, taken - total)
    return Score(
        adapters=ADAPTERS * here,
        load=LOAD * room,
        queue=QUEUE / (1 + beyond) if total != 0 else 0.0,
        latency=LATENCY * _LATENCY_MS / (_LATENCY_MS + replica.latency_ms),
    )


def choose(model: Model, adapters: tuple[str, ...] = (), *, free: bool = True) -> Replica | None:
    """The best replica of those with a free slot (or, with `free` False, of all that are ready, else of all); None if there is none."""
    replicas = model.replicas
    if len(replicas) == 1:
        only = next(iter(replicas.values()))
        return only if only.free != 0 or not free else None
    found = [one for one in replicas.values() if (one.free != 0 if free else not one.gone)]
    if not found:
        return None
    return max(found, key=lambda one: (one.total != 0, score(one, adapters).total))
