"""The gates between waiting and running. The dispatcher asks them whether to start, `explain` asks the very same why not.

A gate answers None when it is open, else its name."""

from __future__ import annotations

from typing import Final

from engine.scheduling.inputs import Criteria, PoolChanged, QueueChanged
from engine.scheduling.pools import Pool

DISPATCH: Final = "dispatch"
STORAGE: Final = "storage"
NO_QUEUE: Final = "no queue"
PAUSED: Final = "paused"
DUE: Final = "due"
BACKOFF: Final = "backoff"
NO_WORKER: Final = "no worker"
POOL_PAUSED: Final = "pool paused"
MODEL: Final = "model"
SLOTS: Final = "slots"
POOL_MAX: Final = "pool max"
SPAWN: Final = "spawn backoff"
STARTING: Final = "starting"
INSTANCE: Final = "instance"
TURN: Final = "turn"


def engine_gate(storage_ok: bool, dispatch: bool) -> str | None:
    """May anything start at all?"""
    if not storage_ok:
        return STORAGE
    return None if dispatch else DISPATCH


def queue_gate(queue: QueueChanged | None) -> str | None:
    """May tasks of this queue start?"""
    if queue is None:
        return NO_QUEUE
    return PAUSED if queue.paused else None


def serves(pool: PoolChanged, criteria: Criteria) -> bool:
    """Could an instance of this pool run tasks with these criteria?"""
    if criteria.definition is not None and criteria.definition != pool.definition:
        return False
    return criteria.capabilities <= pool.capabilities


def open_pool_gate(pool: Pool) -> str | None:
    """May tasks start on this pool, if it has an idle instance?"""
    if pool.spec.paused:
        return POOL_PAUSED
    model = pool.model
    if model is not None and model.free == 0:
        return SLOTS if model.total else MODEL
    return None


def pool_gate(pool: Pool) -> str | None:
    """May a task start on this pool now?"""
    closed = open_pool_gate(pool)
    if closed is None and not pool.idle:
        return INSTANCE
    return closed


def spawn_gate(pool: Pool, mono_ns: int) -> str | None:
    """May this pool have another instance?"""
    if pool.total >= pool.spec.max_total:
        return STARTING if pool.starting else POOL_MAX
    return SPAWN if mono_ns < pool.retry_ns else None


def held_gate(pool: Pool, mono_ns: int) -> str | None:
    """The gate that an operator should hear about when tasks wait for this pool: the first closed one."""
    closed = pool_gate(pool)
    if closed != INSTANCE:
        return closed
    return spawn_gate(pool, mono_ns) or STARTING
