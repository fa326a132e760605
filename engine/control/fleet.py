"""Pools and models in deed: spawning and retiring instances as the scheduler decides, and telling it what became of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from engine.contract.definitions import PoolDefinition, QueueDefinition
from engine.contract.errors import AiwmError
from engine.control.catalogue import Catalogue, digest
from engine.control.dispatcher import Dispatcher
from engine.control.instances import Instances
from engine.ports import EventSink
from engine.scheduling.decisions import ParkClass, RetireInstance, SpawnInstance, UnparkClass
from engine.scheduling.inputs import (
    InstanceGone,
    InstanceReady,
    PoolChanged,
    QueueChanged,
    RetryPolicy,
    SlotsChanged,
    SpawnFailed,
)

_log = logging.getLogger(__name__)


class ModelKeeper(Protocol):
    """What the fleet asks of inference."""

    def publish(self, model: str) -> None:
        """Say through the slots what the model has, or will have once it is needed."""

    def ensure(self, model: str) -> None:
        """Load the model if it is not."""


class Fleet:
    """Performs SpawnInstance and RetireInstance; tells the scheduler of queues, pools and slots."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        catalogue: Catalogue,
        instances: Instances,
        models: ModelKeeper,
        events: EventSink,
        changed: Callable[[], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._catalogue = catalogue
        self._instances = instances
        self._models = models
        self._events = events
        self._changed = changed
        dispatcher.performs(SpawnInstance, self._spawn)
        dispatcher.performs(RetireInstance, self._retire)
        dispatcher.performs(ParkClass, self._parked)
        dispatcher.performs(UnparkClass, lambda _: None)

    def announce_all(self) -> None:
        """Tell the scheduler of everything in the catalogue, once at the start."""
        for pool in self._catalogue.pools.values():
            try:
                self.announce_pool(pool)
            except AiwmError as error:
                # The rest of the house works without it; its queue says that nobody serves it.
                self._events.emit("error", "pool.refused", pool.name, str(error))
        for queue in self._catalogue.queues.values():
            self.announce_queue(queue)

    def announce_pool(self, pool: PoolDefinition) -> None:
        worker = self._catalogue.worker(pool.definition)
        if worker.model:
            self._models.publish(worker.model)
        self._dispatcher.feed(
            PoolChanged(
                pool.name,
                pool.definition,
                frozenset(worker.capabilities),
                pool.min_idle,
                pool.max_total,
                model=worker.model or None,
                revision=digest(worker),
            )
        )
        self._changed()

    def announce_queue(self, queue: QueueDefinition) -> None:
        retry = queue.retry
        policy = RetryPolicy(retry.max_retries + 1, retry.delay_ms, retry.backoff, retry.max_delay_ms, retry.jitter)
        self._dispatcher.feed(QueueChanged(queue.name, queue.pools, queue.paused, False, policy, queue.max_length))
        self._changed()

    def slots(self, model: str, total: int) -> None:
        """A model serves this many requests at once now (0: it is not ready)."""
        self._dispatcher.feed(SlotsChanged(model, total))

    def _spawn(self, decision: SpawnInstance) -> None:
        pool = self._catalogue.pools.get(decision.pool)
        if pool is None:
            self._dispatcher.feed(SpawnFailed(decision.pool, "the pool is gone"))
            return
        try:
            worker = self._catalogue.worker(pool.definition)
            instance = self._instances.spawn(pool.name, worker)
        except AiwmError as error:
            self._events.emit("error", "pool.spawn_failed", pool.name, str(error), who="scheduler")
            self._dispatcher.feed(SpawnFailed(pool.name, str(error)))
            return
        if worker.model:
            self._models.ensure(worker.model)
        self._events.emit("info", "pool.scaled", pool.name, f"+ {instance.id}: {decision.reason}", who="scheduler")
        self._dispatcher.feed(InstanceReady(instance.id, pool.name, revision=digest(worker)))
        self._changed()

    def _retire(self, decision: RetireInstance) -> None:
        instance = self._instances.retire(decision.id)
        if instance is not None:
            self._events.emit(
                "info", "pool.scaled", instance.pool, f"- {instance.id}: {decision.reason}", who="scheduler"
            )
        self._dispatcher.feed(InstanceGone(decision.id))
        self._changed()

    def _parked(self, decision: ParkClass) -> None:
        self._events.emit("warn", "queue.parked", decision.key.queue, decision.reason, who="scheduler")
