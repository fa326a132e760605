"""The world's instances and what they are working on."""

from __future__ import annotations

from engine.scheduling.inputs import PoolChanged


class Run:
    """One attempt in the hands of an instance. `ended`: its answer was given, or nobody waits for it any more."""

    __slots__ = ("attempt", "ended", "epoch", "instance", "pool", "refused", "seq")

    def __init__(self, seq: int, attempt: int, epoch: int, instance: Instance, pool: PoolChanged) -> None:
        self.seq = seq
        self.attempt = attempt
        self.epoch = epoch
        self.instance = instance
        self.pool = pool
        self.ended = False
        self.refused = False


class Instance:
    __slots__ = ("busy", "id", "leaving", "pool")

    def __init__(self, identifier: str, pool: str) -> None:
        self.id = identifier
        self.pool = pool
        self.busy: Run | None = None
        self.leaving = False
