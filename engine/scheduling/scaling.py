"""How many instances a pool has: more while tasks wait, fewer while they rest, and fresh ones for those that have served enough."""

from __future__ import annotations

from collections.abc import Iterator

from engine.scheduling import gates
from engine.scheduling.decisions import Decision, RetireInstance, SpawnInstance
from engine.scheduling.inputs import Now
from engine.scheduling.pools import Instance, Pool
from engine.scheduling.quotas import Quotas
from engine.scheduling.timers import Timers
from engine.scheduling.words import many, span

_MS = 1_000_000


class Scaling:
    """Spawns and retires. `pools` and `touched` are the fleet's.

    When the engine's or a definition's limit is reached, a pool with work gets the place of an instance that rests in another one. A pool
    with work and no instance at all gets the place of the next one to finish its task, so that nobody waits for others to run dry."""

    def __init__(self, pools: dict[str, Pool], touched: dict[Pool, None], quotas: Quotas) -> None:
        self.timers: Timers[Pool] = Timers()
        self._pools = pools
        self._touched = touched
        self._quotas = quotas
        self._short: dict[Pool, None] = {}  # pools that a limit over several pools keeps from spawning

    # -- more --------------------------------------------------------------------------------------------------------

    def order(self, pools: list[Pool]) -> None:
        """Who is served first when there is not room for all: work before rest, the fewest instances, the longest wait."""
        if self._short:
            pools.sort(key=lambda pool: (self._demand(pool) <= 0, pool.total - pool.leaving, pool.last_start))

    def scale(self, pool: Pool, now: Now, out: list[Decision]) -> None:
        """Spawn what the pool lacks: for tasks that wait while nobody is idle, and to keep its minimum idle."""
        spec = pool.spec
        missing = spec.min_idle - len(pool.idle) - pool.starting
        demand = self._demand(pool)
        self._short.pop(pool, None)
        wanted = max(missing, demand)
        if wanted > 0 and not spec.paused and gates.spawn_gate(pool, self._quotas, now.mono_ns) != gates.POOL_MAX:
            reason = self._reason(pool, missing, demand, now)
            while wanted:
                closed = gates.spawn_gate(pool, self._quotas, now.mono_ns)
                if closed is not None:
                    if closed in (gates.DEFINITION_MAX, gates.ENGINE_MAX):
                        self._short[pool] = None
                        self._make_room(pool, closed, demand, out)
                    break
                wanted -= 1
                pool.spawning.append(pool.definition)
                self._quotas.added(pool.definition)
                out.append(SpawnInstance(pool.name, reason))
        self._set_timer(pool)

    def room(self) -> None:
        """There may be room again for those that a limit over several pools has kept from spawning."""
        self._touched.update(self._short)

    def _demand(self, pool: Pool) -> int:
        """How many more instances the waiting tasks could use."""
        if not pool.offered or pool.idle or gates.open_pool_gate(pool) == gates.RATE:
            return 0
        demand = pool.waiting(pool.spec.max_total) - pool.starting
        free = None if pool.model is None else pool.model.free
        return demand if free is None else min(demand, free - pool.starting)

    def _reason(self, pool: Pool, missing: int, demand: int, now: Now) -> str:
        spec = pool.spec
        if missing >= demand:
            return f"{len(pool.idle)} of at least {spec.min_idle} are idle"
        waiting = many(sum(cls.waiting for cls in pool.offered), "task waits", "tasks wait")
        cls = pool.best()
        row = None if cls is None else cls.window.first()
        since = (
            f", the next for {span(now.wall_ms - ms)}" if row is not None and (ms := row[2].ref.submitted_ms) else ""
        )
        return f"{waiting}{since}; none of {pool.total} instances is idle, at most {spec.max_total}"

    def _make_room(self, pool: Pool, closed: str, demand: int, out: list[Decision]) -> None:
        """Let an instance that rests in another pool go, unless one is leaving already."""
        if self._leaving(pool, closed):
            return
        starving = demand > 0 and self._forsaken(pool) > 0
        for other in self._rivals(pool, closed):
            if other.idle and (starving or (other.spare > 0 and not other.offered)):
                instance = next(iter(other.idle.values()))
                self.retire(instance, f"it rests, and makes room for {pool.name}", out)
                self._touched[other] = None
                return

    def _rivals(self, pool: Pool, closed: str) -> Iterator[Pool]:
        """The other pools that share the limit, those with the most to spare first."""
        pools = pool.definition.pools if closed == gates.DEFINITION_MAX else self._pools.values()
        return iter(sorted((other for other in pools if other is not pool), key=lambda other: -other.spare))

    def _leaving(self, pool: Pool, closed: str) -> bool:
        return bool(pool.definition.leaving if closed == gates.DEFINITION_MAX else self._quotas.leaving)

    # -- fewer -------------------------------------------------------------------------------------------------------

    def check(self, instance: Instance, now: Now, out: list[Decision]) -> None:
        """An instance has become idle: should it go? If it has nothing to do, those that lack a place may get its."""
        reason = self._reason_to_go(instance, now)
        if reason is not None:
            self.retire(instance, reason, out)
        elif self._short:
            self.room()

    def retire(self, instance: Instance, reason: str, out: list[Decision]) -> None:
        """It takes no further task: gone now if it is idle, else when its task ends."""
        if instance.retire is not None:
            return
        instance.retire = reason
        instance.pool.leaving += 1
        self._quotas.leaves(instance.definition)
        if instance.pool.idle.pop(instance.id, None) is not None:
            out.append(RetireInstance(instance.id, reason))

    def trim(self, out: list[Decision]) -> None:
        """Limits may be lower than what there is: idle instances go now, busy ones when their tasks end."""
        for pool in sorted(self._pools.values(), key=lambda pool: -pool.spare):
            for instance in list(pool.idle.values()):
                reason = self._quotas.surplus(instance.definition)
                if reason is None:
                    break
                self.retire(instance, reason, out)
                self._touched[pool] = None

    def wake(self, now: Now, out: list[Decision]) -> None:
        """Retire what has rested or lived long enough."""
        for pool in self.timers.due(now.mono_ns):
            spec = pool.spec
            rested_ns = now.mono_ns - spec.cooldown_ms * _MS
            for instance in list(pool.idle.values()):
                if pool.spare <= 0 or instance.idle_ns > rested_ns:
                    break
                rest = span((now.mono_ns - instance.idle_ns) // _MS)
                self.retire(instance, f"idle for {rest}; {spec.min_idle} shall be idle", out)
            for instance in list(pool.instances.values()):
                old = self._too_old(instance, now)
                if old is not None:
                    self.retire(instance, old, out)
            self._touched[pool] = None

    def forget(self, pool: Pool) -> None:
        """The pool is no more."""
        self.timers.drop(pool)
        self._short.pop(pool, None)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _reason_to_go(self, instance: Instance, now: Now) -> str | None:
        pool = instance.pool
        spec = pool.spec
        if spec.max_tasks and instance.served >= spec.max_tasks:
            return f"it has run {many(instance.served, 'task', 'tasks')}, at most {spec.max_tasks}"
        if spec.max_age_ms and (old := self._too_old(instance, now)) is not None:
            return old
        if pool.total - pool.leaving > spec.max_total:
            return f"{pool.name} has at most {spec.max_total} instances"
        if not instance.definition.active:
            return "its definition is not active"
        surplus = self._quotas.surplus(instance.definition)
        return self._gives_way(instance) if surplus is None and self._short else surplus

    @staticmethod
    def _too_old(instance: Instance, now: Now) -> str | None:
        limit_ms = instance.pool.spec.max_age_ms
        age_ms = (now.mono_ns - instance.born_ns) // _MS
        return f"it is {span(age_ms)} old, at most {span(limit_ms)}" if limit_ms and age_ms >= limit_ms else None

    def _gives_way(self, instance: Instance) -> str | None:
        """Whether a pool with work and no instance at all waits for a place like this one's."""
        if not instance.served:
            return None
        for pool in self._short:
            if pool is instance.pool or not (waiting := self._forsaken(pool)):
                continue
            closed = gates.limits_gate(pool.definition, self._quotas)
            shared = closed == gates.ENGINE_MAX or pool.definition is instance.definition
            if closed is not None and shared and not self._leaving(pool, closed):
                tasks = many(waiting, "task", "tasks")
                return f"it gives its place to {pool.name}, which has {tasks} and no instance"
        return None

    @staticmethod
    def _forsaken(pool: Pool) -> int:
        """How many tasks wait for a pool that has no instance, and that no other pool works on either."""
        if pool.total or gates.open_pool_gate(pool) is not None:
            return 0
        return sum(cls.waiting for cls in pool.offered if not any(_works(other) for other in cls.pools))

    def _set_timer(self, pool: Pool) -> None:
        """Say when the first instance will have rested or lived long enough."""
        spec = pool.spec
        if pool.spare > 0:
            first = next(iter(pool.idle.values()))
            self.timers.at(pool, first.idle_ns + spec.cooldown_ms * _MS)
        if spec.max_age_ms:
            oldest = next((instance for instance in pool.instances.values() if instance.retire is None), None)
            if oldest is not None:
                self.timers.at(pool, oldest.born_ns + spec.max_age_ms * _MS)


def _works(pool: Pool) -> bool:
    """Whether a pool has, or will have, an instance that takes further tasks."""
    return pool.total > pool.leaving and gates.open_pool_gate(pool) is None
