"""Which replica of a model a call goes to: each is given points, and the one with the most wins.

The base model must match, which is why only replicas of one model are compared. Of these, the one that has most of the call's adapters is
best by far; then the one with the most room, then the one with the fewest requests beyond its slots, then the quickest."""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.scheduling.replicas import Model, Replica

ADAPTERS: Final = 100.0
LOAD: Final = 20.0
QUEUE: Final = 8.0
LATENCY: Final = 4.0
_LATENCY_MS: Final = 250.0
"""A replica that takes this long to the first token gets half of the points for latency."""


class Score(NamedTuple):
    """The points of a replica, by part; more is better. An adapter that is on its way counts half."""

    adapters: float
    load: float
    queue: float
    latency: float

    @property
    def total(self) -> float:
        return self.adapters + self.load + self.queue + self.latency


def score(replica: Replica, adapters: tuple[str, ...]) -> Score:
    """What speaks for sending a call with these adapters to this replica."""
    taken, total = replica.taken, replica.total
    if total is None:
        room, beyond = 1.0 / (1 + taken), 0
    else:
        room, beyond = (max(0.0, 1.0 - taken / total) if total else 0.0), max(0, taken - total)
    return Score(
        adapters=ADAPTERS * _share(replica, adapters) if adapters else ADAPTERS,
        load=LOAD * room,
        queue=QUEUE / (1 + beyond),
        latency=LATENCY * _LATENCY_MS / (_LATENCY_MS + replica.latency_ms),
    )


def choose(model: Model, adapters: tuple[str, ...] = (), *, free: bool = True) -> Replica | None:
    """The best replica of those with a free slot, or with `free` False of all, ready ones first; None if there is none."""
    replicas = model.replicas
    if len(replicas) == 1:
        only = next(iter(replicas.values()))
        return only if (only.free != 0 if free else not only.gone) else None
    found = [one for one in replicas.values() if (one.free != 0 if free else not one.gone)]
    if len(found) < 2:
        return found[0] if found else None
    return max(found, key=lambda one: (one.total != 0, score(one, adapters).total))


def ranked(model: Model, adapters: tuple[str, ...]) -> list[tuple[Replica, Score]]:
    """All replicas with their scores, the best first; those that are not ready last."""
    scored = [(one, score(one, adapters)) for one in model.replicas.values() if not one.gone]
    return sorted(scored, key=lambda pair: (pair[0].total == 0, -pair[1].total))


def _share(replica: Replica, adapters: tuple[str, ...]) -> float:
    here = 0.0
    for name in adapters:
        if name in replica.resident:
            here += 1.0
        elif name in replica.coming:
            here += 0.5
    return here / len(adapters)
