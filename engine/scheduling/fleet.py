"""The pools with their instances, and the models: what the scheduler knows about who can work."""

from __future__ import annotations

from engine.scheduling.ahead import Ahead
from engine.scheduling.decisions import Decision, RetireInstance
from engine.scheduling.definitions import Definition
from engine.scheduling.inputs import (
    DefinitionChanged,
    EngineLimits,
    InstanceGone,
    InstanceReady,
    InstancesOutside,
    Now,
    PoolChanged,
    ReplicaChanged,
    ReplicaGone,
)
from engine.scheduling.pools import Instance, Pool
from engine.scheduling.quotas import Quotas
from engine.scheduling.replicas import Model, Replica
from engine.scheduling.scaling import Scaling
from engine.scheduling.task import Task

_SPAWN_PAUSE_MS = 500
_SPAWN_PAUSE_MAX_MS = 30_000


class Fleet:
    """Pools by name, instances by id, models by name. `touched` collects the pools that something happened to since the last look."""

    def __init__(self, *, day_offset_ms: int = 0, look_ms: int = 1_000) -> None:
        self.pools: dict[str, Pool] = {}
        self.removed: dict[str, Pool] = {}  # pools that are no more but whose instances are
        self.instances: dict[str, Instance] = {}
        self.models: dict[str, Model] = {}
        self.touched: dict[Pool, None] = {}
        self.resting: dict[Pool, None] = {}  # pools that pause after failed spawns
        self._starts = 0
        self.quotas = Quotas(self.touched, day_offset_ms=day_offset_ms, look_ms=look_ms)
        self.scaling = Scaling(self.pools, self.touched, self.quotas)
        self.ahead = Ahead()

    def model(self, name: str) -> Model:
        model = self.models.get(name)
        if model is None:
            model = self.models[name] = Model(name)
        return model

    # -- pools, definitions and limits change ------------------------------------------------------------------------

    def pool_changed(self, inp: PoolChanged, out: list[Decision]) -> None:
        definition = self.quotas.of(inp.definition)
        pool = self.pools.get(inp.name) or self.removed.pop(inp.name, None)
        if pool is None:
            pool = Pool(inp, definition)
        else:
            self._unlink(pool)
        self.pools[inp.name] = pool
        before, pool.spec, pool.definition = pool.spec, inp, definition
        definition.pools.append(pool)
        if (before.definition, before.revision) != (inp.definition, inp.revision):
            pool.failures = pool.retry_ns = 0
            for instance in list(pool.instances.values()):
                self.scaling.retire(instance, "its definition changed", out)
        pool.model = None if inp.model is None else self.model(inp.model)
        if pool.model is not None:
            pool.model.pools.append(pool)
        if inp.adapters:
            self.ahead.adapters = True
        for instance in [one for one in pool.idle.values() if inp.max_tasks and one.served >= inp.max_tasks]:
            self.scaling.retire(instance, f"an instance of {inp.name} runs at most {inp.max_tasks} tasks now", out)
        for instance in list(pool.idle.values())[: max(0, pool.total - pool.leaving - inp.max_total)]:
            self.scaling.retire(instance, f"{inp.name} has at most {inp.max_total} instances now", out)
        self.touched[pool] = None

    def pool_removed(self, name: str, out: list[Decision]) -> None:
        pool = self.pools.pop(name, None)
        if pool is None:
            return
        for instance in list(pool.instances.values()):
            self.scaling.retire(instance, "its pool was removed", out)
        self._unlink(pool)
        if pool.total:
            pool.failures = pool.retry_ns = 0
            self.removed[name] = pool
        self.touched.pop(pool, None)
        self.resting.pop(pool, None)
        self.scaling.forget(pool)

    def definition_changed(self, inp: DefinitionChanged, now: Now, out: list[Decision], *, known: bool = True) -> None:
        definition = self.quotas.changed(inp, now, known=known)
        if not inp.active:
            why = "its definition is not active" if known else "its definition was removed"
            for pool in definition.pools:
                for instance in list(pool.instances.values()):
                    self.scaling.retire(instance, why, out)
        self.scaling.trim(out)
        self.scaling.room()

    def engine_limits(self, inp: EngineLimits, out: list[Decision]) -> None:
        self.quotas.max_instances = inp.max_instances
        self.scaling.trim(out)
        self.scaling.room()

    def instances_outside(self, inp: InstancesOutside, out: list[Decision]) -> None:
        if self.quotas.instances_outside(inp):
            self.scaling.room()
        else:
            self.scaling.trim(out)

    def replica_changed(self, inp: ReplicaChanged, now: Now) -> None:
        model = self.model(inp.model)
        model.changed(inp, now)
        self._touch_model(model)

    def replica_gone(self, inp: ReplicaGone, now: Now) -> None:
        model = self.models.get(inp.model)
        if model is not None:
            model.gone(inp.replica, now)
            self._touch_model(model)

    # -- instances come and go ---------------------------------------------------------------------------------------

    def instance_ready(self, inp: InstanceReady, now: Now, out: list[Decision]) -> None:
        if inp.id in self.instances:
            return
        pool = self.pools.get(inp.pool) or self.removed.get(inp.pool)
        if pool is None:
            out.append(RetireInstance(inp.id, "its pool was removed"))
            return
        if inp.answers_spawn and pool.spawning:
            definition = pool.spawning.popleft()
        else:
            definition = pool.definition
            self.quotas.added(definition)
        instance = Instance(inp.id, pool, definition, now.mono_ns)
        self.instances[inp.id] = pool.instances[inp.id] = pool.idle[inp.id] = instance
        if inp.pool not in self.pools:
            self.scaling.retire(instance, "its pool was removed", out)
        elif inp.revision is not None and inp.revision != pool.spec.revision:
            self.scaling.retire(instance, "its definition changed", out)
        else:
            self.scaling.check(instance, now, out)
        self._touch(pool)

    def instance_gone(self, inp: InstanceGone, now: Now) -> None:
        instance = self.instances.pop(inp.id, None)
        if instance is None:
            return
        pool = instance.pool
        del pool.instances[inp.id]
        pool.idle.pop(inp.id, None)
        if instance.retire is not None:
            pool.leaving -= 1
        if instance.task is not None:
            instance.task.instance = None
        self._left(pool, instance.definition, leaving=instance.retire is not None)
        if inp.crashed and not instance.served and pool.name in self.pools:
            self._pause(pool, now)

    def spawn_failed(self, name: str, now: Now) -> None:
        pool = self.pools.get(name) or self.removed.get(name)
        if pool is None:
            return
        if pool.spawning:
            self._left(pool, pool.spawning.popleft())
        if name in self.pools:
            self._pause(pool, now)
            self.touched[pool] = None

    def retire_requested(self, identifier: str, out: list[Decision]) -> None:
        instance = self.instances.get(identifier)
        if instance is not None:
            self.scaling.retire(instance, "asked by an operator", out)
            self._touch(instance.pool)

    # -- tasks come and go -------------------------------------------------------------------------------------------

    def take(self, pool: Pool, task: Task, replica: Replica | None, now: Now) -> Instance:
        """The idle instance that runs the task, and a slot of the replica, are taken. The instance that rested last goes first: the others
        may retire."""
        _, instance = pool.idle.popitem()
        instance.task = task
        task.instance = instance
        self._starts += 1
        pool.last_start = self._starts
        if replica is not None:
            task.replica = replica
            task.began_ns = now.mono_ns
            replica.model.take(replica, pool.adapters_of(task.ref), now)
        if pool.definition.budget.limited:
            self.quotas.started(pool.definition, task, now)
        return instance

    def release(self, task: Task, now: Now, out: list[Decision]) -> None:
        """The task runs no more: its instance and slot are free, or the instance leaves."""
        replica = task.replica
        if replica is not None:
            task.replica = None
            model = replica.model
            model.give(replica, task.began_ns, now)
            if model.free is not None:
                self._touch_model(model)
        if task.definition is not None:
            self.quotas.ended(task.definition, task, now)
        instance = task.instance
        if instance is None:
            return
        task.instance = None
        instance.task = None
        instance.served += 1
        pool = instance.pool
        pool.failures = 0
        if instance.retire is not None:
            out.append(RetireInstance(instance.id, instance.retire))
        else:
            instance.idle_ns = now.mono_ns
            pool.idle[instance.id] = instance
            self.scaling.check(instance, now, out)
        self._touch(pool)

    # -- time --------------------------------------------------------------------------------------------------------

    def wake(self, now: Now, out: list[Decision]) -> None:
        """What the time alone changes: pauses after failed spawns end, windows open, instances have rested or lived long enough."""
        for pool in [pool for pool in self.resting if pool.retry_ns <= now.mono_ns]:
            del self.resting[pool]
            self.touched[pool] = None
        self.quotas.wake(now)
        self.scaling.wake(now, out)
        self.ahead.wake(now, out)

    def next_ns(self) -> int | None:
        """The monotonic time of the next `wake`."""
        next_ns = self.quotas.timers.next_ns()
        for at in (self.scaling.timers.next_ns(), self.ahead.timers.next_ns()):
            if at is not None and (next_ns is None or at < next_ns):
                next_ns = at
        for pool in self.resting:
            if next_ns is None or pool.retry_ns < next_ns:
                next_ns = pool.retry_ns
        return next_ns

    def touch_all(self) -> None:
        self.touched.update(dict.fromkeys(self.pools.values()))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _left(self, pool: Pool, definition: Definition, *, leaving: bool = False) -> None:
        """A pool has one instance less, or one less on its way."""
        self.quotas.gone(definition, leaving=leaving)
        if pool.name in self.pools:
            self.touched[pool] = None
        elif not pool.total:
            self.removed.pop(pool.name, None)
        self.scaling.room()

    def _unlink(self, pool: Pool) -> None:
        if pool in pool.definition.pools:
            pool.definition.pools.remove(pool)
        if pool.model is not None:
            pool.model.pools.remove(pool)
            self._touch_model(pool.model)
            pool.model = None

    def _pause(self, pool: Pool, now: Now) -> None:
        pool.failures += 1
        pause_ms = min(_SPAWN_PAUSE_MAX_MS, _SPAWN_PAUSE_MS << min(pool.failures - 1, 10))
        pool.retry_ns = now.mono_ns + pause_ms * 1_000_000
        self.resting[pool] = None

    def _touch(self, pool: Pool) -> None:
        # A removed pool has instances until their tasks end, and starts nothing.
        if pool.name in self.pools:
            self.touched[pool] = None

    def _touch_model(self, model: Model) -> None:
        self.touched.update(dict.fromkeys(model.pools))
