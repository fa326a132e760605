"""The world's control: it performs decisions the way the engine does, and its instances draw what becomes of their tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.contract.states import TaskState
from engine.scheduling import decisions as decide
from engine.scheduling import inputs
from engine.scheduling.dependencies import Blocked, FailDependent, Follow, Release, after_end, judge_dependent
from engine.scheduling.inputs import Outcome, PoolChanged
from engine.scheduling.retry import Verdict
from engine.scheduling.simulation.checks import Violation
from engine.scheduling.simulation.disk import WAITING
from engine.scheduling.simulation.journal import Op
from engine.scheduling.simulation.workforce import Instance, Run

if TYPE_CHECKING:
    from engine.scheduling.simulation.world import World

_MS = 1_000_000


class Control:
    """Performs each kind of decision. What it knows it keeps in the world's books, which the checks read too."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._wake_ns = -1

    def performers(self) -> dict[type[Any], Callable[[Any], None]]:
        return {
            decide.StartTask: self._start,
            decide.SpawnInstance: self._spawn,
            decide.RetireInstance: self._retire,
            decide.Requeue: self._noted,
            decide.DeadLetter: self._dead_letter,
            decide.CancelTask: self._cancel,
            decide.ExpireTask: self._expire,
            decide.Promote: self._promote,
            decide.LoadPage: self._load,
            decide.LoadClasses: self._load,
            decide.LoadDue: self._load,
            decide.LoadDeadlines: self._load,
            decide.ParkClass: self._noted,
            decide.UnparkClass: self._noted,
            decide.WakeAt: self._wake,
        }

    def _noted(self, decision: decide.Decision) -> None:
        self.world.counts[type(decision).__name__] += 1

    def _wake(self, decision: decide.WakeAt) -> None:
        self._wake_ns = decision.mono_ns
        self.world.later(max(0.0, (decision.mono_ns - self.world.ns + _MS) / _MS), self._tick, decision.mono_ns)

    def _tick(self, wake_ns: int) -> None:
        if wake_ns == self._wake_ns:
            self._wake_ns = -1
            self.world.feed(inputs.Tick())

    def _start(self, decision: decide.StartTask) -> None:
        seq, attempt = decision.seq, decision.attempt
        row = self.world.disk.rows[seq]
        instance = self.world.instances.get(decision.instance)
        self.world.checks.starting(row, instance, decision)
        assert instance is not None
        pool = self.world.pools[decision.pool]
        run = self.world.runs[seq] = instance.busy = Run(seq, attempt, self.world.disk.epoch, instance, pool)
        del self.world.idle[pool.name][instance.id]
        if decision.replica is not None:
            self.world.processes.take(run, decision.replica, self.world.adapters_of(row, pool))
        self.world.digest = (self.world.digest * 1_000_003 + seq * 64 + attempt + self.world.ns) & 0xFFFFFFFFFFFF
        self.world.counts["starts"] += 1
        eager = pool.name in self.world.plan.eager
        if eager:
            self._begin(run)
        self.world.journal.write(
            Op(
                lambda: self.world.disk.start(seq, attempt),
                lambda hit: self._started(run, hit, eager),
                lambda: self._refused(run, gone=False),
            )
        )
        if self.world.at_next_start is not None:
            # Before that start is on disk.
            self.world.later(self.world.rng.random() * self.world.plan.commit_ms, self.world.at_next_start)
            self.world.at_next_start = None

    def _started(self, run: Run, hit: bool, eager: bool) -> None:
        if not hit:
            self.world.counts["stale starts"] += 1
            self._refused(run, gone=True)
            return
        if not eager:
            self._begin(run)
        if (ghost := self.world.lurking.pop(run.seq, None)) is not None:
            self.world.later(self.world.rng.expovariate(2 / self.world.plan.work_ms), self.ghost, ghost, any_life=True)

    def _refused(self, run: Run, *, gone: bool) -> None:
        run.ended = run.refused = True
        if self.world.lurking.get(run.seq) == (run.seq, run.attempt, run.epoch):
            del self.world.lurking[run.seq]
        self.world.calls.end(run)
        self._free(run)
        if not gone:
            self.world.checks.ready(self.world.disk.rows[run.seq])
        self.world.feed(inputs.StartRefused(run.seq, run.attempt, gone))

    def _begin(self, run: Run) -> None:
        """Draw what becomes of an attempt, and when."""
        rng, faults = self.world.rng, self.world.plan.faults
        ms = rng.expovariate(1 / self.world.plan.work_ms)
        fate = rng.random()
        outcome: Outcome = "completed"
        retryable = True
        if self.world.stormy:
            if rng.random() < faults.slow:
                ms *= 20
            if fate < faults.crash or (faults.crash and run.seq % 101 == 0):
                outcome = "crashed"
            elif fate > 1 - faults.fail:
                outcome = "failed"
            elif fate > 1 - faults.fail - faults.fail_for_good:
                outcome, retryable = "failed", False

        def work() -> None:
            self.world.later(ms, self._answer, (run, outcome, retryable), any_life=True)

        if run.pool.definition in self.world.definitions:
            self.world.calls.begin(run, work)
        else:
            work()

    def _answer(self, what: tuple[Run, Outcome, bool]) -> None:
        run, outcome, retryable = what
        if run.ended:
            return
        if run.epoch != self.world.disk.epoch or self.world.scheduler is None:
            run.ended = True
            self.ghost((run.seq, run.attempt, run.epoch))
        elif outcome == "crashed":
            self.crash(run)
        else:
            self.finish(run, outcome, retryable)

    def crash(self, run: Run) -> None:
        """Its instance is gone. It may be wrong about that, and the attempt goes on and answers later."""
        instance = run.instance
        if self.world.rng.random() < self.world.plan.faults.zombie:
            late_ms = self.world.rng.expovariate(1 / (3 * self.world.plan.work_ms))
            self.world.later(late_ms, self._late, run, any_life=True)
        self.lose(instance)
        self.world.feed(inputs.InstanceGone(instance.id, crashed=True))
        self.finish(run, "crashed")

    def _late(self, run: Run) -> None:
        """What a lost attempt says after all. One whose start never came to be is told apart by its run: the number is another's then."""
        if not run.refused:
            self.ghost((run.seq, run.attempt, run.epoch))

    def ghost(self, fence: tuple[int, int, int]) -> None:
        """An answer that nobody asked for any more reaches the journal, if it can at the worst moment: while the task runs again."""
        seq, attempt, epoch = fence
        if self.world.disk.rows[seq].state in WAITING:
            self.world.lurking[seq] = fence
            return
        if self.world.scheduler is None or not self.world.storage_ok:
            self.world.later(20.0, self.ghost, fence, any_life=True)
            return
        verdict = Verdict(TaskState.completed, 0)
        self.world.journal.write(Op(lambda: self.world.disk.end(seq, epoch, attempt, verdict), self._fenced))

    def _fenced(self, hit: bool) -> None:
        self.world.counts["ghosts accepted" if hit else "ghosts fenced off"] += 1

    def finish(self, run: Run, outcome: Outcome, retryable: bool = False) -> None:
        """An attempt ended: its end goes to the journal."""
        assert self.world.scheduler is not None
        run.ended = True
        self.world.calls.end(run)
        verdict = self.world.scheduler.verdict(run.seq, run.attempt, outcome, self.world.now, retryable=retryable)
        op = Op(
            lambda: self.world.disk.end(run.seq, run.epoch, run.attempt, verdict),
            lambda hit: self._ended(run, outcome, retryable, verdict, hit),
            lambda: None if run.refused else self.world.held.append(op),
        )
        self.world.journal.write(op)
        if self.world.stormy and self.world.plan.faults.cancels and self.world.rng.random() < 0.02:
            # Before that end is on disk.
            self.world.later(self.world.rng.random() * self.world.plan.commit_ms, self.cancel, run.seq)

    def cancel(self, seq: int) -> None:
        """Somebody cancels a task, unless it has ended."""
        if self.world.scheduler is not None and not self.world.disk.rows[seq].state.ended:
            self.world.checks.cancel_told(seq)
            self.world.feed(inputs.CancelRequested(seq))

    def _ended(self, run: Run, outcome: Outcome, retryable: bool, verdict: Verdict, hit: bool) -> None:
        if run.refused:
            return
        if not hit:
            raise Violation("no end lost", f"task {run.seq}: the end of its running attempt {run.attempt} was refused")
        self._free(run)
        self.world.last_end_ns = self.world.ns
        self.world.counts[verdict.state.value] += 1
        if verdict.state is TaskState.pending:
            self.world.checks.ready(self.world.disk.rows[run.seq])
        elif verdict.due_mono_ns is not None:
            self.world.retry_ns[run.seq] = verdict.due_mono_ns
        self.world.feed(inputs.TaskEnded(run.seq, run.attempt, outcome, retryable))
        if verdict.state.ended:
            self.ended(run.seq)

    def ended(self, seq: int) -> None:
        """An end is on disk: what follows for the tasks that wait for it?"""
        disk = self.world.disk
        waiting = [one for one in disk.dependents.get(seq, ()) if not disk.rows[one].state.ended]
        for follow in after_end([(one, disk.unmet(one)) for one in waiting if disk.rows[one].blocked]):
            self._follow(follow)

    def follow(self, seq: int) -> None:
        """What becomes of a task that waits for others, as things are now?"""
        self._follow(judge_dependent(seq, self.world.disk.unmet(seq)))

    def _follow(self, follow: Follow) -> None:
        world = self.world
        match follow:
            case Blocked():
                deadline_ms = world.disk.rows[follow.seq].deadline_ms
                if deadline_ms is not None:
                    world.feed(inputs.TaskBlocked(follow.seq, deadline_ms))
            case Release():
                op = Op(
                    lambda: world.disk.release(follow.seq),
                    lambda hit: self._released(follow.seq, hit),
                    lambda: world.held.append(op),
                )
                world.journal.write(op)
            case FailDependent():
                world.counts["dependents failed"] += 1
                self._give_up(follow.seq, TaskState.failed, "failed")

    def _released(self, seq: int, hit: bool) -> None:
        row = self.world.disk.rows[seq]
        if hit:
            self.world.counts["dependents released"] += 1
            if row.state is TaskState.pending:
                self.world.checks.ready(row)
            self.world.feed(inputs.TaskSubmitted(row.ref()))

    def _free(self, run: Run) -> None:
        instance = run.instance
        if self.world.runs.get(run.seq) is run:
            del self.world.runs[run.seq]
        self.world.processes.give(run)
        if instance.busy is run:
            instance.busy = None
            instance.served += 1
            if instance.id in self.world.instances:
                self.world.idle[instance.pool][instance.id] = instance

    def _dead_letter(self, decision: decide.DeadLetter) -> None:
        self.world.counts["dead letters"] += 1
        if not decision.committed:
            self._give_up(decision.seq, TaskState.failed, "failed")

    def _cancel(self, decision: decide.CancelTask) -> None:
        if not decision.running:
            self._give_up(decision.seq, TaskState.cancelled, "cancelled")
        elif (run := self.world.runs.get(decision.seq)) is not None:
            self.world.later(self.world.rng.random() * 5, self._cancel_run, run)

    def _cancel_run(self, run: Run) -> None:
        if not run.ended:
            self.finish(run, "cancelled")

    def _expire(self, decision: decide.ExpireTask) -> None:
        self.world.checks.expiring(self.world.disk.rows[decision.seq])
        self._give_up(decision.seq, TaskState.failed, "expired")

    def _give_up(self, seq: int, state: TaskState, outcome: Outcome) -> None:
        self.world.checks.giving_up(seq)

        def done(hit: bool) -> None:
            self.world.last_end_ns = self.world.ns
            self.world.counts[outcome if hit else "nothing to give up"] += 1
            self.world.feed(inputs.TaskEnded(seq, 0, outcome if hit else "gone"))
            if hit:
                self.ended(seq)

        def failed() -> None:
            # The scheduler decides its own again; what follows from another task's end is nobody's but ours.
            if self.world.disk.rows[seq].blocked:
                self.world.held.append(op)

        op = Op(lambda: self.world.disk.give_up(seq, state), done, failed)
        self.world.journal.write(op)

    def _promote(self, decision: decide.Promote) -> None:
        for seq in decision.seqs:
            if seq not in self.world.hurried:
                self.world.checks.promoting(self.world.disk.rows[seq], self.world.retry_ns.get(seq))
        self.world.journal.write(
            Op(lambda: self.world.disk.promote(decision.seqs), lambda _: self._promoted(decision.seqs))
        )

    def _promoted(self, seqs: tuple[int, ...]) -> None:
        for seq in seqs:
            self.world.checks.promoted(self.world.disk.rows[seq])
        self.world.feed(inputs.Promoted(seqs))

    # -- instances and pages -----------------------------------------------------------------------------------------

    def _spawn(self, decision: decide.SpawnInstance) -> None:
        pool = decision.pool
        self.world.totals[pool] += 1
        self.world.of_definition[self.world.pools[pool].definition] += 1
        self.world.checks.spawning(pool, self.world.totals[pool])
        self.world.later(self.world.rng.expovariate(1 / 5.0), self._spawned, self.world.pools[pool])

    def _spawned(self, pool: PoolChanged) -> None:
        if self.world.stormy and self.world.rng.random() < self.world.plan.faults.spawn_fails:
            self.world.totals[pool.name] -= 1
            self.world.of_definition[pool.definition] -= 1
            self.world.feed(inputs.SpawnFailed(pool.name, "no memory"))
            return
        self.world.counts["instances"] += 1
        instance = Instance(f"i-{self.world.counts['instances']}", pool.name, pool.definition)
        self.world.instances[instance.id] = self.world.idle[pool.name][instance.id] = instance
        self.world.feed(inputs.InstanceReady(instance.id, pool.name, revision=pool.revision))

    def _retire(self, decision: decide.RetireInstance) -> None:
        instance = self.world.instances[decision.id]
        if instance.busy is not None:
            raise Violation("retirement", f"{instance.id} retired while it runs task {instance.busy.seq}")
        instance.leaving = True
        self.world.counts["retired"] += 1
        self.world.idle[instance.pool].pop(instance.id, None)
        self.world.later(self.world.rng.expovariate(1 / 2.0), self._retired, instance)

    def _retired(self, instance: Instance) -> None:
        if instance.id in self.world.instances:
            self.lose(instance)
            self.world.feed(inputs.InstanceGone(instance.id))

    def lose(self, instance: Instance) -> None:
        """An instance is no more."""
        del self.world.instances[instance.id]
        self.world.idle[instance.pool].pop(instance.id, None)
        self.world.totals[instance.pool] -= 1
        self.world.of_definition[instance.definition] -= 1

    def _note_backoffs(self, page: inputs.DueLoaded) -> None:
        """From here on the monotonic clock counts for these, too."""
        for task in page.tasks:
            if task.retrying and task.due_ms is not None:
                longest_ms = 2 * self.world.queues[task.queue].retry.max_delay_ms
                due_ns = self.world.ns + min(max(0, task.due_ms - self.world.now.wall_ms), longest_ms) * _MS
                self.world.retry_ns[task.seq] = min(due_ns, self.world.retry_ns.get(task.seq, due_ns))

    def _load(self, decision: decide.LoadPage | decide.LoadClasses | decide.LoadDue | decide.LoadDeadlines) -> None:
        self.world.counts["pages"] += 1
        self.world.later(self.world.rng.expovariate(1 / 0.3), self._read, decision)

    def _read(self, decision: decide.LoadPage | decide.LoadClasses | decide.LoadDue | decide.LoadDeadlines) -> None:
        """A page shows the disk as it was at some moment before the scheduler gets it."""
        disk, load = self.world.disk, decision.load
        answer: inputs.Input
        match decision:
            case decide.LoadPage():
                answer = inputs.PageLoaded(load, decision.key, *disk.page(decision.key, decision.after, decision.limit))
            case decide.LoadClasses():
                answer = inputs.ClassesLoaded(load, *disk.classes(decision.after, decision.limit))
            case decide.LoadDue():
                answer = inputs.DueLoaded(load, *disk.due(decision.after, decision.limit))
                self._note_backoffs(answer)
            case decide.LoadDeadlines():
                answer = inputs.DeadlinesLoaded(load, *disk.deadlines(decision.after, decision.limit))
        self.world.later(self.world.rng.expovariate(1 / 0.3), self.world.feed, answer)
