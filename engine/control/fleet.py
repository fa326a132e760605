"""Pools and models in deed: spawning and retiring instances as the scheduler decides, and telling it of definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from engine.contract.definitions import DefinitionStatus, PoolDefinition, QueueDefinition, WorkerDefinition
from engine.contract.errors import AiwmError
from engine.contract.models import model_name
from engine.control import adapter_names
from engine.control.catalogue import Catalogue
from engine.control.definitions import Definitions, digest
from engine.control.dispatcher import Dispatcher
from engine.control.instances import Instances
from engine.control.scaling import Scaling
from engine.ports import EventSink
from engine.scheduling.decisions import (
    MoreReplicas,
    ParkClass,
    Prefetch,
    RetireInstance,
    SpawnInstance,
    UnparkClass,
)
from engine.scheduling.inputs import (
    DefinitionChanged,
    DefinitionRemoved,
    InstanceGone,
    InstanceReady,
    PoolChanged,
    PoolRemoved,
    QueueChanged,
    QueueRemoved,
    RetryPolicy,
    SpawnFailed,
)


class ModelKeeper(Protocol):
    """What the fleet asks of inference."""

    def check(self, model: str) -> None:
        """Raise model_not_found if there is no such model. Starts nothing."""

    def publish(self, model: str) -> None:
        """Say through the slots what the model has, or will have once it is needed."""

    def ensure(self, model: str) -> None:
        """Load the model if it is not."""

    def prefetch(self, model: str, replica: str, adapters: tuple[str, ...], first: bool) -> None:
        """Bring these adapters to a replica in the background. `first`: the next task in line needs them, so that others which nobody
        uses may leave for them. Raises nothing: whoever needs them hears what is wrong with them."""

    def grow(self, model: str) -> None:
        """Start another replica, if there may be one."""


class Fleet:
    """Performs SpawnInstance and RetireInstance; tells the scheduler of worker definitions, queues and pools."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        catalogue: Catalogue,
        instances: Instances,
        models: ModelKeeper,
        events: EventSink,
        scaling: Scaling,
        changed: Callable[[], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._catalogue = catalogue
        self._instances = instances
        self._models = models
        self._events = events
        self._scaling = scaling
        self._changed = changed
        # What the scheduler knows of each pool's definition. Between two announcements the catalogue is ahead of it: an instance of a
        # definition that it has not heard of would be retired at once and spawned again, for ever.
        self._announced: dict[str, WorkerDefinition] = {}
        dispatcher.performs(SpawnInstance, self._spawn)
        dispatcher.performs(RetireInstance, self._retire)
        dispatcher.performs(ParkClass, self._parked)
        dispatcher.performs(Prefetch, self._prefetch)
        dispatcher.performs(MoreReplicas, lambda decision: self._models.grow(decision.model))
        dispatcher.performs(UnparkClass, lambda _: None)

    def announce(self, before: Definitions, after: Definitions) -> None:
        """Tell the scheduler what is different now: first what is there, then what is not any more."""
        for name, worker in after.workers.items():
            if before.workers.get(name) != worker:
                self._announce_worker(worker)
        for name, pool in after.pools.items():
            changed = before.pools.get(name) != pool
            if changed or before.workers.get(pool.definition) != after.workers.get(pool.definition):
                self._announce_pool(pool, after.workers.get(pool.definition))
        for name, queue in after.queues.items():
            if before.queues.get(name) != queue:
                self._announce_queue(queue)
        for name in before.queues.keys() - after.queues.keys():
            self._dispatcher.feed(QueueRemoved(name))
        for name in before.pools.keys() - after.pools.keys():
            self._dispatcher.feed(PoolRemoved(name))
        for name in before.workers.keys() - after.workers.keys():
            self._dispatcher.feed(DefinitionRemoved(name))
        self._changed()

    def _announce_worker(self, worker: WorkerDefinition) -> None:
        limits = worker.limits
        self._dispatcher.feed(
            DefinitionChanged(
                worker.name,
                requests_per_minute=limits.requests_per_minute,
                tokens_per_minute=limits.tokens_per_minute,
                tokens_per_day=limits.tokens_per_day,
                max_instances=limits.max_instances,
                active=worker.status is DefinitionStatus.active,
            )
        )

    def _announce_pool(self, pool: PoolDefinition, worker: WorkerDefinition | None) -> None:
        if worker is None:
            # The rest of the house works without it; its queues say that nobody serves them.
            self._dispatcher.feed(PoolRemoved(pool.name))
            text = f'its worker definition "{pool.definition}" is not there'
            self._alarm(pool, "pool.refused", text)
            return
        if worker.model:
            self._check_model(pool, worker)
            self._models.publish(model_name(worker))
        self._announced[pool.name] = worker
        self._dispatcher.feed(
            PoolChanged(
                pool.name,
                pool.definition,
                frozenset(worker.capabilities),
                pool.min_idle,
                pool.max_total,
                model=model_name(worker) or None,
                revision=digest(worker),
                max_tasks=pool.retirement.max_tasks,
                max_age_ms=pool.retirement.max_age_ms,
                cooldown_ms=pool.cooldown_ms,
                adapters=adapter_names.of(worker),
            )
        )

    def _announce_queue(self, queue: QueueDefinition) -> None:
        retry = queue.retry
        policy = RetryPolicy(retry.max_retries + 1, retry.delay_ms, retry.backoff, retry.max_delay_ms, retry.jitter)
        self._dispatcher.feed(
            QueueChanged(
                queue.name,
                queue.pools,
                queue.paused,
                queue.draining,
                policy,
                queue.max_length,
                pause_reason=queue.pause_reason,
            )
        )

    def _check_model(self, pool: PoolDefinition, worker: WorkerDefinition) -> None:
        """Say at once that a model is not here, not only when its first task fails."""
        try:
            self._models.check(model_name(worker))
        except AiwmError as error:
            self._alarm(pool, "worker.model_missing", f"{worker.name}: {error}")

    def _alarm(self, pool: PoolDefinition, type_: str, text: str) -> None:
        """An error about a pool; about a mission-critical one it is an alert."""
        kind = "alert.pool" if pool.mission_critical else type_
        self._events.emit("error", kind, pool.name, text, who="scheduler")

    def _spawn(self, decision: SpawnInstance) -> None:
        pool = self._catalogue.pools.get(decision.pool)
        if pool is None:
            self._dispatcher.feed(SpawnFailed(decision.pool, "the pool is gone"))
            return
        try:
            worker = self._announced[pool.name]
            instance = self._instances.spawn(pool.name, worker)
        except AiwmError as error:
            self._alarm(pool, "pool.spawn_failed", str(error))
            self._scaling.step(pool.name, 0, "", f"{decision.reason}, but it failed: {error}")
            self._dispatcher.feed(SpawnFailed(pool.name, str(error)))
            return
        if worker.model:
            self._models.ensure(model_name(worker))
        self._scaling.step(pool.name, 1, instance.id, decision.reason)
        self._dispatcher.feed(InstanceReady(instance.id, pool.name, revision=digest(worker)))
        self._changed()

    def _retire(self, decision: RetireInstance) -> None:
        instance = self._instances.retire(decision.id, decision.reason)
        if instance is not None and instance.pool:
            self._scaling.step(instance.pool, -1, instance.id, decision.reason)
        self._dispatcher.feed(InstanceGone(decision.id))
        self._changed()

    def _parked(self, decision: ParkClass) -> None:
        self._events.emit("warn", "queue.parked", decision.key.queue, decision.reason, who="scheduler")

    def _prefetch(self, decision: Prefetch) -> None:
        self._models.prefetch(decision.model, decision.replica, decision.adapters, decision.first)
