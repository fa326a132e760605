"""Who and what acts on the world from outside: clients, operators, and bad luck."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from engine.scheduling import inputs
from engine.scheduling.inputs import ClassKey
from engine.scheduling.simulation.disk import Row
from engine.scheduling.simulation.journal import Op
from engine.scheduling.simulation.world import World

_AGING_MS = 10_000


class Clients:
    """Submit until as many tasks as planned are acknowledged. `acked` are promises: none of these may be lost."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._next_seq = 1
        self._flying = 0
        self.acked: list[int] = []
        plan = world.plan
        self._burst = world.rng.choice((1, 5, 50))
        self._gap_ms = plan.period_ms * self._burst / plan.tasks
        world.later(0, self._submit, any_life=True)

    def engine_died(self) -> None:
        self._flying = 0

    def _submit(self, _: None) -> None:
        world = self._world
        missing = world.plan.tasks - len(self.acked) - self._flying
        if world.scheduler is not None and world.storage_ok:
            for _turn in range(min(missing, world.rng.randint(1, 2 * self._burst))):
                self._send(self._draw(world.rng))
        if missing or self._flying:
            gap_ms = self._gap_ms if world.stormy else min(1.0, self._gap_ms)
            world.later(world.rng.expovariate(1 / gap_ms), self._submit, any_life=True)

    def _draw(self, rng: random.Random) -> Row:
        world = self._world
        plan, now_ms = world.plan, world.now.wall_ms
        seq = self._next_seq
        self._next_seq += 1
        horizon_ms = min(60_000.0, plan.period_ms / 4)
        due_ms = None if rng.random() < 0.9 else now_ms + 1 + int(rng.random() * horizon_ms)
        deadline_ms = now_ms + int(rng.expovariate(1 / horizon_ms)) if rng.random() < 0.1 else None
        priority = rng.choice((0, 0, 0, 0, 5, 9))
        return Row(
            seq,
            ClassKey(rng.choice(plan.queues).name, rng.choice(plan.tenants), rng.choice(plan.criteria)),
            rank=(due_ms or now_ms) - priority * _AGING_MS,
            due_ms=due_ms,
            deadline_ms=deadline_ms,
            max_attempts=None if rng.random() < 0.9 else rng.randint(1, 5),
            on_crash="retry" if rng.random() < 0.98 else "dead-letter",
            after=self._after(rng),
            adapters=self._adapters(rng),
        )

    def _adapters(self, rng: random.Random) -> tuple[str, ...] | None:
        """What a task asks for: what its pool has most of the time, else none or some, the first ones most often (Zipf)."""
        names = self._world.plan.adapters
        if not names or rng.random() < 0.3:
            return None
        weights = [1 / (place + 1) for place in range(len(names))]
        count = rng.choice((0, 1, 1, 1, 2))
        return tuple(dict.fromkeys(rng.choices(names, weights, k=count)))

    def _after(self, rng: random.Random) -> tuple[int, ...]:
        """What a new task waits for: nothing, or some of the last tasks that are acknowledged."""
        if not self.acked or rng.random() >= self._world.plan.after:
            return ()
        return tuple({rng.choice(self.acked[-20:]) for _ in range(rng.choice((1, 1, 2)))})

    def _send(self, row: Row) -> None:
        self._flying += 1
        world = self._world
        world.journal.write(Op(lambda: world.disk.insert(row), lambda _: self._acked(row), self._refused))

    def _refused(self) -> None:
        self._flying -= 1

    def _acked(self, row: Row) -> None:
        self._flying -= 1
        self.acked.append(row.seq)
        if row.blocked:
            self._world.control.follow(row.seq)
            return
        if row.due_ms is None:
            self._world.checks.ready(row)
        self._world.feed(inputs.TaskSubmitted(row.ref()))


class Storm:
    """Operators and faults, each at its own rate, until the calm."""

    def __init__(self, world: World, clients: Clients) -> None:
        self._world = world
        self._clients = clients
        faults = world.plan.faults
        for rate, what in (
            (faults.engine_dies, self._kill_engine),
            (faults.model_dies, world.processes.kill_one),
            (faults.storage_fails, self._fail_storage),
            (faults.clock_jumps, self._jump_clock),
            (faults.cancels, self._cancel_some),
            (faults.operators, self._operate),
        ):
            if rate:
                self._again((rate, what))

    def _again(self, what: tuple[float, Callable[[], None]]) -> None:
        self._world.later(self._world.rng.expovariate(what[0]) * 1000, self._strike, what, any_life=True)

    def _strike(self, what: tuple[float, Callable[[], None]]) -> None:
        if self._world.stormy:
            if self._world.scheduler is not None:
                what[1]()
            self._again(what)

    def calm(self) -> None:
        """Faults stop and everything is as planned again."""
        world = self._world
        plan = world.plan
        world.stormy = False
        world.jump_clock(-world.wall_offset_ms)
        if world.scheduler is None:
            world.queues = {queue.name: queue for queue in plan.queues}
            world.pools = {pool.name: pool for pool in plan.pools}
            world.definitions = {definition.name: definition for definition in plan.definitions}
            world.max_instances = plan.max_instances
            world.checks.specs_changed()
            world.boot()
            return
        self._recover_storage(None)
        world.dispatch = True
        world.feed(inputs.DispatchEnabled(True))
        world.processes.calm()
        for queue in plan.queues:
            self._set(queue)
        for pool in plan.pools:
            self._set(pool)
        for definition in plan.definitions:
            self._define(definition)
        for name in list(world.outsiders):
            self._spawn_outside(name, 0)
        self._limit(plan.max_instances)

    # -- bad luck ----------------------------------------------------------------------------------------------------

    def _kill_engine(self) -> None:
        if self._world.rng.random() < 0.5:
            self._die(None)
        else:
            self._world.at_next_start = self._die

    def _die(self, _: None) -> None:
        world = self._world
        world.die()
        self._clients.engine_died()
        world.later(world.rng.expovariate(1 / 200.0), self._boot)

    def _boot(self, _: None) -> None:
        if self._world.scheduler is None:
            self._world.boot()

    def _fail_storage(self) -> None:
        world = self._world
        if world.storage_ok:
            world.storage_ok = False
            world.feed(inputs.StorageFailed())
            world.later(world.rng.expovariate(1 / 300.0), self._recover_storage)

    def _recover_storage(self, _: None) -> None:
        world = self._world
        if not world.storage_ok:
            world.storage_ok = True
            world.feed(inputs.StorageRecovered())
            held, world.held = world.held, []
            for op in held:
                world.journal.write(op)

    def _jump_clock(self) -> None:
        world = self._world
        world.jump_clock(world.rng.choice((-86_400_000, -3_600_000, -2_000, 500, 2_000, 3_600_000, 86_400_000)))

    # -- people ------------------------------------------------------------------------------------------------------

    def _cancel_some(self) -> None:
        """One, a few, a storm of them, or everything that runs."""
        world = self._world
        acked = self._clients.acked
        if acked:
            count = world.rng.choice((1, 5, 100, 0))
            for seq in [world.rng.choice(acked) for _ in range(count)] or list(world.runs):
                world.control.cancel(seq)

    def _operate(self) -> None:
        self._world.rng.choice(
            (
                self._pause_queue,
                self._change_queue,
                self._change_pool,
                self._remove_pool,
                self._switch_dispatch,
                self._retire_one,
                self._hurry_one,
                self._world.processes.talk,
                self._change_definition,
                self._change_limits,
                self._direct,
            )
        )()

    def _set(self, spec: inputs.QueueChanged | inputs.PoolChanged) -> None:
        world = self._world
        if isinstance(spec, inputs.QueueChanged):
            world.queues[spec.name] = spec
        else:
            world.pools[spec.name] = spec
        world.checks.specs_changed()
        world.feed(spec)

    def _pause_queue(self) -> None:
        queue = self._world.rng.choice(list(self._world.queues.values()))
        self._set(msgspec.structs.replace(queue, paused=not queue.paused))

    def _change_queue(self) -> None:
        rng = self._world.rng
        queue = rng.choice(list(self._world.queues.values()))
        retry = inputs.RetryPolicy(max_attempts=rng.randint(1, 5), delay_ms=rng.choice((0, 100)), max_delay_ms=20_000)
        self._set(msgspec.structs.replace(queue, retry=retry))

    def _change_pool(self) -> None:
        rng = self._world.rng
        planned = rng.choice(self._world.plan.pools)
        pool = self._world.pools.get(planned.name, planned)
        self._set(
            rng.choice(
                (
                    planned,
                    msgspec.structs.replace(pool, paused=not pool.paused),
                    msgspec.structs.replace(pool, max_total=rng.randint(1, planned.max_total)),
                    msgspec.structs.replace(pool, revision=str(rng.random())),
                    msgspec.structs.replace(pool, capabilities=frozenset()),
                    msgspec.structs.replace(pool, model=rng.choice([*self._world.plan.slots, None])),
                )
            )
        )

    def _remove_pool(self) -> None:
        world = self._world
        if world.pools:
            name = world.rng.choice(list(world.pools))
            del world.pools[name]
            world.checks.specs_changed()
            world.feed(inputs.PoolRemoved(name))
            planned = next(pool for pool in world.plan.pools if pool.name == name)
            world.later(world.rng.expovariate(1 / 300.0), self._restore_pool, planned, any_life=True)

    def _restore_pool(self, pool: inputs.PoolChanged) -> None:
        if pool.name not in self._world.pools:
            self._set(pool)

    def _switch_dispatch(self) -> None:
        world = self._world
        world.dispatch = not world.dispatch
        world.feed(inputs.DispatchEnabled(world.dispatch, "" if world.dispatch else "a new disk", not world.dispatch))

    def _define(self, definition: inputs.DefinitionChanged) -> None:
        self._world.definitions[definition.name] = definition
        self._world.feed(definition)

    def _change_definition(self) -> None:
        """Somebody switches a definition off or on, or changes its limits."""
        rng = self._world.rng
        if self._world.plan.definitions:
            planned = rng.choice(self._world.plan.definitions)
            now = self._world.definitions[planned.name]
            self._define(
                rng.choice(
                    (
                        planned,
                        msgspec.structs.replace(now, active=not now.active),
                        msgspec.structs.replace(now, max_instances=rng.randint(0, 3)),
                        msgspec.structs.replace(now, requests_per_minute=0),
                    )
                )
            )

    def _limit(self, max_instances: int) -> None:
        self._world.max_instances = max_instances
        self._world.feed(inputs.EngineLimits(max_instances))

    def _change_limits(self) -> None:
        self._limit(self._world.rng.choice((self._world.plan.max_instances, 0, 1, 4)))

    def _direct(self) -> None:
        """Somebody spawns an instance outside of pools, if that may be, or retires one."""
        world = self._world
        name = world.rng.choice([pool.definition for pool in world.plan.pools])
        count = world.outsiders.get(name, 0)
        assert world.scheduler is not None
        if count and world.rng.random() < 0.5:
            self._spawn_outside(name, count - 1)
        elif world.scheduler.spawn_refusal(name) is None:
            self._spawn_outside(name, count + 1)

    def _spawn_outside(self, name: str, count: int) -> None:
        more = count > self._world.outsiders.get(name, 0)
        self._world.outsiders[name] = count
        if more:
            self._world.checks.limits(name)
        self._world.feed(inputs.InstancesOutside(name, count))

    def _retire_one(self) -> None:
        world = self._world
        if world.instances:
            world.feed(inputs.RetireRequested(world.rng.choice(list(world.instances))))

    def _hurry_one(self) -> None:
        world = self._world
        if self._clients.acked:
            seq = world.rng.choice(self._clients.acked)
            world.hurried.add(seq)
            world.feed(inputs.RetryNow(seq))
