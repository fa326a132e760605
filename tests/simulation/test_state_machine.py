"""The real scheduler against a model that could not be simpler: whatever an operator and bad luck do, in any order, both agree."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from engine.scheduling import decisions as decide
from engine.scheduling import inputs
from engine.scheduling.inputs import (
    ClassKey,
    ClassSummary,
    Criteria,
    DefinitionChanged,
    Now,
    PoolChanged,
    QueueChanged,
    TaskRef,
)
from engine.scheduling.scheduler import Scheduler, SchedulerConfig

WALL_MS = 1_800_000_000_000
GOAT = Criteria("goat").key
QUEUES = {"q": ("p", "r"), "s": ("r",)}
POOLS = {"p": "goat", "r": "echo"}
RETRY = inputs.RetryPolicy(max_attempts=2, delay_ms=1_000, jitter=0.0)


class Row:
    """A task on the model's disk: state is pending, running, retrying or over."""

    def __init__(self, ref: TaskRef) -> None:
        self.ref = ref
        self.state = "pending"
        self.instance = ""
        self.attempt = 0

    @property
    def key(self) -> ClassKey:
        return ClassKey(self.ref.queue, self.ref.tenant, self.ref.criteria)

    @property
    def place(self) -> tuple[int, int]:
        return (self.ref.rank, self.ref.seq)

    def read(self) -> TaskRef:
        return msgspec.structs.replace(self.ref, attempt=self.attempt)


class Machine(RuleBasedStateMachine):
    """What the scheduler asks for (pages, promotions, ends of waiting tasks) is answered at once, so that both always mean the same."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(SchedulerConfig(window=4, classes=64))
        self.wall_ms = WALL_MS
        self.mono_ns = 0
        self.rows: dict[int, Row] = {}
        self.queues = {name: QueueChanged(name, pools, retry=RETRY) for name, pools in QUEUES.items()}
        self.pools = {name: PoolChanged(name, definition, max_total=2) for name, definition in POOLS.items()}
        self.definitions = {name: DefinitionChanged(name) for name in POOLS.values()}
        self.instances: dict[str, str] = {}  # id -> pool
        self.served: dict[str, int] = {}
        self.busy: dict[str, int] = {}  # instance -> task
        self.leaving: set[str] = set()
        self.starting: list[str] = []
        self.outside: dict[str, int] = {}
        self.max_instances = 0
        self.enabled = True
        self.calls: dict[str, list[int]] = {name: [] for name in self.definitions}
        self.denied: list[tuple[int, str]] = []
        self.asked = ""  # the definition of the call that is being asked for
        self.numbers = 0
        for pool in self.pools.values():
            self.feed(pool)
        for queue in self.queues.values():
            self.feed(queue)

    # -- the world ---------------------------------------------------------------------------------------------------

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def feed(self, inp: inputs.Input) -> None:
        waiting = deque([inp])
        while waiting:
            for decision in self.scheduler.step(waiting.popleft(), Now(self.wall_ms, self.mono_ns)):
                perform = getattr(self, f"on_{type(decision).__name__}", None)
                answer = perform(decision) if perform is not None else None
                if answer is not None:
                    waiting.append(answer)

    def pending(self, key: ClassKey) -> list[Row]:
        found = [row for row in self.rows.values() if row.key == key and row.state == "pending"]
        return sorted(found, key=lambda row: row.place)

    def serves(self, pool: str, key: ClassKey) -> bool:
        return pool in self.queues[key.queue].pools and (not key.criteria or self.pools[pool].definition == "goat")

    def total(self, pool: str) -> int:
        return sum(1 for name in self.instances.values() if name == pool) + self.starting.count(pool)

    def of_definition(self, name: str) -> int:
        return sum(self.total(pool) for pool, definition in POOLS.items() if definition == name) + self.outside.get(
            name, 0
        )

    def everywhere(self) -> int:
        return sum(map(self.total, POOLS)) + sum(self.outside.values())

    # -- what the scheduler decides ----------------------------------------------------------------------------------

    def on_StartTask(self, decision: decide.StartTask) -> None:
        row = self.rows[decision.seq]
        assert row.state == "pending"
        assert decision.attempt == row.attempt + 1
        assert self.enabled
        assert not self.queues[row.ref.queue].paused
        pool = self.pools[decision.pool]
        assert self.serves(pool.name, row.key)
        assert not pool.paused
        assert self.definitions[pool.definition].active
        assert self.instances[decision.instance] == pool.name
        assert decision.instance not in self.busy
        assert decision.instance not in self.leaving
        assert not pool.max_tasks or self.served[decision.instance] < pool.max_tasks
        mine = [other for other in self.rows.values() if other.ref.queue == row.ref.queue and other.state == "pending"]
        rivals = [
            other.place for other in mine if other.ref.tenant == row.ref.tenant and self.serves(pool.name, other.key)
        ]
        assert row.place == min(rivals), "the tenant's first goes first"
        row.state, row.attempt, row.instance = "running", decision.attempt, decision.instance
        self.busy[decision.instance] = decision.seq

    def on_SpawnInstance(self, decision: decide.SpawnInstance) -> None:
        pool = self.pools[decision.pool]
        limits = self.definitions[pool.definition]
        self.starting.append(decision.pool)
        assert decision.reason
        assert limits.active
        assert self.total(decision.pool) <= pool.max_total
        assert not limits.max_instances or self.of_definition(pool.definition) <= limits.max_instances
        assert not self.max_instances or self.everywhere() <= self.max_instances

    def on_RetireInstance(self, decision: decide.RetireInstance) -> inputs.Input:
        assert decision.id not in self.busy
        assert decision.reason
        del self.instances[decision.id]
        self.leaving.discard(decision.id)
        return inputs.InstanceGone(decision.id)

    def on_Requeue(self, decision: decide.Requeue) -> None:
        self.rows[decision.seq].state = "pending" if decision.due_ms is None else "retrying"

    def on_DeadLetter(self, decision: decide.DeadLetter) -> None:
        assert decision.committed
        self.rows[decision.seq].state = "over"

    def on_Promote(self, decision: decide.Promote) -> inputs.Input:
        for seq in decision.seqs:
            assert self.rows[seq].state == "retrying"
            self.rows[seq].state = "pending"
        return inputs.Promoted(decision.seqs)

    def on_CancelTask(self, decision: decide.CancelTask) -> inputs.Input:
        row = self.rows[decision.seq]
        assert (row.state == "running") == decision.running
        if decision.running:
            return self.ended(row, "cancelled")
        gone = row.state == "over"
        row.state = "over"
        return inputs.TaskEnded(decision.seq, 0, "gone" if gone else "cancelled")

    def on_LoadPage(self, decision: decide.LoadPage) -> inputs.Input:
        rows = [row for row in self.pending(decision.key) if row.place > decision.after]
        page = tuple(row.read() for row in rows[: decision.limit])
        return inputs.PageLoaded(decision.load, decision.key, page, len(rows) > decision.limit)

    def on_LoadClasses(self, decision: decide.LoadClasses) -> inputs.Input:
        keys = sorted({row.key for row in self.rows.values() if row.state == "pending"})
        keys = [key for key in keys if decision.after is None or key > decision.after]
        return inputs.ClassesLoaded(decision.load, tuple(map(ClassSummary, keys)), more=False)

    def on_GrantBudget(self, decision: decide.GrantBudget) -> None:
        definition = self.asked
        self.calls[definition].append(self.mono_ns)
        limit = self.definitions[definition].requests_per_minute
        minute = [at for at in self.calls[definition] if at > self.mono_ns - 60_000_000_000]
        assert not limit or len(minute) <= limit
        assert self.definitions[definition].active

    def on_DenyBudget(self, decision: decide.DenyBudget) -> None:
        limits = self.definitions[self.asked]
        assert (decision.until_ms is None) == (not limits.active)
        if decision.until_ms is not None:
            assert decision.until_ms >= self.wall_ms
            self.denied.append((decision.id, self.asked))

    def ended(self, row: Row, outcome: inputs.Outcome) -> inputs.TaskEnded:
        row.state = "over"  # unless Requeue says otherwise
        del self.busy[row.instance]
        self.served[row.instance] += 1
        return inputs.TaskEnded(row.ref.seq, row.attempt, outcome, retryable=True)

    # -- what happens ------------------------------------------------------------------------------------------------

    @rule(
        queue=st.sampled_from(sorted(QUEUES)),
        tenant=st.sampled_from(["", "ana", "ben"]),
        rank=st.integers(-3, 3),
        criteria=st.sampled_from(["", GOAT]),
        count=st.integers(1, 6),
    )
    def submit(self, queue: str, tenant: str, rank: int, criteria: str, count: int) -> None:
        for _ in range(count):
            ref = TaskRef(self.number(), queue, rank, tenant, criteria)
            self.rows[ref.seq] = Row(ref)
            self.feed(inputs.TaskSubmitted(ref))

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), outcome=st.sampled_from(["completed", "completed", "failed", "cancelled"]))
    def end(self, data: st.DataObject, outcome: inputs.Outcome) -> None:
        seq = data.draw(st.sampled_from(sorted(self.busy.values())))
        self.feed(self.ended(self.rows[seq], outcome))

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.rows)))
        if self.rows[seq].state != "over":
            self.feed(inputs.CancelRequested(seq))

    @precondition(lambda self: self.starting)
    @rule(fails=st.sampled_from([False, False, False, True]))
    def come_up(self, fails: bool) -> None:
        pool = self.starting.pop(0)
        if fails:
            self.feed(inputs.SpawnFailed(pool, "no memory"))
            return
        identifier = f"i-{self.number()}"
        self.instances[identifier], self.served[identifier] = pool, 0
        self.feed(inputs.InstanceReady(identifier, pool))

    @precondition(lambda self: self.instances)
    @rule(data=st.data(), crash=st.booleans())
    def lose(self, data: st.DataObject, crash: bool) -> None:
        """An instance dies, with its task if it has one, or is asked to go."""
        identifier = data.draw(st.sampled_from(sorted(self.instances)))
        if not crash:
            self.leaving.add(identifier)
            self.feed(inputs.RetireRequested(identifier))
            return
        del self.instances[identifier]
        self.leaving.discard(identifier)
        row = self.rows[self.busy[identifier]] if identifier in self.busy else None
        self.feed(inputs.InstanceGone(identifier, crashed=True))
        if row is not None:
            self.feed(self.ended(row, "crashed"))

    @rule(name=st.sampled_from(sorted(QUEUES)))
    def pause(self, name: str) -> None:
        queue = self.queues[name] = msgspec.structs.replace(self.queues[name], paused=not self.queues[name].paused)
        self.feed(queue)

    @rule(
        name=st.sampled_from(sorted(POOLS)),
        min_idle=st.integers(0, 2),
        max_total=st.integers(0, 3),
        max_tasks=st.integers(0, 2),
        cooldown_ms=st.sampled_from([0, 5_000]),
        paused=st.sampled_from([False, False, True]),
    )
    def change_pool(self, name: str, **changes: Any) -> None:
        before = self.pools[name]
        pool = self.pools[name] = msgspec.structs.replace(before, **changes)
        self.feed(pool)
        if pool.max_tasks and pool.max_tasks != before.max_tasks:
            # Those that have run that many already go when they end their next.
            for identifier, count in self.served.items():
                self.served[identifier] = min(count, pool.max_tasks - 1)

    @rule(
        name=st.sampled_from(sorted(POOLS.values())),
        requests=st.integers(0, 2),
        instances=st.integers(0, 3),
        active=st.sampled_from([True, True, False]),
    )
    def change_definition(self, name: str, requests: int, instances: int, active: bool) -> None:
        definition = DefinitionChanged(name, requests, max_instances=instances, active=active)
        self.definitions[name] = definition
        self.feed(definition)

    @rule(limit=st.integers(0, 4))
    def limit(self, limit: int) -> None:
        self.max_instances = limit
        self.feed(inputs.EngineLimits(limit))

    @rule(name=st.sampled_from(sorted(POOLS.values())), count=st.integers(0, 2))
    def spawn_outside(self, name: str, count: int) -> None:
        if count > self.outside.get(name, 0) and self.scheduler.spawn_refusal(name) is not None:
            return
        self.outside[name] = min(count, self.outside.get(name, 0) + 1)
        self.feed(inputs.InstancesOutside(name, self.outside[name]))

    @rule(name=st.sampled_from(sorted(POOLS.values())), again=st.booleans())
    def call(self, name: str, again: bool) -> None:
        identifier = self.number()
        if again and self.denied:
            identifier, name = self.denied.pop(0)
        self.asked = name
        self.feed(inputs.BudgetReserve(identifier, name, 1))

    @rule(enabled=st.sampled_from([True, True, False]))
    def dispatch(self, enabled: bool) -> None:
        self.enabled = enabled
        self.feed(inputs.DispatchEnabled(enabled, maintenance=True))

    @rule(ms=st.sampled_from([1, 700, 6_000, 61_000]), jump_ms=st.sampled_from([0, 0, 0, -86_400_000, 86_400_000]))
    def wait(self, ms: int, jump_ms: int) -> None:
        self.mono_ns += ms * 1_000_000
        self.wall_ms += ms + jump_ms
        self.feed(inputs.Tick())

    # -- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def counts_agree(self) -> None:
        fleet = self.scheduler.fleet
        assert self.scheduler.running == len(self.busy)
        assert set(fleet.instances) == set(self.instances)
        assert fleet.quotas.count == len(self.instances) + len(self.starting)
        assert fleet.quotas.total == self.everywhere()
        for name in self.definitions:
            assert fleet.quotas.of(name).total == self.of_definition(name)
            assert fleet.quotas.of(name).count == sum(fleet.pools[pool].total for pool in POOLS if POOLS[pool] == name)
        waiting = [seq for seq, row in self.rows.items() if row.state == "retrying"]
        assert all(seq in self.scheduler.backlog.tasks for seq in waiting)

    @invariant()
    def nobody_is_idle_while_work_waits(self) -> None:
        if not self.enabled:
            return
        for name, pool in self.pools.items():
            idle = [one for one, at in self.instances.items() if at == name and one not in self.busy]
            limits = self.definitions[pool.definition]
            if not idle or pool.paused or not limits.active or limits.requests_per_minute:
                continue
            for row in self.rows.values():
                open_queue = not self.queues[row.ref.queue].paused
                assert not (row.state == "pending" and open_queue and self.serves(name, row.key)), row.ref

    @invariant()
    def what_waits_can_say_why(self) -> None:
        now = Now(self.wall_ms, self.mono_ns)
        row = next((row for row in self.rows.values() if row.state in ("pending", "retrying")), None)
        if row is not None:
            why = self.scheduler.explain_task(row.read(), now)
            closed = [gate for gate in why.gates if gate.closed]
            assert closed or row.state == "retrying"
            assert all(gate.why and gate.opens for gate in closed)
        engine = self.scheduler.explain_engine(now)
        pending = sum(row.state == "pending" for row in self.rows.values())
        assert sum(gate.count for gate in engine.gates if gate.closed) >= (1 if pending else 0)

    def teardown(self) -> None:
        """Everything is put right: then every task ends that somebody can run."""
        self.limit(0)
        self.dispatch(True)
        for name, definition in POOLS.items():
            self.change_definition(definition, 0, 0, True)
            self.outside[definition] = 0
            self.feed(inputs.InstancesOutside(definition, 0))
            self.change_pool(name, min_idle=0, max_total=2, max_tasks=0, paused=False)
        for name in QUEUES:
            if self.queues[name].paused:
                self.pause(name)
        for _ in range(10 * len(self.rows) + 50):
            while self.starting:
                self.come_up(False)
            for seq in list(self.busy.values()):
                self.feed(self.ended(self.rows[seq], "completed"))
            self.wait(31_000, 0)
        left = [
            row.ref for row in self.rows.values() if row.state != "over" and any(self.serves(p, row.key) for p in POOLS)
        ]
        assert not left


def test_the_scheduler_and_the_model_agree() -> None:
    fast = settings(
        max_examples=40,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=fast)


@pytest.mark.slow
def test_the_scheduler_and_the_model_agree_for_long() -> None:
    slow = settings(
        max_examples=2_000,
        stateful_step_count=80,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=slow)
