"""The gates between waiting and running. The dispatcher asks them whether to start, `explain` asks the very same why not.

A gate answers None when it is open, else its name."""

from __future__ import annotations

from typing import Final

from engine.scheduling.definitions import Definition
from engine.scheduling.inputs import Criteria, DispatchEnabled, PoolChanged, QueueChanged
from engine.scheduling.pools import Pool
from engine.scheduling.quotas import Quotas

DISPATCH: Final = "dispatch"
STORAGE: Final = "storage"
MAINTENANCE: Final = "maintenance"
NO_QUEUE: Final = "no queue"
PAUSED: Final = "paused"
DUE: Final = "due"
BACKOFF: Final = "backoff"
AFTER: Final = "after"
NO_WORKER: Final = "no worker"
POOL_PAUSED: Final = "pool paused"
INACTIVE: Final = "not active"
RATE: Final = "rate"
MODEL: Final = "model"
SLOTS: Final = "slots"
POOL_MAX: Final = "pool max"
DEFINITION_MAX: Final = "definition max"
ENGINE_MAX: Final = "engine max"
SPAWN: Final = "spawn backoff"
STARTING: Final = "starting"
INSTANCE: Final = "instance"
TURN: Final = "turn"


def engine_gate(storage_ok: bool, dispatch: DispatchEnabled) -> str | None:
    """May anything start at all?"""
    if not storage_ok:
        return STORAGE
    if dispatch.enabled:
        return None
    return MAINTENANCE if dispatch.maintenance else DISPATCH


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
    definition = pool.definition
    if not definition.active:
        return INACTIVE
    if definition.full is not None:
        return RATE
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


def spawn_gate(pool: Pool, quotas: Quotas, mono_ns: int) -> str | None:
    """May this pool have another instance?"""
    if pool.total >= pool.spec.max_total:
        return POOL_MAX
    if not pool.definition.active:
        return INACTIVE
    if mono_ns < pool.retry_ns:
        return SPAWN
    return limits_gate(pool.definition, quotas)


def limits_gate(definition: Definition, quotas: Quotas) -> str | None:
    """Do the definition and the engine allow another instance, in a pool or outside of all?"""
    if definition.max_instances and definition.total >= definition.max_instances:
        return DEFINITION_MAX
    if quotas.max_instances and quotas.total >= quotas.max_instances:
        return ENGINE_MAX
    return None


def held_gate(pool: Pool, quotas: Quotas, mono_ns: int) -> str | None:
    """The gate that an operator should hear about when tasks wait for this pool: the first closed one."""
    closed = pool_gate(pool)
    if closed != INSTANCE:
        return closed
    return STARTING if pool.starting else spawn_gate(pool, quotas, mono_ns) or STARTING
