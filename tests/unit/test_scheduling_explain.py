"""Why something stands still: the same gates in the same order, with counts, since when, what opens them, and the request that does."""

from __future__ import annotations

import pytest

from engine.contract.why import Gate, Why
from engine.scheduling import gates
from engine.scheduling.decisions import StartTask
from engine.scheduling.inputs import (
    CancelRequested,
    DispatchEnabled,
    PoolRemoved,
    QueueChanged,
    QueueRemoved,
    ReplicaChanged,
    RetryPolicy,
    SpawnFailed,
    StorageFailed,
    TaskRef,
)
from tests.support.scheduling import WALL_MS, Bench, pool

VISION = '[null,"vision"]'


def busy_bench() -> Bench:
    """One pool of one instance, which runs task 1; 2 and 3 wait."""
    made = Bench()
    made.serve(pool(min_idle=1))
    made.staff()
    for seq in (1, 2, 3):
        made.submit(seq)
    return made


def first_closed(why: Why) -> Gate:
    return next(gate for gate in why.gates if gate.closed)


def task_why(made: Bench, seq: int, **more: object) -> Why:
    return made.scheduler.explain_task(TaskRef(seq=seq, queue="q", rank=seq, **more), made.now)  # type: ignore[arg-type]


def test_a_task_lists_every_gate_in_the_dispatchers_order() -> None:
    made = busy_bench()
    why = task_why(made, 3)
    assert [gate.name for gate in why.gates] == ["dispatch", "queue", "due", "no worker", "pool max", "turn"]
    assert [gate.closed for gate in why.gates] == [False, False, False, False, True, True]
    assert (why.scope, why.moving) == ("task", True)
    assert first_closed(why).opens == "when a task ends"
    assert first_closed(why).fix == "aiwm pool scale p --max-total 2"
    assert why.gates[-1].why == "tasks that go first: 1"


def test_a_running_task_says_where() -> None:
    made = busy_bench()
    why = task_why(made, 1)
    assert why.moving
    assert why.summary == "it runs on i-1, attempt 1"


@pytest.mark.parametrize(
    ("close", "name", "moving"),
    [
        (StorageFailed(), gates.STORAGE, False),
        (DispatchEnabled(enabled=False, reason="drain"), gates.DISPATCH, False),
        (QueueChanged("q", ("p",), paused=True), gates.PAUSED, False),
        (QueueRemoved("q"), gates.NO_QUEUE, False),
        (QueueChanged("q", ()), gates.NO_WORKER, False),
        (PoolRemoved("p"), gates.NO_WORKER, False),
        (pool(paused=True), gates.POOL_PAUSED, False),
        (pool(max_total=2), gates.STARTING, True),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_closes_a_gate_is_what_explains_it(close: QueueRemoved, name: str, moving: bool) -> None:
    made = busy_bench()
    made.took(StartTask)
    made.wait(5_000)
    made.do(close)
    closed_ms = made.wall_ms
    made.wait(1_000)
    for why, count in ((task_why(made, 2), 1), (made.scheduler.explain_engine(made.now), 2)):
        gate = first_closed(why)
        assert gate.name == name
        assert why.moving == moving
        assert gate.why
        assert gate.opens
        assert gate.count == count
        if name != gates.NO_QUEUE:
            assert gate.since_ms == closed_ms
    assert made.started() == []


def test_a_task_whose_gates_are_all_open_is_one_that_starts() -> None:
    made = busy_bench()
    made.do(CancelRequested(2), CancelRequested(3))
    (start,) = made.took(StartTask)
    made.end(start)
    ref = TaskRef(9, "q", 9)
    assert not any(gate.closed for gate in made.scheduler.explain_task(ref, made.now).gates)
    made.submit(9)
    assert made.started() == [9]


def test_due_and_backoff_tell_their_time() -> None:
    made = Bench()
    made.do(pool(min_idle=1), QueueChanged("q", ("p",), retry=RetryPolicy(delay_ms=2_000, jitter=0)))
    made.staff()
    made.submit(1)
    made.submit(2, due_ms=WALL_MS + 60_000)
    (start,) = made.took(StartTask)
    made.end(start, "failed")
    made.wait(500, wall_jump_ms=10_000)
    later = first_closed(task_why(made, 2, due_ms=WALL_MS + 60_000))
    assert (later.name, later.opens_ms) == (gates.DUE, WALL_MS + 60_000)
    backoff = first_closed(task_why(made, 1, due_ms=WALL_MS + 2_000, attempt=1, retrying=True))
    assert (backoff.name, backoff.opens_ms) == (gates.BACKOFF, made.wall_ms + 1_500)
    assert "attempt 2" in backoff.why
    queue = made.scheduler.explain_queue("q", made.now)
    assert {(gate.name, gate.count) for gate in queue.gates if gate.closed} == {(gates.DUE, 1), (gates.BACKOFF, 1)}
    assert queue.moving


def test_a_queue_groups_its_tasks_by_first_closed_gate_biggest_first() -> None:
    made = busy_bench()
    made.do(QueueChanged("other", ("p",)))
    made.submit(4, criteria=VISION)
    made.submit(5, queue="other")
    why = made.scheduler.explain_queue("q", made.now)
    closed = [(gate.name, gate.count) for gate in why.gates if gate.closed]
    assert closed == [(gates.POOL_MAX, 2), (gates.NO_WORKER, 1)]
    assert not why.moving
    assert why.summary == "waiting: 2 pool max, 1 no worker"
    engine = made.scheduler.explain_engine(made.now)
    assert [(gate.name, gate.count) for gate in engine.gates if gate.closed] == [
        (gates.POOL_MAX, 3),
        (gates.NO_WORKER, 1),
    ]


def test_an_engine_at_rest_says_so() -> None:
    made = Bench()
    made.serve(pool())
    for why in (made.scheduler.explain_engine(made.now), made.scheduler.explain_queue("q", made.now)):
        assert why.moving
        assert why.summary == "nothing is held"
    made.do(DispatchEnabled(enabled=False, reason="no command waits for work"))
    stopped = made.scheduler.explain_engine(made.now)
    assert stopped.moving, "nothing waits, so nothing is held up"
    assert "no command waits for work" in stopped.summary


def test_slots_are_explained_for_pool_and_model() -> None:
    made = Bench()
    made.do(ReplicaChanged("nano", "nano.0", 2, outside=1))
    made.serve(pool(min_idle=3, max_total=3, model="nano"))
    made.staff()
    for seq in (1, 2, 3):
        made.submit(seq)
    for why in (made.scheduler.explain_pool("p", made.now), made.scheduler.explain_model("nano")):
        gate = first_closed(why)
        assert (gate.name, gate.count, gate.since_ms) == (gates.SLOTS, 2, WALL_MS)
        assert gate.why == "all 2 slots of nano are taken, 1 of them not by tasks"
        assert why.moving
    made.do(ReplicaChanged("nano", "nano.0", 0))
    down = made.scheduler.explain_model("nano")
    assert first_closed(down).name == gates.MODEL
    assert not down.moving


def test_failed_spawns_are_explained_with_their_next_try() -> None:
    made = Bench()
    made.serve(pool())
    made.submit(1)
    made.do(SpawnFailed("p", "no memory"))
    gate = first_closed(made.scheduler.explain_pool("p", made.now))
    assert (gate.name, gate.opens_ms) == (gates.SPAWN, WALL_MS + 500)


def test_things_that_do_not_exist() -> None:
    made = Bench()
    assert 'queue "x" does not exist' in made.scheduler.explain_queue("x", made.now).summary
    assert 'pool "x" cannot work' in made.scheduler.explain_pool("x", made.now).summary
    assert 'no pool has model "x"' in made.scheduler.explain_model("x").summary
    assert not made.scheduler.explain_pool("x", made.now).moving


def test_a_queue_says_what_it_does_not_take() -> None:
    made = Bench()
    made.do(pool(), QueueChanged("q", ("p",), draining=True, max_length=7))
    said = made.scheduler.explain_queue("q", made.now)
    assert [gate.name for gate in said.gates] == ["queue", "draining", "length"]
    assert "at most 7 waiting" in said.gates[-1].why
    assert said.moving


def test_a_task_on_disk_only_is_explained_from_its_row() -> None:
    made = Bench(window=2)
    made.serve(pool(), paused=True)
    for seq in range(1, 9):
        made.submit(seq)
    why = task_why(made, 8)
    assert first_closed(why).name == gates.PAUSED
    assert why.gates[-1].why == "tasks that go first: at least 2"
    unknown = made.scheduler.explain_task(TaskRef(50, "q", 0, tenant="new", criteria=VISION), made.now)
    assert [gate.name for gate in unknown.gates if gate.closed][:2] == [gates.PAUSED, gates.NO_WORKER]


def test_one_word_for_a_tasks_line() -> None:
    made = busy_bench()
    made.submit(4, due_ms=WALL_MS + 5_000)
    word = made.scheduler.task_gate
    assert word(1, made.now) is None, "it runs"
    assert word(2, made.now) == gates.POOL_MAX
    assert word(4, made.now) == gates.DUE
    assert word(99, made.now) is None
    made.do(QueueChanged("q", ("p",), paused=True))
    assert word(2, made.now) == gates.PAUSED
