"""The scheduler: one deterministic step per input, and the same gates asked why something stands still."""

from __future__ import annotations

import msgspec

from engine.contract.why import Why
from engine.scheduling import explain, gates
from engine.scheduling.backlog import Backlog
from engine.scheduling.budget import BudgetState
from engine.scheduling.decisions import CancelTask, DeadLetter, Decision, Requeue, WakeAt
from engine.scheduling.dependencies import Unmet
from engine.scheduling.dispatch import Dispatch
from engine.scheduling.fleet import Fleet
from engine.scheduling.inputs import (
    BudgetInput,
    CancelRequested,
    ClassesLoaded,
    DeadlinesLoaded,
    DefinitionChanged,
    DefinitionRemoved,
    DispatchEnabled,
    DueLoaded,
    EngineInput,
    EngineLimits,
    FleetInput,
    Input,
    InstanceGone,
    InstanceReady,
    InstancesOutside,
    LimitInput,
    Now,
    Outcome,
    PageInput,
    PageLoaded,
    PoolChanged,
    PoolRemoved,
    Promoted,
    QueueChanged,
    QueueRemoved,
    Recover,
    ReplicaChanged,
    ReplicaGone,
    RetireRequested,
    RetryNow,
    SpawnFailed,
    StartRefused,
    StorageFailed,
    StorageRecovered,
    TaskBlocked,
    TaskEnded,
    TaskInput,
    TaskRef,
    TaskSubmitted,
    Tick,
)
from engine.scheduling.retry import Verdict, judge
from engine.scheduling.routing import choose
from engine.scheduling.task import RUNNING, Task

_MS = 1_000_000
_NEVER = 2**63 - 1


class SchedulerConfig(msgspec.Struct, frozen=True):
    """Bounds. At most `classes` classes of `window` tasks each are in memory, and `later` tasks that wait for a time; when there are more
    classes, others get their turn every `rotate_ms`. A task that crashed `max_crashes` times is dead. The wall clock may jump, so it is
    looked at again after `clock_check_ms` at the latest while something waits for it. `day_offset_ms` is local time minus UTC: days of
    budgets begin at local midnight. A task may be passed for `affinity_wait_ms` by others whose adapters are at hand (0: never)."""

    window: int = 512
    classes: int = 256
    later: int = 4096
    rotate_ms: int = 1_000
    max_crashes: int = 2
    clock_check_ms: int = 1_000
    day_offset_ms: int = 0
    affinity_wait_ms: int = 2_000


class Scheduler:
    """Decides what starts where. Holds no clock and does nothing by itself: feed inputs to `step`, perform what it returns."""

    def __init__(self, config: SchedulerConfig | None = None) -> None:
        self.config = config = config or SchedulerConfig()
        self.fleet = Fleet(day_offset_ms=config.day_offset_ms, look_ms=config.clock_check_ms)
        self.backlog = Backlog(
            self.fleet,
            window=config.window,
            classes=config.classes,
            later=config.later,
            rotate_ms=config.rotate_ms,
            max_crashes=config.max_crashes,
        )
        self._dispatch = Dispatch(self.fleet, self.backlog, affinity_wait_ms=config.affinity_wait_ms)
        self.storage_ok = True
        self.dispatch = DispatchEnabled(True)
        self.closed_since_ms: int | None = None  # since when nothing may start at all
        self._wake_ns = _NEVER

    def step(self, inp: Input, now: Now) -> list[Decision]:
        """Take one input in and return what follows from it, in the order in which to perform it."""
        out: list[Decision] = []
        self._take(inp, now, out)
        if now.mono_ns >= self._wake_ns:
            self._advance(now, out)
        while self.fleet.touched:
            if gates.engine_gate(self.storage_ok, self.dispatch) is None:
                self._dispatch.settle(now, out)
            else:
                self.fleet.touched.clear()
        self._set_wake(now, out)
        return out

    @property
    def running(self) -> int:
        """Tasks from StartTask to TaskEnded: a drain is over at 0."""
        return self._dispatch.running

    def verdict(
        self,
        seq: int,
        attempt: int,
        outcome: Outcome,
        now: Now,
        *,
        retryable: bool = False,
        error_code: str | None = None,
        retry_after_ms: int | None = None,
    ) -> Verdict:
        """What the row of this running attempt becomes if it ends so: ask before the end's transaction, write it there, then feed TaskEnded
        with the same words. What it said stands, also if the queue changes or a cancel comes before that commit is done.
        KeyError if the attempt is not the running one, or has its verdict already (a zombie's answer: drop it)."""
        task = self.backlog.tasks[seq]
        if task.state != RUNNING or task.attempt != attempt or task.verdict is not None:
            raise KeyError(seq)
        task.verdict = self._judge(task, outcome, now, retryable, error_code, retry_after_ms)
        return task.verdict

    # -- budgets -----------------------------------------------------------------------------------------------------

    def budget(self, definition: str, now: Now) -> BudgetState:
        """What a definition's calls use, and when the next one may be made."""
        return self.fleet.quotas.state(definition, now)

    def budget_buckets(self, definition: str, now: Now) -> tuple[tuple[int, int, int], ...]:
        """What to store after a grant or a settlement, for BudgetRestored after a restart."""
        return self.fleet.quotas.buckets(definition, now)

    def spawn_refusal(self, definition: str) -> str | None:
        """Why a definition may not have another instance outside of pools now, in a sentence; None if it may."""
        return explain.spawn_refusal(self, definition)

    def route(self, model: str, adapters: tuple[str, ...] = ()) -> str | None:
        """The replica of a model to which a call that is no task's goes best now; it need not have a free slot. None if none is known."""
        known = self.fleet.models.get(model)
        best = None if known is None else choose(known, adapters, free=False)
        return None if best is None else best.name

    # -- why ---------------------------------------------------------------------------------------------------------

    def explain_task(self, task: TaskRef, now: Now, unmet: Unmet = ()) -> Why:
        """Why this task does not run now. Its row is given, since it may be on disk only, and the tasks that it waits for."""
        return explain.explain_task(self, task, now, unmet)

    def explain_queue(self, name: str, now: Now, blocked: int = 0) -> Why:
        """What the waiting tasks of a queue wait for: one gate each, the first closed one. `blocked` of them wait for other tasks."""
        return explain.explain_queue(self, name, now, blocked)

    def explain_pool(self, name: str, now: Now) -> Why:
        """Why a pool starts nothing."""
        return explain.explain_pool(self, name, now)

    def explain_model(self, name: str) -> Why:
        """Why a model's slots let nothing start."""
        return explain.explain_model(self, name)

    def explain_engine(self, now: Now, blocked: int = 0) -> Why:
        """What everything that waits waits for, grouped by first closed gate. `blocked` tasks wait for other tasks."""
        return explain.explain_engine(self, now, blocked)

    def task_gate(self, seq: int, now: Now) -> str | None:
        """The first closed gate of a waiting task that is in memory, in one word; None for any other task."""
        return explain.task_gate(self, seq, now)

    # -- inputs ------------------------------------------------------------------------------------------------------

    def _take(self, inp: Input, now: Now, out: list[Decision]) -> None:
        # The two that every task brings come first.
        if type(inp) is TaskSubmitted:
            self.backlog.submitted(inp.task, now, out)
        elif type(inp) is TaskEnded:
            self._ended(inp, now, out)
        elif isinstance(inp, TaskInput):
            self._take_task(inp, now, out)
        elif isinstance(inp, BudgetInput):
            self.fleet.quotas.take(inp, now, out)
        elif isinstance(inp, PageInput):
            self._take_page(inp, now, out)
        elif isinstance(inp, FleetInput):
            self._take_fleet(inp, now, out)
        elif isinstance(inp, LimitInput):
            self._take_limit(inp, now, out)
        elif isinstance(inp, EngineInput):
            self._take_engine(inp, now, out)

    def _take_task(self, inp: TaskInput, now: Now, out: list[Decision]) -> None:
        match inp:
            case TaskBlocked():
                self.backlog.blocked(inp.seq, inp.deadline_ms)
            case StartRefused():
                self._refused(inp, now, out)
            case CancelRequested():
                self._cancel(inp.seq, out)
            case RetryNow():
                self.backlog.promote_now(inp.seq, out)
            case Promoted():
                self.backlog.promoted(inp.seqs, now, out)

    def _take_page(self, inp: PageInput, now: Now, out: list[Decision]) -> None:
        match inp:
            case PageLoaded():
                self.backlog.page_loaded(inp, out)
            case ClassesLoaded():
                self.backlog.ready.classes_loaded(inp, now, out)
            case DueLoaded():
                self.backlog.due_loaded(inp, now, out)
            case DeadlinesLoaded():
                self.backlog.deadlines_loaded(inp)

    def _take_fleet(self, inp: FleetInput, now: Now, out: list[Decision]) -> None:
        match inp:
            case QueueChanged():
                self.backlog.ready.queue_changed(inp, now, out)
            case QueueRemoved():
                self.backlog.ready.queue_removed(inp.name, now, out)
            case PoolChanged():
                self.fleet.pool_changed(inp, out)
                self.backlog.ready.refresh(now, out)
            case PoolRemoved():
                self.fleet.pool_removed(inp.name, out)
                self.backlog.ready.refresh(now, out)
            case InstanceReady():
                self.fleet.instance_ready(inp, now, out)
            case SpawnFailed():
                self.fleet.spawn_failed(inp.pool, now)
            case InstanceGone():
                self.fleet.instance_gone(inp, now)
            case RetireRequested():
                self.fleet.retire_requested(inp.id, out)
            case ReplicaChanged():
                self.fleet.replica_changed(inp, now)
            case ReplicaGone():
                self.fleet.replica_gone(inp, now)

    def _take_limit(self, inp: LimitInput, now: Now, out: list[Decision]) -> None:
        match inp:
            case DefinitionChanged():
                self.fleet.definition_changed(inp, now, out)
            case DefinitionRemoved():
                self.fleet.definition_changed(DefinitionChanged(inp.name, active=False), now, out, known=False)
            case InstancesOutside():
                self.fleet.instances_outside(inp, out)
            case EngineLimits():
                self.fleet.engine_limits(inp, out)

    def _take_engine(self, inp: EngineInput, now: Now, out: list[Decision]) -> None:
        match inp:
            case StorageFailed():
                self.storage_ok = False
                self._note_closed(now)
            case StorageRecovered():
                self.storage_ok = True
                self._note_closed(now)
                self.backlog.repeat(out)
                self._wake_ns = now.mono_ns
            case DispatchEnabled():
                self.dispatch = inp
                self._note_closed(now)
            case Recover():
                self.backlog.recover()
            case Tick():
                pass

    def _cancel(self, seq: int, out: list[Decision]) -> None:
        task = self.backlog.tasks.get(seq)
        if task is None or task.state != RUNNING:
            self.backlog.cancel(seq, out)
        elif not task.cancelling:
            task.cancelling = True
            out.append(CancelTask(seq, running=True, instance=task.instance.id if task.instance else None))

    def _refused(self, inp: StartRefused, now: Now, out: list[Decision]) -> None:
        task = self.backlog.tasks.get(inp.seq)
        if task is None or task.state != RUNNING or task.attempt != inp.attempt:
            return
        self._dispatch.stop(task, now, out)
        if inp.gone:
            return
        task.attempt -= 1
        self._wait_again(task)
        self.backlog.ready.put(task, now, out)
        self._cancel_waiting(task, out)

    def _ended(self, inp: TaskEnded, now: Now, out: list[Decision]) -> None:
        backlog = self.backlog
        task = backlog.tasks.get(inp.seq)
        if task is None or task.state != RUNNING:
            if backlog.leaving.pop(inp.seq, None) is None and task is not None and inp.attempt == task.attempt:
                backlog.withdraw(task, out)
            return
        if task.attempt != inp.attempt:
            return
        verdict = task.verdict or self._judge(task, inp.outcome, now, inp.retryable, inp.error_code, inp.retry_after_ms)
        self._dispatch.stop(task, now, out)
        if verdict.state == "failed":
            out.append(DeadLetter(inp.seq, verdict.reason, committed=True))
        elif verdict.state in ("retrying", "pending"):
            task.crashes = verdict.crashes
            task.due_ms, task.due_ns = verdict.due_ms, verdict.due_mono_ns
            out.append(Requeue(inp.seq, task.attempt + 1, task.due_ms, task.due_ns, verdict.reason))
            self._wait_again(task)
            if verdict.state == "retrying":
                backlog.delay(task)
            else:
                backlog.ready.put(task, now, out)
            self._cancel_waiting(task, out)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _cancel_waiting(self, task: Task, out: list[Decision]) -> None:
        """A cancel that came while the task ran finds it waiting again."""
        if task.cancelling:
            task.cancelling = False
            self.backlog.cancel(task.ref.seq, out)

    def _judge(
        self,
        task: Task,
        outcome: Outcome,
        now: Now,
        retryable: bool,
        error_code: str | None,
        retry_after_ms: int | None,
    ) -> Verdict:
        return judge(
            task.ref,
            task.attempt,
            task.crashes,
            outcome,
            retryable,
            error_code,
            now=now,
            policy=self.backlog.ready.policy_of(task.ref),
            cancelling=task.cancelling,
            max_crashes=self.config.max_crashes,
            retry_after_ms=retry_after_ms,
        )

    def _advance(self, now: Now, out: list[Decision]) -> None:
        self._wake_ns = _NEVER
        self.fleet.wake(now, out)
        if self.storage_ok:
            self.backlog.advance(now, out)

    def _wait_again(self, task: Task) -> None:
        """The task's row waits again: so does its deadline."""
        if task.ref.deadline_ms is not None:
            self.backlog.deadlines.add((task.ref.deadline_ms, task.ref.seq, None))

    def _note_closed(self, now: Now) -> None:
        if gates.engine_gate(self.storage_ok, self.dispatch) is None:
            self.closed_since_ms = None
            self.fleet.touch_all()
        elif self.closed_since_ms is None:
            self.closed_since_ms = now.wall_ms
            for model in self.fleet.models.values():
                model.short_ns = None

    def _set_wake(self, now: Now, out: list[Decision]) -> None:
        """Ask for pages that run low, and say when to come back if that is earlier than was said."""
        backlog = self.backlog
        backlog.fill(now, out)
        wake = _NEVER
        if self.storage_ok:
            later = backlog.later.next_ns(now, self.config.clock_check_ms)
            if later is not None:
                wake = later
            first = backlog.deadlines.first()
            if first is not None:
                wait_ms = min(max(first[0] - now.wall_ms, 0), self.config.clock_check_ms)
                wake = min(wake, now.mono_ns + wait_ms * _MS)
        fleet = self.fleet.next_ns()
        if fleet is not None:
            wake = min(wake, fleet)
        if backlog.ready.table.overflow and not backlog.ready.table.load and backlog.ready.turn_over():
            wake = min(wake, backlog.ready.table.next_ns)
        if wake < self._wake_ns:
            self._wake_ns = wake
            out.append(WakeAt(wake))
