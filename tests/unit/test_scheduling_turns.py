"""Tenants of one queue take turns; queues compete by rank; a tenant's own tasks go by rank."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.scheduling.decisions import SpawnInstance, StartTask
from engine.scheduling.inputs import CancelRequested, QueueChanged, QueueRemoved
from tests.support.scheduling import Bench, pool


def bench() -> Bench:
    made = Bench()
    made.serve(pool(min_idle=1))
    made.staff()
    return made


def run(made: Bench, count: int) -> list[int]:
    """Complete what runs, so many times; what started then."""
    order = []
    for _ in range(count):
        (start,) = made.took(StartTask)
        made.end(start)
        made.took(SpawnInstance)
        order += [one.seq for one in made.decided if isinstance(one, StartTask)]
    return order


def test_a_tenant_with_one_task_does_not_wait_for_one_with_many() -> None:
    made = bench()
    for seq in range(1, 1_001):
        made.submit(seq, tenant="many")
    made.submit(5_000, tenant="one")
    assert 5_000 in run(made, 3)


def test_tenants_that_always_wait_get_equal_shares_whatever_their_ranks() -> None:
    made = bench()
    for seq in range(1, 301):
        made.submit(seq, rank=-1_000_000 + seq, tenant="urgent")
        made.submit(1_000 + seq, rank=1_000_000 - seq, tenant="patient")
        made.submit(2_000 + seq, tenant="plain")
    order = run(made, 300)
    shares = [sum(1 for seq in order if seq // 1_000 == tenant) for tenant in range(3)]
    assert max(shares) - min(shares) <= 2
    patient = [seq for seq in order if seq // 1_000 == 1]
    assert patient == sorted(patient, reverse=True), "by rank within the tenant"


def test_having_been_away_earns_nothing() -> None:
    made = bench()
    made.submit(1, tenant="away")
    for seq in range(10, 60):
        made.submit(seq, tenant="busy")
    run(made, 40)
    for seq in range(100, 110):
        made.submit(seq, rank=-seq, tenant="away")
    order = run(made, 8)
    assert sum(1 for seq in order if seq >= 100) <= 5


def test_coming_and_going_earns_nothing_either() -> None:
    made = bench()
    for seq in range(1, 101):
        made.submit(seq, tenant="steady")
    order = []
    for seq in range(1_000, 1_060):
        made.submit(seq, rank=-1, tenant="drop by drop")
        order += run(made, 1)
    assert 25 <= sum(1 for seq in order if seq >= 1_000) <= 35


def test_newcomers_that_never_end_keep_nobody_out() -> None:
    made = bench()
    for seq in range(1, 21):
        made.submit(seq, tenant="steady")
    order = []
    for seq in range(1_000, 1_100):
        made.submit(seq, rank=-1, tenant=f"new {seq}")
        order += run(made, 1)
    assert sum(1 for seq in order if seq < 1_000) >= 10


def test_queues_compete_by_the_rank_of_their_first_task() -> None:
    made = bench()
    made.do(QueueChanged("r", ("p",)))
    made.submit(1)
    made.submit(2, 10, tenant="a")
    made.submit(3, 50, tenant="b")
    made.submit(4, 20, queue="r")
    made.submit(5, 60, queue="r")
    order = run(made, 5)
    assert order.index(4) < order.index(3), "20 goes before 50 once 10 is gone"
    assert order.index(3) < order.index(5)


def test_a_tenants_criteria_do_not_multiply_its_turns() -> None:
    made = bench()
    for seq in range(1, 41):
        made.submit(seq, tenant="a", criteria="" if seq % 2 else '["goat"]')
        made.submit(100 + seq, tenant="b")
    order = run(made, 40)
    assert abs(sum(1 for seq in order if seq < 100) - 20) <= 2
    own = [seq for seq in order if seq < 100]
    assert own == sorted(own)


def test_a_queue_that_is_made_anew_begins_anew() -> None:
    made = bench()
    made.submit(1, tenant="a")
    made.submit(2, tenant="b")
    made.do(QueueRemoved("q"))
    assert not made.scheduler.fleet.pools["p"].lines
    made.do(QueueChanged("q", ("p",)))
    made.submit(3, tenant="c")
    assert run(made, 1) == [3]


def test_tenants_that_are_gone_are_forgotten() -> None:
    made = bench()
    for seq in range(1, 3_001):
        made.submit(seq, tenant=f"t{seq}")
        run(made, 1)
    assert len(made.scheduler.fleet.pools["p"].lines["q"].shares) < 100


def test_cancelled_tasks_cost_no_turn() -> None:
    made = bench()
    for seq in range(1, 30):
        made.submit(seq, tenant="a")
    for seq in range(100, 120):
        made.submit(seq, tenant="b")
        made.do(CancelRequested(seq))
    made.submit(200, tenant="b")
    assert 200 in run(made, 3)


STEPS = st.lists(st.one_of(st.none(), st.tuples(st.sampled_from("abc"), st.integers(-50, 50))), max_size=120)


@given(STEPS)
def test_each_tenants_tasks_go_by_rank_and_every_task_once(steps: list[tuple[str, int] | None]) -> None:
    """A step is a task of a tenant with a rank, or the end of what runs."""
    made = bench()
    waiting: dict[str, list[tuple[int, int]]] = {"a": [], "b": [], "c": []}
    tenants: dict[int, str] = {}
    running: StartTask | None = None

    def look() -> None:
        nonlocal running
        for start in made.took(StartTask):
            assert running is None
            tenant = tenants.pop(start.seq)
            assert waiting[tenant].pop(waiting[tenant].index(min(waiting[tenant])))[1] == start.seq
            running = start

    for seq, step in enumerate([*steps, *[None] * len(steps)], 1):
        if step is not None:
            tenants[seq] = step[0]
            waiting[step[0]].append((step[1], seq))
            made.submit(seq, step[1], tenant=step[0])
        elif running is not None:
            ended, running = running, None
            made.end(ended)
        look()
    assert running is None
    assert not tenants
