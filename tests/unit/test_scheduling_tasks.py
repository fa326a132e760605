"""The life of tasks: order, retries, cancels, deadlines, due times, crashes, storage that fails."""

from __future__ import annotations

import pytest

from engine.contract.states import TaskState
from engine.scheduling.decisions import (
    CancelTask,
    DeadLetter,
    ExpireTask,
    LoadDeadlines,
    LoadDue,
    Promote,
    Requeue,
    RetireInstance,
    StartTask,
    WakeAt,
)
from engine.scheduling.inputs import (
    CancelRequested,
    DeadlinesLoaded,
    DispatchEnabled,
    DueLoaded,
    InstanceGone,
    Promoted,
    QueueChanged,
    Recover,
    RetryNow,
    RetryPolicy,
    StartRefused,
    StorageFailed,
    StorageRecovered,
    TaskEnded,
    TaskRef,
    TaskSubmitted,
)
from tests.support.scheduling import WALL_MS, Bench, pool

DAY_MS = 86_400_000


def bench(**config: int) -> Bench:
    """One pool with one instance, which is idle, and a queue without jitter."""
    made = Bench(**config)
    retry = RetryPolicy(max_attempts=3, delay_ms=1_000, jitter=0.0)
    made.do(pool(min_idle=1), QueueChanged("q", ("p",), retry=retry))
    made.staff()
    return made


def first_start(made: Bench) -> StartTask:
    (start,) = made.took(StartTask)
    return start


# -- order -------------------------------------------------------------------------------------------------------------------


def test_smaller_rank_goes_first_and_equal_ranks_in_the_order_of_submission() -> None:
    made = bench()
    made.submit(1)
    for seq, rank in [(2, 50), (3, 10), (4, 50), (5, 10), (6, 5)]:
        made.submit(seq, rank)
    assert made.run_all() == [1, 6, 3, 5, 2, 4]


def test_rank_counts_over_all_queues_and_criteria_that_a_pool_serves() -> None:
    made = bench()
    made.do(QueueChanged("r", ("p",)))
    made.submit(1)
    made.submit(2, 40)
    made.submit(3, 30, queue="r")
    made.submit(4, 20, criteria='["goat"]')
    made.submit(5, 10)
    made.submit(6, 20)
    assert made.run_all() == [1, 5, 4, 6, 3, 2]


@pytest.mark.parametrize("change", [{"rank": 1}, {"queue": "r"}, {"tenant": "ana"}])
def test_a_task_that_was_moved_waits_where_it_is_now(change: dict[str, str | int]) -> None:
    """A page may have told of the row as it was while the move was being committed."""
    made = bench()
    made.do(QueueChanged("r", ()))
    made.submit(1)
    made.submit(2, 20)
    made.submit(3, 30)
    made.submit(3, **{"rank": 30, **change})  # type: ignore[arg-type]
    order = made.run_all()
    assert order == ([1, 2] if "queue" in change else [1, 3, 2] if "rank" in change else [1, 2, 3])


def test_one_task_at_a_time_on_an_instance() -> None:
    made = bench()
    made.submit(1)
    made.submit(2)
    start = first_start(made)
    assert start == StartTask(1, 1, "i-1", "p")
    assert made.scheduler.running == 1
    made.end(start)
    assert made.started() == [2]


def test_a_task_that_is_told_twice_starts_once() -> None:
    made = bench()
    made.submit(1)
    made.submit(1)
    made.submit(2)
    made.submit(2)
    assert made.run_all() == [1, 2]


# -- ends and retries --------------------------------------------------------------------------------------------------------


def test_a_failed_attempt_waits_on_the_monotonic_clock_whatever_the_wall_clock_does() -> None:
    made = bench()
    made.submit(1)
    verdict = made.scheduler.verdict(1, 1, "failed", made.now, retryable=True)
    assert (verdict.state, verdict.due_ms) == (TaskState.retrying, WALL_MS + 1_000)
    made.end(first_start(made), "failed")
    (again,) = made.took(Requeue)
    assert (again.attempt_next, again.due_ms, again.due_mono_ns) == (2, WALL_MS + 1_000, 1_000_000_000)
    made.wait(999, wall_jump_ms=DAY_MS)
    assert made.took(Promote) == []
    made.wait(1, wall_jump_ms=-3 * DAY_MS)
    assert made.took(Promote) == [Promote((1,))]
    assert made.started() == [], "its row is not pending yet"
    made.do(Promoted((1,)))
    assert first_start(made).attempt == 2


def test_attempts_run_out() -> None:
    made = bench()
    made.submit(1)
    for attempt in (1, 2, 3):
        start = first_start(made)
        assert start.attempt == attempt
        made.end(start, "failed")
        if attempt < 3:
            made.wait(10_000)
            made.do(Promoted(made.took(Promote)[0].seqs))
    (dead,) = made.took(DeadLetter)
    assert dead.committed
    assert "attempt 3 of 3" in dead.reason
    assert made.scheduler.backlog.tasks == {}


def test_a_failure_that_is_not_worth_another_attempt_is_final() -> None:
    made = bench()
    made.submit(1)
    made.end(first_start(made), "failed", retryable=False)
    assert len(made.took(DeadLetter)) == 1


def test_a_zombies_answer_changes_nothing() -> None:
    made = bench()
    made.submit(1)
    made.end(first_start(made), "crashed")
    second = first_start(made)
    assert second.attempt == 2
    assert made.do(TaskEnded(1, 1, "completed")) == []
    with pytest.raises(KeyError):
        made.scheduler.verdict(1, 1, "completed", made.now)
    assert made.scheduler.running == 1
    made.end(second)
    assert made.scheduler.running == 0


def test_a_verdict_stands_against_a_second_answer_a_new_policy_and_a_cancel() -> None:
    made = bench()
    made.submit(1)
    start = first_start(made)
    said = made.scheduler.verdict(1, 1, "failed", made.now, retryable=True)
    with pytest.raises(KeyError):
        made.scheduler.verdict(1, 1, "completed", made.now)
    made.do(QueueChanged("q", ("p",), retry=RetryPolicy(max_attempts=1)))
    made.do(CancelRequested(1))
    made.took(CancelTask)
    made.end(start, "failed")
    (again,) = made.took(Requeue)
    assert again.due_ms == said.due_ms
    assert made.took(CancelTask) == [CancelTask(1, running=False)], "it waits again, so the cancel finds it waiting"


def test_two_crashes_are_a_dead_letter_and_one_is_none() -> None:
    made = bench()
    made.submit(1, max_attempts=1)
    made.end(first_start(made), "crashed")
    assert made.took(Requeue)[0].due_ms is None
    made.end(first_start(made), "crashed")
    assert "crashed 2 times" in made.took(DeadLetter)[0].reason


def test_a_row_that_crashed_its_engine_twice_is_not_started_again() -> None:
    made = bench()
    made.submit(1, attempt=2, crashes=2)
    assert made.started() == []
    assert made.took(DeadLetter) == [DeadLetter(1, "it crashed 2 times", committed=False)]
    made.submit(2, attempt=1, crashes=1)
    assert made.started() == [2]


def test_a_start_whose_commit_failed_waits_again_with_the_same_attempt() -> None:
    made = bench()
    made.submit(1)
    made.do(StorageFailed())
    made.do(StartRefused(1, 1, gone=False))
    assert made.took(StartTask)[1:] == []
    made.do(StorageRecovered())
    assert first_start(made).attempt == 1


def test_a_start_that_the_store_refused_is_forgotten() -> None:
    made = bench()
    made.submit(1)
    made.submit(2)
    made.took(StartTask)
    made.do(StartRefused(1, 1, gone=True))
    assert made.started() == [2]
    assert set(made.scheduler.backlog.tasks) == {2}


# -- cancel, deadline, due ---------------------------------------------------------------------------------------------------


def test_cancel_of_a_waiting_task() -> None:
    made = bench()
    for seq in (1, 2, 3):
        made.submit(seq)
    made.do(CancelRequested(2))
    made.do(CancelRequested(2))
    assert made.took(CancelTask) == [CancelTask(2, running=False)]
    made.do(TaskEnded(2, 0, "cancelled"))
    assert made.run_all() == [1, 3]


def test_cancel_of_a_running_task_is_not_followed_by_a_retry() -> None:
    made = bench()
    made.submit(1)
    start = first_start(made)
    made.do(CancelRequested(1))
    made.do(CancelRequested(1))
    assert made.took(CancelTask) == [CancelTask(1, running=True, instance="i-1")]
    made.end(start, "crashed")
    assert made.took(Requeue) == []
    assert made.scheduler.backlog.tasks == {}


def test_cancel_of_a_task_that_is_on_disk_only() -> None:
    made = bench()
    made.do(CancelRequested(77))
    assert made.took(CancelTask) == [CancelTask(77, running=False)]
    made.do(TaskEnded(77, 0, "gone"))
    assert made.scheduler.backlog.leaving == {}


def test_a_deadline_ends_a_waiting_task_and_leaves_a_running_one_alone() -> None:
    made = bench()
    made.submit(1, deadline_ms=WALL_MS + 1_000)
    made.submit(2, deadline_ms=WALL_MS + 1_000)
    made.submit(3)
    assert made.took(WakeAt)[-1].mono_ns == 1_000_000_000
    made.wait(1_000)
    assert made.took(ExpireTask) == [ExpireTask(2)]
    made.do(TaskEnded(2, 0, "expired"))
    assert made.run_all() == [1, 3]


def test_a_task_whose_deadline_passed_unnoticed_does_not_start() -> None:
    made = bench()
    made.submit(1)
    made.submit(2, deadline_ms=WALL_MS + 10)
    made.submit(3)
    start = first_start(made)
    made.wall_ms += 50
    made.end(start)
    assert made.started() == [3]
    assert made.took(ExpireTask) == [ExpireTask(2)]


def test_a_scheduled_task_waits_for_the_wall_clock_through_its_jumps() -> None:
    made = bench()
    made.submit(1, due_ms=WALL_MS + DAY_MS)
    assert made.took(WakeAt)[-1].mono_ns == 1_000_000_000, "the wall clock may jump, so it is looked at every second"
    made.wait(1_000, wall_jump_ms=-DAY_MS)
    made.wait(1_000, wall_jump_ms=DAY_MS)
    assert made.took(Promote) == []
    made.wait(1_000, wall_jump_ms=DAY_MS)
    assert made.took(Promote) == [Promote((1,))]
    made.wait(1_000, wall_jump_ms=-2 * DAY_MS)
    made.do(Promoted((1,)))
    assert made.started() == [1], "due once, it stays due"


def test_retry_now_ends_the_waiting() -> None:
    made = bench()
    made.submit(1, due_ms=WALL_MS + DAY_MS)
    made.do(RetryNow(1), RetryNow(2))
    made.do(Promoted(made.took(Promote)[0].seqs))
    assert made.started() == [1]


def test_a_waiting_task_whose_row_was_made_pending_by_hand_starts() -> None:
    made = bench()
    made.submit(1, due_ms=WALL_MS + DAY_MS)
    made.submit(1)
    assert made.started() == [1]
    made.wait(2 * DAY_MS)
    assert made.took(Promote) == []


def test_tasks_that_wait_for_a_time_are_bounded_in_memory_and_read_when_needed() -> None:
    made = bench(later=4)
    due = [WALL_MS + 1_000 * seq for seq in range(1, 11)]
    for seq in range(10, 0, -1):
        made.submit(seq, due_ms=due[seq - 1])
    assert sorted(made.scheduler.backlog.tasks) == [1, 2, 3, 4]
    order: list[int] = []
    for _ in range(12):
        made.wait(1_000)
        for promote in made.took(Promote):
            made.do(Promoted(promote.seqs))
        for load in made.took(LoadDue):
            left = [seq for seq in range(1, 11) if (due[seq - 1], seq) > load.after]
            page = tuple(TaskRef(seq, "q", seq, due_ms=due[seq - 1]) for seq in left[: load.limit])
            made.do(DueLoaded(load.load, page, len(left) > load.limit))
        order += made.run_all()
    assert order == list(range(1, 11))


def test_a_retry_that_is_read_from_disk_cannot_wait_longer_than_any_backoff() -> None:
    made = bench()
    made.do(Recover())
    load = made.took(LoadDue)[0]
    far = TaskRef(1, "q", 0, due_ms=WALL_MS + 30 * DAY_MS, attempt=1, retrying=True)
    made.do(DueLoaded(load.load, (far,), more=False))
    made.wait(2 * 300_000)
    assert made.took(Promote) == [Promote((1,))]


def test_deadlines_on_disk_are_read_and_kept() -> None:
    made = bench()
    made.do(Recover())
    load = made.took(LoadDeadlines)[0]
    made.do(DeadlinesLoaded(load.load, ((WALL_MS + 5, 8), (WALL_MS + 9, 7)), more=False))
    made.wait(5)
    assert made.took(ExpireTask) == [ExpireTask(8)]
    made.wait(5)
    assert made.took(ExpireTask) == [ExpireTask(7)]


# -- storage and dispatch ----------------------------------------------------------------------------------------------------


def test_nothing_is_decided_while_storage_fails_and_everything_unanswered_again_after() -> None:
    made = bench()
    made.submit(1, due_ms=WALL_MS + 5)
    made.submit(2, deadline_ms=WALL_MS + 500)
    made.submit(3)
    made.submit(4)
    made.took(StartTask)
    made.do(CancelRequested(4))
    made.wait(10)
    promote, cancel = made.took(Promote), made.took(CancelTask)
    assert promote
    assert cancel
    made.do(StorageFailed())
    made.do(TaskEnded(2, 1, "completed"))
    made.wait(1_000)
    assert made.started() == []
    assert made.took(ExpireTask) == []
    made.do(StorageRecovered())
    assert made.took(Promote) == promote
    assert made.took(CancelTask) == cancel
    assert made.started() == [3]


def test_a_drained_engine_starts_nothing_and_knows_when_it_is_done() -> None:
    made = bench()
    made.submit(1)
    made.submit(2)
    start = first_start(made)
    made.do(DispatchEnabled(enabled=False, reason="drain"))
    made.end(start, "crashed")
    assert made.started() == []
    assert made.scheduler.running == 0
    made.do(DispatchEnabled(enabled=True))
    assert made.started() == [1]


def test_the_instance_of_a_running_task_may_go_first() -> None:
    made = bench()
    made.submit(1)
    start = first_start(made)
    made.do(InstanceGone(start.instance, crashed=True))
    made.end(start, "crashed")
    made.wait(500)
    made.staff()
    assert first_start(made).instance != start.instance
    assert made.took(RetireInstance) == []


def test_equal_inputs_give_equal_decisions() -> None:
    histories = []
    for _ in range(2):
        made = bench(window=4, classes=2)
        for seq in range(30):
            made.do(
                TaskSubmitted(TaskRef(seq, "q", -seq % 7, tenant="ab"[seq % 2], deadline_ms=WALL_MS + 100 * seq + 1))
            )
        made.wait(1_000)
        made.run_all()
        histories.append(made.decided)
    assert histories[0] == histories[1]
