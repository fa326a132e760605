"""What waits: classes of ready tasks, tasks that wait for a time, deadlines. In memory only so much of each; the rest by page."""

from __future__ import annotations

from itertools import count

from engine.scheduling.decisions import CancelTask, DeadLetter, Decision, ExpireTask, LoadDeadlines, LoadDue, Promote
from engine.scheduling.fleet import Fleet
from engine.scheduling.inputs import BOTTOM, DeadlinesLoaded, DueLoaded, Now, PageLoaded, TaskRef
from engine.scheduling.later import Later
from engine.scheduling.ready import ReadySet
from engine.scheduling.retry import crash_limit
from engine.scheduling.task import LATER, PROMOTING, READY, RUNNING, Task
from engine.scheduling.window import Window

_MS = 1_000_000


class Backlog:
    """All waiting tasks. `tasks` holds those in memory, and the running ones; `leaving` what was decided to end while it waited and has not
    been confirmed yet."""

    def __init__(
        self, fleet: Fleet, *, window: int, classes: int, later: int, rotate_ms: int, max_crashes: int
    ) -> None:
        self.tasks: dict[int, Task] = {}
        self.leaving: dict[int, Decision] = {}
        self._loads = count(1)
        self.ready = ReadySet(fleet, self.tasks, self._loads, window=window, classes=classes, rotate_ms=rotate_ms)
        self.later = Later(later)
        self.promoting = 0
        self.deadlines: Window[None] = Window(later)
        self._max_crashes = max_crashes

    # -- tasks come --------------------------------------------------------------------------------------------------

    def submitted(self, ref: TaskRef, now: Now, out: list[Decision]) -> None:
        known = self.tasks.get(ref.seq)
        if known is not None:
            # Made ready by hand while it waited for its time, or moved; anything else is a row that a page told of already.
            hurried = known.state in (LATER, PROMOTING) and ref.due_ms is None
            moved = known.state == READY and _place(known.ref) != _place(ref)
            if not hurried and not moved:
                return
            self.withdraw(known, out)
        if ref.deadline_ms is not None and not self.deadlines.holds(ref.deadline_ms, ref.seq):
            self.deadlines.add((ref.deadline_ms, ref.seq, None))
        self.admit(ref, now, out)

    def blocked(self, seq: int, deadline_ms: int) -> None:
        """Watch the deadline of a row that waits for other tasks."""
        if seq not in self.tasks and seq not in self.leaving and not self.deadlines.holds(deadline_ms, seq):
            self.deadlines.add((deadline_ms, seq, None))

    def admit(self, ref: TaskRef, now: Now, out: list[Decision]) -> None:
        """Take in a row that waits, unless it is known."""
        seq = ref.seq
        if seq in self.tasks or seq in self.leaving:
            return
        if self._is_dead(ref, out):
            return
        task = Task(ref)
        if ref.due_ms is None:
            self.ready.put(task, now, out)
        else:
            if ref.retrying:
                # The row has only the wall clock's word; a backoff read from it may not be longer than any backoff is.
                longest = self.ready.policy_of(ref).max_delay_ms * 2
                task.due_ns = now.mono_ns + min(max(ref.due_ms - now.wall_ms, 0), longest) * _MS
            self.delay(task)

    def delay(self, task: Task) -> None:
        """Hold a task until its `due_ms` (and `due_ns`)."""
        self.tasks[task.ref.seq] = task
        left = self.later.add(task)
        if left is not None:
            del self.tasks[left.ref.seq]

    # -- tasks go ----------------------------------------------------------------------------------------------------

    def withdraw(self, task: Task, out: list[Decision]) -> None:
        """Take a waiting task out of memory."""
        ref = task.ref
        del self.tasks[ref.seq]
        if ref.deadline_ms is not None:
            self.deadlines.remove(ref.deadline_ms, ref.seq)
        if task.state == LATER:
            self.later.remove(task)
        elif task.state == PROMOTING:
            self.promoting -= 1
        else:
            self.ready.remove(task, out)

    def cancel(self, seq: int, out: list[Decision]) -> None:
        """Cancel a task that is not running; it may be on disk only."""
        if seq in self.leaving:
            return
        task = self.tasks.get(seq)
        if task is not None:
            self.withdraw(task, out)
        self._leave(seq, CancelTask(seq, running=False), out)

    def expire(self, seq: int, out: list[Decision]) -> None:
        """End a task whose deadline passed while it waited; it may be on disk only."""
        task = self.tasks.get(seq)
        if seq in self.leaving or (task is not None and task.state == RUNNING):
            return
        if task is not None:
            self.withdraw(task, out)
        self._leave(seq, ExpireTask(seq), out)

    def expire_taken(self, task: Task, out: list[Decision]) -> None:
        """End a task that was the first of its class and turned out to be past its deadline."""
        ref = task.ref
        del self.tasks[ref.seq]
        if ref.deadline_ms is not None:
            self.deadlines.remove(ref.deadline_ms, ref.seq)
        self._leave(ref.seq, ExpireTask(ref.seq), out)

    def advance(self, now: Now, out: list[Decision]) -> None:
        """What the time alone decides."""
        due = self.later.due(now)
        if due:
            self._promote(due, out)
        deadlines = self.deadlines
        while (row := deadlines.first()) is not None and row[0] <= now.wall_ms:
            deadlines.pop()
            self.expire(row[1], out)

    def promote_now(self, seq: int, out: list[Decision]) -> None:
        task = self.tasks.get(seq)
        if task is not None and task.state == LATER:
            self.later.remove(task)
            self._promote([task], out)

    def promoted(self, seqs: tuple[int, ...], now: Now, out: list[Decision]) -> None:
        for seq in seqs:
            task = self.tasks.get(seq)
            if task is not None and task.state == PROMOTING:
                self.promoting -= 1
                task.due_ms = None
                self.ready.put(task, now, out)

    def repeat(self, out: list[Decision]) -> None:
        """After a storage failure: decide again what nobody answered, and ask again for pages that did not come."""
        self.later.window.drop_load()
        self.deadlines.drop_load()
        self.ready.drop_loads(out)
        out.extend(self.leaving.values())
        waiting = tuple(seq for seq, task in self.tasks.items() if task.state == PROMOTING) if self.promoting else ()
        if waiting:
            out.append(Promote(waiting))

    # -- pages -------------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """The disk has rows that nobody told of."""
        self.later.window.edge = BOTTOM
        self.deadlines.edge = BOTTOM
        self.ready.table.missed()

    def page_loaded(self, inp: PageLoaded, out: list[Decision]) -> None:
        cls = self.ready.table.by_key.get(inp.key)
        if cls is None or not inp.load or cls.window.load != inp.load:
            return
        tasks = inp.tasks
        last = (tasks[-1].rank, tasks[-1].seq) if inp.more and tasks else None
        late = cls.window.end_load(len(tasks), last)
        # What was told during the read is newer than what was read.
        newer = {row[1]: row[2] for row in late}
        known, leaving = self.tasks, self.leaving
        fresh = []
        for ref in tasks:
            seq = ref.seq
            if seq not in known and seq not in leaving and seq not in newer and not self._is_dead(ref, out):
                fresh.append(Task(ref))
        fresh += [task for seq, task in newer.items() if seq not in known and seq not in leaving]
        self.ready.put_page(cls, fresh, out)

    def due_loaded(self, inp: DueLoaded, now: Now, out: list[Decision]) -> None:
        window = self.later.window
        if not inp.load or window.load != inp.load:
            return
        last = inp.tasks[-1] if inp.more and inp.tasks else None
        late = window.end_load(len(inp.tasks), None if last is None else (last.due_ms or 0, last.seq))
        newer = {row[1] for row in late}
        for ref in inp.tasks:
            if ref.seq not in newer:
                self.admit(ref, now, out)
        for row in late:
            if row[1] not in self.tasks and row[1] not in self.leaving:
                self.delay(row[2])

    def deadlines_loaded(self, inp: DeadlinesLoaded) -> None:
        window = self.deadlines
        if not inp.load or window.load != inp.load:
            return
        last = inp.deadlines[-1] if inp.more and inp.deadlines else None
        late = window.end_load(len(inp.deadlines), last)
        for key, seq in [*inp.deadlines, *(row[:2] for row in late)]:
            task = self.tasks.get(seq)
            if (task is None or task.state != RUNNING) and seq not in self.leaving and not window.holds(key, seq):
                window.add((key, seq, None))

    def fill(self, now: Now, out: list[Decision]) -> None:
        """Ask for the pages that run low, except those of classes, which are asked for where they run low."""
        later, deadlines = self.later.window, self.deadlines
        if later.edge is not None and later.wants_page() and self.promoting < later.limit:
            load = next(self._loads)
            out.append(LoadDue(load, *later.begin_load(load)))
        if deadlines.edge is not None and deadlines.wants_page():
            load = next(self._loads)
            out.append(LoadDeadlines(load, *deadlines.begin_load(load)))
        if self.ready.table.overflow:
            self.ready.fill(now, out)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _is_dead(self, ref: TaskRef, out: list[Decision]) -> bool:
        """Whether a row has crashed too often to be run again; then it is dead-lettered."""
        reason = crash_limit(ref.crashes, ref.on_crash, self._max_crashes) if ref.crashes else None
        if reason is None:
            return False
        if ref.deadline_ms is not None:
            self.deadlines.remove(ref.deadline_ms, ref.seq)
        self._leave(ref.seq, DeadLetter(ref.seq, reason, committed=False), out)
        return True

    def _promote(self, tasks: list[Task], out: list[Decision]) -> None:
        for task in tasks:
            task.state = PROMOTING
        self.promoting += len(tasks)
        out.append(Promote(tuple(task.ref.seq for task in tasks)))

    def _leave(self, seq: int, decision: Decision, out: list[Decision]) -> None:
        self.leaving[seq] = decision
        out.append(decision)


def _place(ref: TaskRef) -> tuple[str, str, str, int]:
    """Where a ready task stands."""
    return ref.queue, ref.tenant, ref.criteria, ref.rank
