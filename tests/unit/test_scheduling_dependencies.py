"""Tasks that wait for others: released, failed, watched, and explained."""

from __future__ import annotations

import pytest

from engine.contract.errors import Code
from engine.contract.states import TaskState
from engine.scheduling import gates
from engine.scheduling.decisions import CancelTask, ExpireTask
from engine.scheduling.dependencies import Blocked, FailDependent, Release, after_end, judge_dependent
from engine.scheduling.inputs import CancelRequested, QueueChanged, TaskBlocked, TaskEnded, TaskRef
from tests.support.scheduling import WALL_MS, Bench, pool

PENDING, RUNNING, DONE = TaskState.pending, TaskState.processing, TaskState.completed


def test_a_task_whose_others_have_completed_is_released() -> None:
    assert judge_dependent(5, []) == Release(5)
    assert judge_dependent(5, [(1, DONE)]) == Release(5)


@pytest.mark.parametrize("state", [PENDING, RUNNING, TaskState.retrying, TaskState.scheduled])
def test_a_task_waits_while_another_can_still_complete(state: TaskState) -> None:
    assert judge_dependent(5, [(1, DONE), (2, state), (3, PENDING)]) == Blocked(5, 2)


@pytest.mark.parametrize("state", [TaskState.failed, TaskState.cancelled])
def test_a_task_fails_with_what_it_waits_for(state: TaskState) -> None:
    follow = judge_dependent(5, [(1, PENDING), (2, state)])
    assert follow == FailDependent(5, 2, f"it waited for t-10002, which is {state.value}")
    assert isinstance(follow, FailDependent)
    assert follow.code is Code.dependency_failed


def test_an_end_has_consequences_in_order_and_only_where_it_has_some() -> None:
    follows = after_end([(9, []), (4, [(2, TaskState.failed)]), (7, [(3, PENDING)])])
    assert [type(follow) for follow in follows] == [FailDependent, Release]
    assert [follow.seq for follow in follows] == [4, 9]


def test_the_deadline_of_a_blocked_task_is_watched() -> None:
    made = Bench()
    made.do(TaskBlocked(7, WALL_MS + 1_000), TaskBlocked(7, WALL_MS + 1_000))
    made.wait(1_000)
    assert made.took(ExpireTask) == [ExpireTask(7)]
    made.do(TaskEnded(7, 0, "expired"))
    made.wait(10_000)
    assert made.took(ExpireTask) == []


def test_a_released_task_keeps_its_one_deadline() -> None:
    made = Bench()
    made.do(pool(), QueueChanged("q", ("p",)))
    made.do(TaskBlocked(7, WALL_MS + 1_000))
    made.submit(7, deadline_ms=WALL_MS + 1_000)
    made.staff()
    assert made.started() == [7]
    made.wait(5_000)
    assert made.took(ExpireTask) == []


def test_a_blocked_task_can_be_cancelled() -> None:
    made = Bench()
    made.do(TaskBlocked(7, WALL_MS + 1_000), CancelRequested(7))
    assert made.took(CancelTask) == [CancelTask(7, running=False)]


def test_waiting_for_others_is_a_gate_of_its_own() -> None:
    made = Bench()
    made.serve(pool(min_idle=1))
    made.staff()
    unmet = [(1, PENDING), (2, RUNNING), (3, PENDING), (4, PENDING)]
    why = made.scheduler.explain_task(TaskRef(9, "q", 9), made.now, unmet)
    gate = next(gate for gate in why.gates if gate.closed)
    assert gate.name == gates.AFTER
    assert gate.why == "waits for t-10001, t-10002, t-10003 and 1 more"
    assert gate.opens == "when they have completed"
    assert gate.fix == "aiwm task explain t-10001"
    assert why.moving
    for why in (made.scheduler.explain_queue("q", made.now, 12), made.scheduler.explain_engine(made.now, 12)):
        gate = next(gate for gate in why.gates if gate.closed)
        assert (gate.name, gate.count) == (gates.AFTER, 12)
        assert why.summary == "waiting: 12 after"
