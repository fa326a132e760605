"""The pools with their instances, and the models: what the scheduler knows about who can work."""

from __future__ import annotations

from engine.scheduling import gates
from engine.scheduling.decisions import Decision, RetireInstance, SpawnInstance
from engine.scheduling.inputs import InstanceGone, InstanceReady, Now, PoolChanged, SlotsChanged
from engine.scheduling.pools import Instance, Model, Pool
from engine.scheduling.task import Task

_SPAWN_PAUSE_MS = 500
_SPAWN_PAUSE_MAX_MS = 30_000


class Fleet:
    """Pools by name, instances by id, models by name. `touched` collects the pools that something happened to since the last look."""

    def __init__(self) -> None:
        self.pools: dict[str, Pool] = {}
        self.removed: dict[str, Pool] = {}  # pools that are no more but whose instances are
        self.instances: dict[str, Instance] = {}
        self.models: dict[str, Model] = {}
        self.touched: dict[Pool, None] = {}
        self.resting: dict[Pool, None] = {}  # pools that pause after failed spawns

    def model(self, name: str) -> Model:
        model = self.models.get(name)
        if model is None:
            model = self.models[name] = Model(name)
        return model

    def pool_changed(self, inp: PoolChanged, out: list[Decision]) -> None:
        pool = self.pools.get(inp.name) or self.removed.pop(inp.name, None)
        if pool is None:
            pool = Pool(inp)
        self.pools[inp.name] = pool
        before, pool.spec = pool.spec, inp
        if (before.definition, before.revision) != (inp.definition, inp.revision):
            pool.failures = pool.retry_ns = 0
            for instance in list(pool.instances.values()):
                self._retire(instance, "its definition changed", out)
        if pool.model is not None:
            pool.model.pools.remove(pool)
            self._touch_model(pool.model)
        pool.model = None if inp.model is None else self.model(inp.model)
        if pool.model is not None:
            pool.model.pools.append(pool)
        for instance in list(pool.idle.values())[: max(0, pool.total - pool.leaving - inp.max_total)]:
            self._retire(instance, f"{inp.name} has at most {inp.max_total} instances now", out)
        self.touched[pool] = None

    def pool_removed(self, name: str, out: list[Decision]) -> None:
        pool = self.pools.pop(name, None)
        if pool is None:
            return
        for instance in list(pool.instances.values()):
            self._retire(instance, "its pool was removed", out)
        if pool.model is not None:
            pool.model.pools.remove(pool)
            pool.model = None
        if pool.total:
            pool.failures = pool.retry_ns = 0
            self.removed[name] = pool
        self.touched.pop(pool, None)
        self.resting.pop(pool, None)

    def slots_changed(self, inp: SlotsChanged, now: Now) -> None:
        model = self.model(inp.model)
        model.total, model.outside = inp.total, inp.outside
        self._note_slots(model, now)
        self._touch_model(model)

    def instance_ready(self, inp: InstanceReady, out: list[Decision]) -> None:
        if inp.id in self.instances:
            return
        pool = self.pools.get(inp.pool) or self.removed.get(inp.pool)
        if pool is None:
            out.append(RetireInstance(inp.id, "its pool was removed"))
            return
        if inp.answers_spawn and pool.starting:
            pool.starting -= 1
        instance = Instance(inp.id, pool)
        self.instances[inp.id] = pool.instances[inp.id] = pool.idle[inp.id] = instance
        if inp.pool not in self.pools:
            self._retire(instance, "its pool was removed", out)
        elif inp.revision is not None and inp.revision != pool.spec.revision:
            self._retire(instance, "its definition changed", out)
        else:
            self._retire_surplus(instance, out)
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
        if pool.name not in self.pools:
            if not pool.total:
                self.removed.pop(pool.name, None)
            return
        if inp.crashed and not instance.served:
            self._pause(pool, now)
        self.touched[pool] = None

    def spawn_failed(self, name: str, now: Now) -> None:
        pool = self.pools.get(name) or self.removed.get(name)
        if pool is None:
            return
        pool.starting = max(0, pool.starting - 1)
        if name in self.pools:
            self._pause(pool, now)
            self.touched[pool] = None
        elif not pool.total:
            del self.removed[name]

    def retire_requested(self, identifier: str, out: list[Decision]) -> None:
        instance = self.instances.get(identifier)
        if instance is not None:
            self._retire(instance, "asked by an operator", out)
            self._touch(instance.pool)

    def take(self, pool: Pool, task: Task, now: Now) -> Instance:
        """The idle instance that runs the task, and the slot it needs, are taken. The instance that rested last goes first: the others may
        retire."""
        _, instance = pool.idle.popitem()
        instance.task = task
        task.instance = instance
        model = pool.model
        if model is not None:
            task.model = model
            model.reserved += 1
            if model.total is not None:
                self._note_slots(model, now)
        return instance

    def release(self, task: Task, now: Now, out: list[Decision]) -> None:
        """The task runs no more: its instance and slot are free, or the instance leaves."""
        model = task.model
        if model is not None:
            task.model = None
            model.reserved -= 1
            if model.total is not None:
                self._note_slots(model, now)
                self._touch_model(model)
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
            pool.idle[instance.id] = instance
            self._retire_surplus(instance, out)
        self._touch(pool)

    def scale(self, pool: Pool, now: Now, out: list[Decision]) -> None:
        """Spawn what the pool lacks: for tasks that wait while nobody is idle, and to keep its minimum idle."""
        spec = pool.spec
        missing = spec.min_idle - len(pool.idle) - pool.starting
        demand = 0
        if pool.offered and not pool.idle:
            demand = pool.waiting(spec.max_total) - pool.starting
            free = None if pool.model is None else pool.model.free
            if free is not None:
                demand = min(demand, free - pool.starting)
        wanted = max(missing, demand)
        if wanted <= 0 or spec.paused or gates.spawn_gate(pool, now.mono_ns) is not None:
            return
        reason = f"{spec.min_idle} shall be idle" if missing >= demand else "tasks wait and nobody is idle"
        for _ in range(min(wanted, spec.max_total - pool.total)):
            pool.starting += 1
            out.append(SpawnInstance(pool.name, reason))

    def wake(self, now: Now) -> None:
        """Touch the pools whose pause after failed spawns is over."""
        for pool in [pool for pool in self.resting if pool.retry_ns <= now.mono_ns]:
            del self.resting[pool]
            self.touched[pool] = None

    def touch_all(self) -> None:
        self.touched.update(dict.fromkeys(self.pools.values()))

    def _retire_surplus(self, instance: Instance, out: list[Decision]) -> None:
        pool = instance.pool
        if pool.total - pool.leaving > pool.spec.max_total:
            self._retire(instance, f"{pool.name} has at most {pool.spec.max_total} instances", out)

    def _retire(self, instance: Instance, reason: str, out: list[Decision]) -> None:
        if instance.retire is not None:
            return
        instance.retire = reason
        instance.pool.leaving += 1
        if instance.pool.idle.pop(instance.id, None) is not None:
            out.append(RetireInstance(instance.id, reason))

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

    @staticmethod
    def _note_slots(model: Model, now: Now) -> None:
        if model.free != 0:
            model.since_ms = None
        elif model.since_ms is None:
            model.since_ms = now.wall_ms
