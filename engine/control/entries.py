"""What is written of an attempt: the entries of its start, of its end, and of its being given back."""

from __future__ import annotations

import asyncio

import msgspec

from engine.contract.errors import Code, ErrorInfo
from engine.contract.ids import task_id
from engine.contract.states import Durability, TaskState
from engine.control.book import Brief
from engine.control.execution import Ended
from engine.control.failures import Failures, fingerprint, whole
from engine.control.instances import Instance
from engine.control.pinning import Pins
from engine.control.supervision.care import Care
from engine.ports import Lesson
from engine.scheduling.retry import Verdict
from engine.store import ops


class Running(msgspec.Struct, kw_only=True, gc=False):
    """An attempt under way since `started_ms` (Unix time). `replica` is the model process whose slot it holds; `stopping` says why it is
    being stopped: cancelled by someone, or given back by a stopping engine; `start` is its start's entry until that is on its way to
    the disk."""

    seq: int
    attempt: int
    instance: Instance
    brief: Brief
    started_ms: int
    replica: str | None = None
    pins: Pins
    task: asyncio.Task[None] | None = None
    stopping: str | None = None
    begun: bool = False
    wrote: bool = False
    start: tuple[ops.Op, ...] = ()
    lessons: tuple[Lesson, ...] = ()


class End(msgspec.Struct, frozen=True, gc=False):
    """An attempt's end (at `at_ms`) on its way to the disk. The scheduler's verdict on it (`state`) stands, however often it must be
    written."""

    running: Running
    ended: Ended
    state: TaskState
    at_ms: int
    entry: tuple[ops.Op, ...]
    plain: bool = False


class Entries:
    """Makes the entries of ends. A task's prompt is kept with it up to `keep_prompt_chars`."""

    def __init__(self, failures: Failures, care: Care, keep_prompt_chars: int) -> None:
        self._failures = failures
        self._care = care
        self._keep_prompt_chars = keep_prompt_chars

    def end(self, running: Running, ended: Ended, verdict: Verdict, now: int) -> tuple[ops.Op, ...]:
        """The entry of an end at `now` (Unix ms) as the scheduler judged it: over, to be tried again, or waiting as before."""
        seq, attempt = running.seq, running.attempt
        error = msgspec.json.encode(ended.error) if ended.error is not None else None
        text = verdict.reason if ended.error is None else f"{ended.error.code}: {ended.error.message}"[:300]
        if verdict.state is TaskState.retrying or (verdict.state is TaskState.pending and ended.outcome != "crashed"):
            retry = ops.RetryTask(
                seq=seq,
                attempt=attempt,
                due_ms=now if verdict.due_ms is None else verdict.due_ms,
                at_ms=now,
                error=error,
                reason=ended.reason,
                tokens_in=ended.tokens_in,
                tokens_out=ended.tokens_out,
                cost_usd=ended.cost_usd,
                fail=self._fingerprint(running, ended.error),
                prompt=self._prompt(ended),
            )
            return retry, _event(
                now, "task.retry", "scheduler", seq, f"again in {verdict.delay_ms / 1000:g}s: {text}", "warn"
            )
        if verdict.state is TaskState.pending:
            again = ops.ReleaseTask(
                seq=seq, attempt=attempt, at_ms=now, reason=ended.reason, crashed=ended.outcome == "crashed"
            )
            return again, _event(now, "task.requeued", "scheduler", seq, text, "warn")
        mark, kept = self._failed(running, ended.error if verdict.state is TaskState.failed else None, now)
        end = ops.EndTask(
            seq=seq,
            attempt=attempt,
            state=verdict.state,
            at_ms=now,
            result=ended.result,
            error=error,
            reason=ended.reason or verdict.reason,
            tokens_in=ended.tokens_in,
            tokens_out=ended.tokens_out,
            cost_usd=ended.cost_usd,
            adapter=ended.adapter,
            summary=ended.summary,
            model=ended.model,
            finish_reason=ended.finish_reason,
            calls=ended.calls,
            input_chars=ended.input_chars,
            reflection=ended.reflection,
            fail=mark,
            prompt=self._prompt(ended),
        )
        due = self._care.due(seq, attempt, running.brief, running.instance, now)
        level = "error" if verdict.state is TaskState.failed else "info"
        return end, _event(now, f"task.{verdict.state.value}", running.instance.id, seq, text, level), *kept, *due

    def plain(self, end: End, failure: BaseException, now: int) -> End:
        """Instead of an end that cannot be stored as it is: the task fails, and says why."""
        running = end.running
        error = whole(
            ErrorInfo(code=Code.task_failed, message=f"what the worker returned cannot be stored: {failure}"[:500]),
            running.seq,
        )
        mark, kept = self._failed(running, error, now)
        ended = Ended(outcome="failed", state=TaskState.failed, error=error, reason=error.message[:200])
        op = ops.EndTask(
            seq=running.seq,
            attempt=running.attempt,
            state=TaskState.failed,
            at_ms=now,
            error=msgspec.json.encode(error),
            reason=ended.reason,
            fail=mark,
        )
        start = tuple(it for it in end.entry if isinstance(it, ops.StartTask))
        failed = _event(now, "task.failed", running.instance.id, running.seq, error.message, "error")
        return End(running, ended, TaskState.failed, now, (*start, op, failed, *kept), plain=True)

    def _failed(self, running: Running, error: ErrorInfo | None, now: int) -> tuple[str | None, tuple[ops.Op, ...]]:
        """The fingerprint of a task that fails for good, and what is kept of the failure."""
        if error is None:
            return None, ()
        return self._failures.note(running.seq, running.brief.queue, running.instance.definition.name, error, now)

    def _prompt(self, ended: Ended) -> str | None:
        """What of it is kept: the whole prompt, or nothing of one that is longer than what is kept."""
        return ended.prompt if ended.prompt is not None and len(ended.prompt) <= self._keep_prompt_chars else None

    def _fingerprint(self, running: Running, error: ErrorInfo | None) -> str | None:
        return None if error is None else fingerprint(error.code, error.message, running.instance.definition.name)


def started(running: Running, pool: str) -> tuple[ops.Op, ...]:
    """The entry of a start."""
    seq, attempt, now, instance = running.seq, running.attempt, running.started_ms, running.instance
    start = ops.StartTask(seq, attempt, instance.id, pool, instance.definition.name, now, running.pins.text)
    return start, _event(now, "task.started", instance.id, seq, f"attempt {attempt} on {instance.id}")


def given_back(running: Running, now: int) -> tuple[ops.Op, ...]:
    """The entry of an attempt that waits again because the engine stopped."""
    release = ops.ReleaseTask(
        seq=running.seq, attempt=running.attempt, at_ms=now, reason="given back: the engine stopped"
    )
    return release, _event(now, "task.released", "engine", running.seq, "given back to its queue: the engine stopped")


def durability(brief: Brief) -> Durability:
    """What starts and ends of a task are written with. A `memory` task's submit is acknowledged before it is written, but its end is
    told only when readers can see it."""
    return Durability.os if brief.durability is Durability.memory else brief.durability


def stopped(running: Running) -> Ended:
    """How an attempt ended that was told to stop."""
    if running.stopping == "released":
        return Ended(outcome="released", state=TaskState.pending)
    error = ErrorInfo(code=Code.task_cancelled, message="cancelled while it ran")
    return Ended(outcome="cancelled", state=TaskState.cancelled, error=error, reason="cancelled while it ran")


def _event(now: int, type_: str, who: str, seq: int, text: str, level: str = "info") -> ops.AppendEvent:
    return ops.AppendEvent(at_ms=now, level=level, type=type_, who=who, about=task_id(seq), text=text, task_seq=seq)
