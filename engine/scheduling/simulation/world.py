"""The world around one scheduler: time, the journal, and a control that performs decisions the way the engine does."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from engine.scheduling import inputs
from engine.scheduling.gates import serves
from engine.scheduling.inputs import ClassKey, Criteria, Now, PoolChanged
from engine.scheduling.scheduler import Scheduler
from engine.scheduling.simulation.calls import Calls
from engine.scheduling.simulation.checks import Checks, Violation
from engine.scheduling.simulation.control import Control
from engine.scheduling.simulation.disk import Disk, Row
from engine.scheduling.simulation.journal import Journal, Op
from engine.scheduling.simulation.plan import Plan
from engine.scheduling.simulation.processes import Processes
from engine.scheduling.simulation.workforce import Instance, Run

MS = 1_000_000
START_MS = 1_800_000_000_000


class World:
    """State of everything but the scheduler. Times of events are ns since the beginning; `now` has both clocks."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed * 2 + 1)
        self.ns = 0
        self.wall_offset_ms = 0
        self.now = Now(START_MS, 0)
        self._events: list[tuple[int, int, int | None, Callable[[Any], None], Any]] = []
        self._events_made = 0
        self.life = 0
        self.stormy = True
        self.checks = Checks(self)
        self.disk = Disk(self.checks, self._servable)
        self.journal = Journal(self)
        self.scheduler: Scheduler | None = None
        self.storage_ok = True
        self.dispatch = True
        self.queues = {queue.name: queue for queue in plan.queues}
        self.pools = {pool.name: pool for pool in plan.pools}
        self.processes = Processes(self)
        self.instances: dict[str, Instance] = {}
        self.idle: dict[str, dict[str, Instance]] = {}
        self.totals: dict[str, int] = {}
        self.runs: dict[int, Run] = {}
        self.held: list[Op] = []
        self.lurking: dict[int, tuple[int, int, int]] = {}
        self.at_next_start: Callable[[Any], None] | None = None
        self.retry_ns: dict[int, int] = {}
        self.hurried: set[int] = set()
        self.definitions = {definition.name: definition for definition in plan.definitions}
        self.max_instances = plan.max_instances
        self.outsiders: dict[str, int] = {}  # instances of no pool, by definition
        self.of_definition: defaultdict[str, int] = defaultdict(int)  # instances of pools, also those on their way
        self.kept: dict[
            str, tuple[tuple[tuple[int, int, int], ...], int]
        ] = {}  # use by definition, as stored, and by which clock
        self.calls = Calls(self)
        self.control = Control(self)
        self._perform = self.control.performers() | self.calls.performers() | self.processes.performers()
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.digest = 0
        self.last_end_ns = 0

    # -- time --------------------------------------------------------------------------------------------------------

    def later(self, ms: float, what: Callable[[Any], None], arg: Any = None, *, any_life: bool = False) -> None:
        """Do something in so many ms, unless the engine has died by then (or even then: `any_life`)."""
        self._events_made += 1
        life = None if any_life else self.life
        heappush(self._events, (self.ns + int(ms * MS), self._events_made, life, what, arg))

    def turn(self) -> bool:
        """Let the next event happen; False if there is none."""
        if not self._events:
            return False
        ns, _, life, what, arg = heappop(self._events)
        if life is None or life == self.life:
            self.ns = ns
            self.read_clock()
            what(arg)
        return True

    def jump_clock(self, ms: int) -> None:
        self.wall_offset_ms += ms
        self.read_clock()

    def read_clock(self) -> None:
        self.now = Now(START_MS + self.ns // MS + self.wall_offset_ms, self.ns)

    # -- the scheduler -----------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """An engine starts on what is on disk."""
        plan = self.plan
        self.disk.take_back(plan.config.max_crashes)
        self.instances, self.runs = {}, {}
        self.idle = {pool.name: {} for pool in plan.pools}
        self.totals = dict.fromkeys(self.idle, 0)
        self.held = []
        self.retry_ns = {}
        self.hurried = set()
        self.dispatch = self.storage_ok = True
        self.outsiders = {}
        self.of_definition.clear()
        self.calls.rebooted()
        self.checks.rebooted()
        self.scheduler = Scheduler(plan.config)
        self.counts["engines"] += 1
        told: list[inputs.Input] = [inputs.Recover(), *self.queues.values(), *self.pools.values()]
        told += self.processes.booted()
        self.rng.shuffle(told)
        # Limits come before what they limit.
        limits: list[inputs.Input] = [inputs.EngineLimits(self.max_instances), *self.definitions.values()]
        limits += [inputs.BudgetRestored(name, buckets) for name, (buckets, _) in self.kept.items()]
        for inp in limits + told:
            self.feed(inp)
        for row in list(self.disk.rows.values()):
            if row.blocked and not row.state.ended:
                self.control.follow(row.seq)

    def die(self) -> None:
        """The engine is killed. Some of what it ran goes on and will answer to nobody, or to the next one."""
        self.scheduler = None
        self.life += 1
        self.journal.die(self.rng.random() < 0.5)
        for run in self.runs.values():
            run.ended = self.rng.random() >= self.plan.faults.zombie
        self.counts["engine deaths"] += 1

    def feed(self, inp: inputs.Input) -> None:
        scheduler = self.scheduler
        if scheduler is None:
            return
        perform = self._perform
        try:
            decisions = scheduler.step(inp, self.now)
        except Exception as error:
            raise Violation("no error", f"{type(error).__name__} {error} at {type(inp).__name__}") from error
        for decision in decisions:
            perform[type(decision)](decision)
        self.counts["steps"] += 1
        if self.counts["steps"] % 64 == 0:
            self.checks.idleness()
            self.checks.memory()

    @staticmethod
    def adapters_of(row: Row, pool: PoolChanged) -> tuple[str, ...]:
        """What a task uses on this pool."""
        return pool.adapters if row.adapters is None else row.adapters

    def serving(self, key: ClassKey) -> list[str]:
        """The pools that serve a class as things are now."""
        criteria = Criteria.parse(key.criteria)
        pools = (self.pools.get(name) for name in self.queues[key.queue].pools)
        return [pool.name for pool in pools if pool is not None and serves(pool, criteria)]

    def _servable(self, key: ClassKey) -> bool:
        """Whether a class is served once everything is as planned."""
        queue = next(queue for queue in self.plan.queues if queue.name == key.queue)
        criteria = Criteria.parse(key.criteria)
        return any(serves(pool, criteria) for pool in self.plan.pools if pool.name in queue.pools)
