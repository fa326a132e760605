"""What an ended attempt becomes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.states import TaskState
from engine.scheduling.inputs import Now, RetryPolicy, TaskRef
from engine.scheduling.retry import Verdict, crash_limit, delay_ms, judge

PLAIN = RetryPolicy(max_attempts=3, delay_ms=1_000, backoff=2.0, max_delay_ms=5_000, jitter=0.0)
NOW = Now(5_000_000, 7_000_000_000)


def judged(outcome: Any, attempt: int = 1, crashes: int = 0, **more: Any) -> Verdict:
    task = TaskRef(4, "q", 0, max_attempts=more.pop("max_attempts", None), on_crash=more.pop("on_crash", "retry"))
    options: dict[str, Any] = {"policy": PLAIN, "cancelling": False, "max_crashes": 2, "now": NOW, **more}
    retryable = options.pop("retryable", True)
    return judge(task, attempt, crashes, outcome, retryable, options.pop("code", None), **options)


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        (judged("completed"), TaskState.completed, ""),
        (judged("completed", cancelling=True), TaskState.completed, ""),
        (judged("cancelled"), TaskState.cancelled, "cancelled"),
        (judged("failed", cancelling=True), TaskState.cancelled, "cancelled"),
        (judged("crashed", cancelling=True), TaskState.cancelled, "cancelled"),
        (judged("failed", code="timeout"), TaskState.retrying, "timeout in attempt 1 of 3"),
        (judged("failed", 3), TaskState.failed, "failed in attempt 3 of 3"),
        (judged("failed", 3, max_attempts=5), TaskState.retrying, "attempt 3 of 5"),
        (judged("failed", 1, max_attempts=1), TaskState.failed, "attempt 1 of 1"),
        (judged("failed", retryable=False, code="bad_request"), TaskState.failed, "bad_request is not worth"),
        (judged("crashed"), TaskState.pending, "crashed during attempt 1"),
        (judged("crashed", 2, crashes=1), TaskState.failed, "crashed 2 times"),
        (judged("crashed", on_crash="dead-letter"), TaskState.failed, "cannot be run twice"),
        (judged("crashed", 9, max_attempts=1), TaskState.pending, "attempt 9"),
        (judged("failed", 3, crashes=1), TaskState.retrying, "attempt 2 of 3"),
        (judged("failed", policy=RetryPolicy(delay_ms=0)), TaskState.pending, "attempt 1 of 3"),
    ],
)
def test_verdicts(said: Verdict, state: TaskState, words: str) -> None:
    assert said.state is state
    assert words in said.reason
    assert (said.due_ms is None) == (said.due_mono_ns is None) == (state is not TaskState.retrying)


def test_a_crash_counts_as_a_crash_and_not_as_an_attempt() -> None:
    assert judged("crashed", 1).crashes == 1
    assert judged("failed", 2, crashes=1).crashes == 1
    assert judged("failed", 2, crashes=1).delay_ms == judged("failed", 1).delay_ms == 1_000


def test_a_retry_is_due_on_both_clocks() -> None:
    said = judged("failed", 2)
    assert (said.delay_ms, said.due_ms, said.due_mono_ns) == (2_000, 5_002_000, 9_000_000_000)


def test_backoff_doubles_up_to_its_cap_and_never_overflows() -> None:
    assert [delay_ms(PLAIN, 1, failures) for failures in (1, 2, 3, 4, 5, 5_000)] == [
        1_000,
        2_000,
        4_000,
        5_000,
        5_000,
        5_000,
    ]


@given(st.integers(1, 2**40), st.integers(1, 200), st.floats(0, 1), st.floats(1, 10), st.integers(0, 10**6))
def test_jitter_stays_in_its_bounds_and_gives_one_answer(
    seq: int, failures: int, jitter: float, backoff: float, base: int
) -> None:
    policy = RetryPolicy(delay_ms=base, backoff=backoff, max_delay_ms=10**7, jitter=jitter)
    plain = delay_ms(RetryPolicy(delay_ms=base, backoff=backoff, max_delay_ms=10**7, jitter=0.0), seq, failures)
    delay = delay_ms(policy, seq, failures)
    assert delay == delay_ms(policy, seq, failures)
    assert plain * (1 - jitter) - 1 <= delay <= plain * (1 + jitter) + 1


def test_jitter_spreads_tasks_that_failed_together() -> None:
    policy = RetryPolicy(delay_ms=1_000, jitter=0.5)
    delays = {delay_ms(policy, seq, 1) for seq in range(200)}
    assert len(delays) > 100
    assert min(delays) < 600
    assert max(delays) > 1_400


@pytest.mark.parametrize(
    ("crashes", "on_crash", "dead"),
    [(0, "retry", False), (0, "dead-letter", False), (1, "retry", False), (1, "dead-letter", True), (2, "retry", True)],
)
def test_crash_limit(crashes: int, on_crash: str, dead: bool) -> None:
    assert (crash_limit(crashes, on_crash, 2) is not None) == dead


@pytest.mark.parametrize(
    ("said_ms", "waits"), [(None, 1_000), (0, 1_000), (400, 1_000), (7_000, 7_000), (600_000, 600_000)]
)
def test_who_failed_it_may_have_said_when_to_come_again(said_ms: int | None, waits: int) -> None:
    """A server's word beats the queue's patience, its longest delay too."""
    verdict = judged("failed", retry_after_ms=said_ms)
    assert (verdict.state, verdict.delay_ms) == (TaskState.retrying, waits)
    assert verdict.due_ms == NOW.wall_ms + waits
    at_once = judged("failed", retry_after_ms=said_ms, policy=RetryPolicy(delay_ms=0))
    assert at_once.delay_ms == (said_ms or 0)
    assert judged("failed", 3, retry_after_ms=said_ms).state is TaskState.failed
