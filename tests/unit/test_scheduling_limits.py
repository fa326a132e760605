"""Limits over pools: engine, definition, instances outside; scaling up and down with reasons; retirement; who gives way to whom."""

from __future__ import annotations

import pytest

from engine.scheduling import gates
from engine.scheduling.decisions import RetireInstance, SpawnInstance, StartTask
from engine.scheduling.inputs import (
    BudgetReserve,
    DefinitionChanged,
    DefinitionRemoved,
    DispatchEnabled,
    EngineLimits,
    Input,
    InstanceGone,
    InstanceReady,
    InstancesOutside,
    PoolRemoved,
    QueueChanged,
    RetireRequested,
    SpawnFailed,
)
from engine.scheduling.words import many, span
from tests.support.scheduling import WALL_MS, Bench, pool


def leave(made: Bench) -> list[RetireInstance]:
    """Every retired instance goes."""
    gone = []
    while retired := made.took(RetireInstance):
        gone += retired
        for one in retired:
            made.do(InstanceGone(one.id))
    return gone


def total(made: Bench, name: str = "p") -> int:
    return made.scheduler.fleet.pools[name].total


# -- up ----------------------------------------------------------------------------------------------------------------------


def test_scaling_up_says_how_many_wait_and_for_how_long() -> None:
    made = Bench()
    made.serve(pool(max_total=2, min_idle=1))
    assert [spawn.reason for spawn in made.took(SpawnInstance)] == ["0 of at least 1 are idle"]
    made.do(InstanceReady("a", "p"))
    for seq in (1, 2, 3):
        made.submit(seq, submitted_ms=WALL_MS)
    spawned = made.took(SpawnInstance)
    assert spawned[0].reason == "0 of at least 1 are idle"
    made.do(SpawnFailed("p", "no memory"))
    made.do(pool(max_total=3))
    made.took(SpawnInstance)
    made.wait(12_500)
    spawned = made.took(SpawnInstance)
    assert spawned[0].reason == "2 tasks wait, the next for 12 s; none of 1 instances is idle, at most 3"


@pytest.mark.parametrize(
    ("ms", "words"), [(-5, "0.0 s"), (950, "0.9 s"), (12_400, "12 s"), (2_460_000, "41 min"), (6_720_000, "1 h 52 min")]
)
def test_durations_in_words(ms: int, words: str) -> None:
    assert span(ms) == words if ms != 950 else span(ms) in ("0.9 s", "1.0 s")


def test_counts_in_words() -> None:
    assert (many(1, "task", "tasks"), many(1_200, "task", "tasks")) == ("1 task", "1,200 tasks")


# -- down --------------------------------------------------------------------------------------------------------------------


def test_what_rests_longer_than_the_cooldown_goes_down_to_the_minimum() -> None:
    made = Bench()
    made.serve(pool(min_idle=1, max_total=4, cooldown_ms=10_000))
    made.staff()
    for seq in (1, 2, 3):
        made.submit(seq)
        made.staff()
    starts = made.took(StartTask)
    assert total(made) == 4
    for start in starts:
        made.end(start)
    made.wait(9_999)
    assert leave(made) == []
    made.wait(1)
    gone = leave(made)
    assert [one.reason for one in gone] == ["idle for 10 s; 1 shall be idle"] * 3
    assert total(made) == 1
    made.wait(100_000)
    assert leave(made) == []


def test_one_that_works_now_and_then_stays() -> None:
    made = Bench()
    made.serve(pool(cooldown_ms=10_000))
    for seq in range(1, 10):
        made.submit(seq)
        made.staff()
        (start,) = made.took(StartTask)
        made.end(start)
        made.wait(9_000)
        assert leave(made) == []
    made.wait(1_000)
    assert len(leave(made)) == 1
    assert total(made) == 0


def test_without_a_cooldown_an_instance_goes_as_soon_as_nothing_waits() -> None:
    made = Bench()
    made.serve(pool(cooldown_ms=0))
    made.submit(1)
    made.submit(2)
    made.staff()
    (start,) = made.took(StartTask)
    made.end(start)
    made.wait(1)
    assert leave(made) == [], "the second task had work for it"
    (start,) = made.took(StartTask)
    made.end(start)
    made.wait(1)
    assert len(leave(made)) == 1


# -- retirement --------------------------------------------------------------------------------------------------------------


def test_an_instance_that_has_run_enough_tasks_is_replaced() -> None:
    made = Bench()
    made.serve(pool(min_idle=1, max_total=1, max_tasks=2))
    made.staff()
    for seq in (1, 2, 3):
        made.submit(seq)
    (first,) = made.took(StartTask)
    made.end(first)
    (second,) = made.took(StartTask)
    assert second.instance == first.instance
    made.end(second)
    (gone,) = made.took(RetireInstance)
    assert gone == RetireInstance(first.instance, "it has run 2 tasks, at most 2")
    assert made.took(SpawnInstance) == [], "never above the maximum, not even for a moment"
    made.do(InstanceGone(gone.id))
    made.staff()
    (third,) = made.took(StartTask)
    assert third.instance != first.instance


def test_a_bound_that_an_instance_has_passed_already_lets_it_have_no_other_task() -> None:
    made = Bench()
    made.serve(pool(min_idle=1, max_total=1))
    made.staff()
    made.submit(1)
    (first,) = made.took(StartTask)
    made.do(pool(min_idle=1, max_total=1, paused=True))
    made.end(first)
    made.submit(2)
    made.do(pool(min_idle=1, max_total=1, max_tasks=1))
    assert made.took(StartTask) == []
    assert [gone.id for gone in made.took(RetireInstance)] == [first.instance]


def test_age_retires_idle_instances_at_once_and_busy_ones_at_their_end() -> None:
    made = Bench()
    made.serve(pool(min_idle=1, max_total=3, max_age_ms=60_000, cooldown_ms=10**9))
    made.staff()
    made.submit(1)
    made.staff()
    (start,) = made.took(StartTask)
    made.wait(60_000)
    (idle,) = made.took(RetireInstance)
    assert idle.reason == "it is 60 s old, at most 60 s"
    assert idle.id != start.instance
    assert len(made.took(SpawnInstance)) == 1, "the minimum is kept"
    made.end(start)
    assert made.took(RetireInstance) == [RetireInstance(start.instance, "it is 60 s old, at most 60 s")]


def test_a_shorter_age_is_noticed() -> None:
    made = Bench()
    made.serve(pool(min_idle=1))
    made.staff()
    made.wait(5_000)
    made.do(pool(min_idle=1, max_age_ms=6_000))
    assert made.took(RetireInstance) == []
    made.wait(1_000)
    assert len(made.took(RetireInstance)) == 1


# -- definitions -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [DefinitionChanged("goat", active=False), DefinitionRemoved("goat")])
def test_a_definition_that_is_not_active_gets_no_task_and_no_instance(off: Input) -> None:
    made = Bench()
    made.serve(pool(min_idle=2, max_total=3))
    made.staff()
    made.submit(1)
    made.staff()
    (start,) = made.took(StartTask)
    made.do(off)
    assert len(leave(made)) == 2, "those that are idle"
    made.submit(2)
    made.wait(1_000)
    assert made.started() == []
    gate = next(gate for gate in made.scheduler.explain_pool("p", made.now).gates if gate.closed)
    assert gate.name == gates.INACTIVE
    assert gate.since_ms == WALL_MS
    assert not made.scheduler.explain_pool("p", made.now).moving
    assert made.scheduler.spawn_refusal("goat") is not None
    made.end(start)
    assert len(leave(made)) == 1
    assert made.took(SpawnInstance) == []
    made.do(DefinitionChanged("goat"))
    made.staff()
    assert made.started() == [2]
    assert made.scheduler.spawn_refusal("goat") is None


def test_a_definitions_limit_holds_over_its_pools_and_instances_outside() -> None:
    made = Bench()
    made.do(DefinitionChanged("goat", max_instances=3), InstancesOutside("goat", 1))
    made.serve(pool("a", max_total=5), pool("b", max_total=5), pool("c", definition="echo", max_total=5))
    for seq in range(1, 20):
        made.submit(seq, criteria='["goat"]')
    spawned = made.took(SpawnInstance)
    assert len(spawned) == 2
    refusal = made.scheduler.spawn_refusal("goat")
    assert refusal == "definition goat has 3 of at most 3 instances, 1 of them outside of pools"
    made.do(InstancesOutside("goat", 0))
    assert len(made.took(SpawnInstance)) == 1
    made.do(InstanceReady("i", spawned[0].pool))
    gate = next(
        gate
        for name in "ab"
        for gate in made.scheduler.explain_pool(name, made.now).gates
        if gate.name in (gates.DEFINITION_MAX, gates.STARTING)
    )
    assert gate.closed


def test_the_engines_limit_holds_over_all_pools() -> None:
    made = Bench()
    made.do(EngineLimits(2))
    made.serve(pool("a", min_idle=2, max_total=5))
    made.do(pool("b", definition="echo", max_total=5), QueueChanged("r", ("b",)))
    made.staff()
    assert (total(made, "a"), total(made, "b")) == (2, 0)
    made.submit(1, queue="r")
    (gone,) = leave(made)
    assert "makes room for b" in gone.reason
    made.staff()
    assert made.started() == [1]
    assert (total(made, "a"), total(made, "b")) == (1, 1)
    assert made.scheduler.spawn_refusal("echo") == "the engine has 2 of at most 2 instances"


def test_a_lower_limit_retires_what_rests_and_then_what_ends() -> None:
    made = Bench()
    made.serve(pool("a", min_idle=3, max_total=3))
    made.staff()
    made.submit(1)
    (start,) = made.took(StartTask)
    made.do(EngineLimits(1))
    assert len(leave(made)) == 2
    made.do(InstancesOutside("echo", 1))
    made.end(start)
    assert [one.reason for one in leave(made)] == ["the engine has at most 1 instances"]
    assert total(made, "a") == 0
    made.do(EngineLimits(0))
    made.staff()
    assert total(made, "a") == 3


def test_a_pool_with_work_and_no_instance_gets_the_place_of_the_next_to_finish() -> None:
    made = Bench()
    made.do(EngineLimits(1))
    made.serve(pool("a", max_total=1))
    made.do(pool("b", definition="echo"), QueueChanged("r", ("b",)))
    for seq in range(1, 10):
        made.submit(seq)
    made.staff()
    made.submit(100, queue="r")
    gate = next(gate for gate in made.scheduler.explain_pool("b", made.now).gates if gate.closed)
    assert (gate.name, gate.opens) == (gates.ENGINE_MAX, "when a task ends")
    (start,) = made.took(StartTask)
    made.end(start)
    (gone,) = leave(made)
    assert gone.reason == "it gives its place to b, which has 1 task and no instance"
    made.staff()
    (start,) = made.took(StartTask)
    assert start.seq == 100
    made.end(start)
    leave(made)
    made.staff()
    assert made.started() == [2], "and back"


def test_nobody_gives_way_to_a_pool_whose_tasks_others_can_run() -> None:
    made = Bench()
    made.do(EngineLimits(1))
    made.serve(pool("a"), pool("b", definition="echo"))
    for seq in range(1, 20):
        made.submit(seq)
    made.staff()
    for _ in range(10):
        (start,) = made.took(StartTask)
        made.end(start)
        assert made.took(RetireInstance) == []


def test_counts_are_right_after_everything_went_wrong() -> None:
    made = Bench()
    made.do(EngineLimits(4), DefinitionChanged("goat", max_instances=4))
    made.serve(pool(min_idle=3, max_total=3))
    made.do(SpawnFailed("p", "no memory"), InstanceReady("a", "p"), InstanceReady("b", "p"))
    made.do(InstanceReady("x", "p", answers_spawn=False), RetireRequested("a"), InstanceGone("b", crashed=True))
    made.do(PoolRemoved("p"))
    leave(made)
    made.do(SpawnFailed("p", "no memory"))
    quotas = made.scheduler.fleet.quotas
    definition = quotas.of("goat")
    assert (quotas.count, quotas.leaving, definition.count, definition.leaving) == (0, 0, 0, 0)


def test_every_gate_of_maintenance_pause_and_limits_says_what_opens_it() -> None:
    made = Bench()
    made.do(pool(min_idle=1), QueueChanged("q", ("p",), paused=True, pause_reason="the scanner is broken"))
    made.staff()
    made.submit(1)
    gate = next(gate for gate in made.scheduler.explain_queue("q", made.now).gates if gate.closed)
    assert gate.why == "queue q is paused: the scanner is broken"
    assert gate.fix == "aiwm queue resume q"
    made.do(QueueChanged("q", ("p",)), DispatchEnabled(enabled=False, reason="a new disk", maintenance=True))
    made.submit(2)
    why = made.scheduler.explain_engine(made.now)
    gate = next(gate for gate in why.gates if gate.closed)
    assert (gate.name, gate.fix, gate.why) == (gates.MAINTENANCE, "aiwm engine resume", "maintenance: a new disk")
    assert not why.moving
    assert made.scheduler.running == 1


def test_a_pool_that_may_have_no_instance_stands_still() -> None:
    made = Bench()
    made.serve(pool(max_total=0))
    made.submit(1)
    why = made.scheduler.explain_pool("p", made.now)
    gate = next(gate for gate in why.gates if gate.closed)
    assert (gate.name, gate.opens, gate.fix) == (gates.POOL_MAX, "never by itself", "aiwm pool scale p --max-total 1")
    assert not why.moving


def test_budgets_work_while_nothing_may_start() -> None:
    made = Bench()
    made.do(DefinitionChanged("goat", requests_per_minute=1), DispatchEnabled(enabled=False))
    made.serve(pool(min_idle=1))
    made.do(BudgetReserve(1, "goat", 1))
    made.wait(61_000)
    made.do(DispatchEnabled(enabled=True))
    made.staff()
    made.submit(1)
    assert made.started() == [1]
