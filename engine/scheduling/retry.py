"""What follows an attempt that ended: completed, cancelled, another attempt after a delay, or a dead letter."""

from __future__ import annotations

import msgspec

from engine.contract.states import TaskState
from engine.scheduling.inputs import Now, Outcome, RetryPolicy, TaskRef


class Verdict(msgspec.Struct, frozen=True):
    """What the row of an ended attempt becomes. `state` is completed, cancelled, failed (a dead letter), retrying or pending (again, at
    once); `crashes` is the row's new count; `reason` a sentence, empty for completed. A retrying row waits `delay_ms`: until `due_ms`
    on the wall, which the row must have exactly so, and `due_mono_ns` on the monotonic clock."""

    state: TaskState
    crashes: int
    reason: str = ""
    delay_ms: int = 0
    due_ms: int | None = None
    due_mono_ns: int | None = None


def delay_ms(policy: RetryPolicy, seq: int, failures: int) -> int:
    """How long task `seq` waits after its `failures`-th failure, ms. The jitter is a function of the arguments, so that every asker
    gets the same answer and tasks that failed together do not come back together."""
    delay: float = policy.max_delay_ms
    # 2.0 ** 1024 would raise; no real backoff needs more than 64 doublings to pass any cap.
    if failures <= 64:
        delay = min(delay, policy.delay_ms * policy.backoff ** (failures - 1))
    if policy.jitter:
        delay *= 1 + policy.jitter * (2 * _unit(seq * 1_000_003 + failures) - 1)
    return max(0, round(delay))


def crash_limit(crashes: int, on_crash: str, max_crashes: int) -> str | None:
    """Why a task with that many crashes is not run again, or None if it may be."""
    if not crashes:
        return None
    if on_crash == "dead-letter":
        return "it crashed while it ran, and its kind cannot be run twice"
    if crashes >= max_crashes:
        return f"it crashed {crashes} times"
    return None


def judge(
    task: TaskRef,
    attempt: int,
    crashes: int,
    outcome: Outcome,
    retryable: bool,
    error_code: str | None,
    *,
    now: Now,
    policy: RetryPolicy,
    cancelling: bool,
    max_crashes: int,
    retry_after_ms: int | None = None,
) -> Verdict:
    """The verdict on attempt number `attempt` of a task that had crashed `crashes` times before it. Who failed it may have said that it
    is not worth trying before `retry_after_ms`."""
    if outcome == "completed":
        return Verdict(TaskState.completed, crashes)
    if outcome == "crashed":
        crashes += 1
    if cancelling or outcome == "cancelled":
        return Verdict(TaskState.cancelled, crashes, "cancelled")
    if outcome == "crashed":
        limit = crash_limit(crashes, task.on_crash, max_crashes)
        if limit is not None:
            return Verdict(TaskState.failed, crashes, limit)
        # A crash says nothing about the task yet, so it neither waits nor uses up one of its attempts.
        return Verdict(TaskState.pending, crashes, f"its process crashed during attempt {attempt}")
    code = error_code or outcome
    if not retryable:
        return Verdict(TaskState.failed, crashes, f"{code} is not worth another attempt")
    allowed = policy.max_attempts if task.max_attempts is None else task.max_attempts
    failures = attempt - crashes
    if failures >= allowed:
        return Verdict(TaskState.failed, crashes, f"{code} in attempt {failures} of {allowed}")
    reason = f"{code} in attempt {failures} of {allowed}"
    wait = max(delay_ms(policy, task.seq, failures), retry_after_ms or 0)
    if not wait:
        return Verdict(TaskState.pending, crashes, reason)
    due_ms, due_mono_ns = now.wall_ms + wait, now.mono_ns + wait * 1_000_000
    return Verdict(TaskState.retrying, crashes, reason, wait, due_ms, due_mono_ns)


def _unit(value: int) -> float:
    """A number in [0, 1) that looks random and is the same on every machine (the finaliser of splitmix64)."""
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return ((value ^ (value >> 31)) >> 11) / (1 << 53)
