"""The world's instances and what they are working on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.scheduling.inputs import PoolChanged

if TYPE_CHECKING:
    from engine.scheduling.simulation.calls import Call
    from engine.scheduling.simulation.processes import Process


class Run:
    """One attempt in the hands of an instance. `ended`: its answer was given, or nobody waits for it any more."""

    __slots__ = ("adapters", "attempt", "call", "ended", "epoch", "instance", "pool", "process", "refused", "seq")

    def __init__(self, seq: int, attempt: int, epoch: int, instance: Instance, pool: PoolChanged) -> None:
        self.seq = seq
        self.attempt = attempt
        self.epoch = epoch
        self.instance = instance
        self.pool = pool
        self.call: Call | None = None
        self.process: Process | None = None  # whose slot it holds
        self.adapters: tuple[str, ...] = ()
        self.ended = False
        self.refused = False


class Instance:
    __slots__ = ("busy", "definition", "id", "leaving", "pool", "served")

    def __init__(self, identifier: str, pool: str, definition: str) -> None:
        self.id = identifier
        self.pool = pool
        self.definition = definition
        self.served = 0
        self.busy: Run | None = None
        self.leaving = False
