"""The promises, checked against books of the world's own: none of them asks the scheduler what it thinks it did."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from engine.contract.states import TaskState
from engine.scheduling.ahead import SHORT_MS
from engine.scheduling.decisions import DenyBudget, MoreReplicas, Prefetch, StartTask
from engine.scheduling.inputs import ClassKey, Criteria, DefinitionChanged, Key, Now, PoolChanged
from engine.scheduling.simulation.books import Books
from engine.scheduling.simulation.disk import Row
from engine.scheduling.simulation.passing import Passing
from engine.scheduling.task import READY

if TYPE_CHECKING:
    from engine.scheduling.simulation.processes import Process
    from engine.scheduling.simulation.workforce import Instance
    from engine.scheduling.simulation.world import World


class Violation(AssertionError):
    """A promise was broken. `promise` is its name, the text what happened."""

    def __init__(self, promise: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise


MOST_TURNS = 3
"""So many starts of one tenant may a waiting tenant of the same queue see before its own."""


def limited(limits: DefinitionChanged) -> bool:
    """Whether windows may keep tasks from starting."""
    return bool(limits.requests_per_minute or limits.tokens_per_minute or limits.tokens_per_day)


class Checks:
    """`ready` are the tasks that the scheduler was told are ready and has not been told otherwise, in order, class by class."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._running: dict[int, tuple[int, int]] = {}  # what runs by the disk's word: seq -> (epoch, attempt)
        self._ready: dict[ClassKey, list[Key]] = {}
        self._ready_seqs: set[int] = set()
        self._given_up: set[int] = set()  # tasks that this engine's scheduler decided to end while they waited
        self._promoted: set[int] = set()  # tasks that it decided to make ready and that are not yet
        self._cancelled: set[int] = set()  # cancels that it was told of
        self._rivals: dict[str, list[ClassKey]] = {}
        # By pool, queue and tenant: its first task, and the starts of each other tenant that it saw.
        self._passed: dict[tuple[str, str, str], tuple[Key, dict[str, int]]] = {}
        self._books = Books()
        self._passing = Passing(world)

    # -- the disk ----------------------------------------------------------------------------------------------------

    def started(self, row: Row) -> None:
        if row.completions or row.state is not TaskState.processing:
            raise Violation("none completed twice", f"task {row.seq} started again after it had ended")
        self._running[row.seq] = (row.epoch, row.attempt)

    def ending(self, row: Row, epoch: int, attempt: int, completed: bool) -> None:
        """The disk is about to accept this end."""
        running = self._running.pop(row.seq, None)
        if completed and row.completions:
            raise Violation(
                "none completed twice", f"task {row.seq} completed again by attempt {attempt} of epoch {epoch}"
            )
        if running != (epoch, attempt):
            raise Violation("fence", f"task {row.seq}: end of {(epoch, attempt)} accepted while {running} was running")

    def rebooted(self) -> None:
        """A new engine: nothing runs, and what is pending on disk is ready."""
        self._running.clear()
        self._given_up.clear()
        self._promoted.clear()
        self._cancelled.clear()
        self._ready.clear()
        self._ready_seqs.clear()
        self._rivals.clear()
        self._passed.clear()
        self._passing.rebooted()
        kept, clock_ms = self._world.kept, self._world.wall_offset_ms
        self._books.rebooted({name for name, (_, by_clock_ms) in kept.items() if by_clock_ms != clock_ms})
        for row in self._world.disk.rows.values():
            if row.state is TaskState.pending and not row.blocked:
                self.ready(row)

    # -- what the scheduler is told ----------------------------------------------------------------------------------

    def ready(self, row: Row) -> None:
        if row.seq not in self._ready_seqs and row.seq not in self._given_up:
            self._ready_seqs.add(row.seq)
            if row.key not in self._ready:
                self._ready[row.key] = []
                self._rivals.clear()
            heappush(self._ready[row.key], (row.rank, row.seq))

    def promoted(self, row: Row) -> None:
        self._promoted.discard(row.seq)
        # Decided and committed twice after a storage failure: its start may be on its way to the disk already.
        if row.state is TaskState.pending and row.seq not in self._world.runs:
            self.ready(row)

    def giving_up(self, seq: int) -> None:
        self._given_up.add(seq)
        self._ready_seqs.discard(seq)

    def cancel_told(self, seq: int) -> None:
        self._cancelled.add(seq)
        self._ready_seqs.discard(seq)

    def specs_changed(self) -> None:
        self._rivals.clear()
        self._passed.clear()

    # -- what it decides ---------------------------------------------------------------------------------------------

    def starting(self, row: Row, instance: Instance | None, start: StartTask) -> None:
        """StartTask was decided; the books do not have it yet."""
        world, pool_name = self._world, start.pool
        what = f"task {row.seq} on {pool_name}"
        if instance is None or instance.pool != pool_name or instance.leaving:
            raise Violation("one task per instance", f"{what}: no such instance, or one that is leaving")
        if instance.busy:
            raise Violation("one task per instance", f"{what}: {instance.id} has a task")
        if not world.storage_ok or not world.dispatch:
            raise Violation("gates", f"{what} while the engine starts nothing")
        pool, queue = world.pools.get(pool_name), world.queues[row.key.queue]
        if pool is None or pool.paused or queue.paused:
            raise Violation("gates", f"{what} while the pool or {queue.name} is paused or gone")
        criteria = Criteria.parse(row.key.criteria)
        named = criteria.definition in (None, pool.definition)
        if pool_name not in queue.pools or not named or not criteria.capabilities <= pool.capabilities:
            raise Violation("criteria", f"{what} of {queue.name}, which asks for {row.key.criteria}")
        process = self._check_workforce(what, pool, instance, start.replica)
        for other in row.after:
            if world.disk.rows[other].state is not TaskState.completed:
                raise Violation("dependencies", f"{what} before task {other}, which is {world.disk.rows[other].state}")
        if row.deadline_ms is not None and row.deadline_ms <= world.now.wall_ms:
            raise Violation("deadline", f"{what} started after its deadline")
        # A page may be older than the task's end; the disk refuses such a start.
        if row.seq in self._cancelled and not row.state.ended:
            raise Violation("cancel", f"{what} started after its cancel")
        # Its turn is used up, also if the disk will refuse the start because a page was older than the task's end.
        self._passed.pop((pool_name, row.key.queue, row.key.tenant), None)
        if row.seq in self._ready_seqs:
            self._ready_seqs.remove(row.seq)
            self._check_order(row, pool, process)
            self._check_turns(row, pool_name)

    def _check_workforce(self, what: str, pool: PoolChanged, instance: Instance, replica: str | None) -> Process | None:
        """May this instance of this pool work now? Returns the process that does."""
        world = self._world
        process = None
        if pool.model is not None:
            process = world.processes.by_model[pool.model].get(replica or "")
            if process is None or process.full:
                raise Violation("model slots", f"{what}: no slot of {pool.model}'s {replica} is free")
        elif replica is not None:
            raise Violation("model slots", f"{what} has a slot of {replica} and needs none")
        if pool.max_tasks and instance.served >= pool.max_tasks:
            raise Violation("retirement", f"{what} on {instance.id}, which has run {instance.served} tasks already")
        if (limits := world.definitions.get(pool.definition)) is not None and not limits.active:
            raise Violation("gates", f"{what} while {pool.definition} is not active")
        return process

    def prefetching(self, decision: Prefetch, process: Process | None) -> None:
        """Prefetch was decided: only for a process that is up and lacks just these."""
        what = f"{decision.adapters} for {decision.replica}"
        if process is None or process.total == 0:
            raise Violation("prefetch", f"{what}, which is not up")
        if not decision.adapters or process.told.intersection(decision.adapters):
            raise Violation("prefetch", f"{what}, which has {sorted(process.told)}")

    def growing(self, decision: MoreReplicas, processes: list[Process]) -> None:
        """MoreReplicas was decided: only while work waits and some process is up."""
        if decision.waiting < 1 or decision.short_ms < SHORT_MS:
            raise Violation("growth", f"{decision} without need")
        if all(process.total == 0 for process in processes):
            raise Violation("growth", f"{decision} while none is up")

    def spawning(self, pool_name: str, total: int) -> None:
        """SpawnInstance was decided; `total` instances exist or are on their way with it."""
        pool = self._world.pools.get(pool_name)
        if pool is None or total > pool.max_total:
            raise Violation("pool max_total", f"{pool_name} would have {total} instances: {pool}")
        limits = self._world.definitions.get(pool.definition)
        if limits is not None and not limits.active:
            raise Violation("gates", f"{pool_name} has another instance while {pool.definition} is not active")
        self.limits(pool.definition)

    def limits(self, definition: str) -> None:
        """There is another instance of this definition."""
        world = self._world
        limits = world.definitions.get(definition)
        total = world.of_definition[definition] + world.outsiders.get(definition, 0)
        if limits is not None and limits.max_instances and total > limits.max_instances:
            raise Violation("max instances", f"{total} of {definition}, at most {limits.max_instances}")
        total = sum(world.totals.values()) + sum(world.outsiders.values())
        if world.max_instances and total > world.max_instances:
            raise Violation("max instances", f"{total} in the engine, at most {world.max_instances}")

    # -- calls -------------------------------------------------------------------------------------------------------

    def budget_granted(self, definition: str, number: int, tokens: int) -> None:
        limits = self._world.definitions[definition]
        passed = self._books.grant(limits, number, tokens, self._world.now)
        if passed is not None:
            raise Violation("budget", f"{definition}: {passed}")
        if not limits.active:
            raise Violation("budget", f"{definition} is not active, and a call is granted")

    def budget_stored(self, number: int) -> None:
        self._books.stored(number)

    def budget_denied(self, definition: str, tokens: int, decision: DenyBudget) -> None:
        limits = self._world.definitions[definition]
        largest = min((limit for limit in (limits.tokens_per_minute, limits.tokens_per_day) if limit), default=tokens)
        never = tokens > largest or not limits.active
        if (decision.until_ms is None) != never:
            raise Violation("budget", f"{definition}: a call of {tokens} tokens denied for ever, or not: {decision}")
        if decision.until_ms is not None and decision.until_ms < self._world.now.wall_ms:
            raise Violation("budget", f"{definition}: denied until {decision.until_ms}, which is past")

    def budget_settled(self, number: int, tokens: int) -> None:
        self._books.settle(number, tokens)

    def budget_over(self, definition: str, tokens: int, at: Now) -> None:
        self._books.over(definition, tokens, at)

    def expiring(self, row: Row) -> None:
        """ExpireTask was decided. After a storage failure it is decided again, and a clock may have gone back meanwhile."""
        early = row.deadline_ms is None or row.deadline_ms > self._world.now.wall_ms
        if early and row.seq not in self._given_up:
            raise Violation("deadline", f"task {row.seq} expired before its deadline {row.deadline_ms}")

    def promoting(self, row: Row, due_ns: int | None) -> None:
        """Promote was decided, for the first time or, after a storage failure, again."""
        if row.seq in self._promoted:
            return
        self._promoted.add(row.seq)
        now = self._world.now
        # A backoff that is read from its row is known to the millisecond only.
        if row.due_ms is not None and now.wall_ms < row.due_ms and (due_ns is None or now.mono_ns < due_ns - 2_000_000):
            raise Violation("due", f"task {row.seq} made ready {row.due_ms - now.wall_ms} ms too early")

    # -- order, work, memory -----------------------------------------------------------------------------------------

    def _first(self, key: ClassKey) -> Key | None:
        heap = self._ready[key]
        while heap and heap[0][1] not in self._ready_seqs:
            heappop(heap)
        return heap[0] if heap else None

    def _rivals_of(self, pool_name: str) -> list[ClassKey]:
        """The classes with ready tasks, ever, that a pool serves now."""
        rivals = self._rivals.get(pool_name)
        if rivals is None:
            rivals = [key for key in self._ready if pool_name in self._world.serving(key)]
            self._rivals[pool_name] = rivals
        return rivals

    def _check_order(self, row: Row, pool: PoolChanged, process: Process | None) -> None:
        own, pool_name = (row.rank, row.seq), pool.name
        slack_ms = self._passing.slack_ms(process)
        first = self._first(row.key)
        if first is not None and first < own:
            before = [key[1] for key in self._ready[row.key] if key < own and key[1] in self._ready_seqs]
            passed = [self._world.disk.rows[seq] for seq in before if self._in_memory(seq)]
            why = self._passing.refusal(row, pool, process, passed)
            if why is not None:
                what = f"task {row.seq} (rank {row.rank}) before {first[1]} (rank {first[0]})"
                raise Violation("order in a class", f"{what}: {why}")
        firsts = [(key, seen) for key in self._rivals_of(pool_name) if (seen := self._startable(key)) is not None]
        # Queues compete by the first of all their tasks, whichever tenant's turn it then is. One that is not in memory may have been when
        # this was decided, so it counts for its queue and not against others.
        rivals = [self._first(key) for key in self._rivals_of(pool_name) if key.queue == row.key.queue]
        best = min([own, *(seen for seen in rivals if seen is not None)])
        for key, seen in firsts:
            equal = bool(slack_ms) and best[0] - seen[0] <= slack_ms
            if key.queue != row.key.queue and seen < best and not equal and not self._phantom(row.key.queue, seen):
                raise Violation(
                    "rank order",
                    f"task {row.seq} of {row.key.queue} (first rank {best[0]}) before {seen[1]} on {pool_name}",
                )
            equal = bool(slack_ms) and own[0] - seen[0] <= slack_ms
            if key.queue == row.key.queue and key.tenant == row.key.tenant and seen < own and not equal:
                raise Violation(
                    "rank order", f"task {row.seq} (rank {row.rank}) before {seen[1]} (rank {seen[0]}) on {pool_name}"
                )

    def _phantom(self, queue: str, before: Key) -> bool:
        """Whether the scheduler believes in a task of the queue that goes before this place and is not ready any more: a page may be older
        than the task's end, and only the disk can tell."""
        scheduler = self._world.scheduler
        return scheduler is not None and any(
            task.state == READY and task.ref.queue == queue and (task.ref.rank, seq) < before
            for seq, task in scheduler.backlog.tasks.items()
            if seq not in self._ready_seqs
        )

    def _check_turns(self, row: Row, pool_name: str) -> None:
        """A tenant that has something to start sees only so many starts of each other tenant of its queue before its own."""
        queue, starter = row.key.queue, row.key.tenant
        waiting: dict[str, Key] = {}
        for key in self._rivals_of(pool_name):
            if key.queue == queue and key.tenant != starter and (seen := self._startable(key)) is not None:
                waiting[key.tenant] = min(seen, waiting.get(key.tenant, seen))
        for tenant in self._world.plan.tenants:
            place = (pool_name, queue, tenant)
            first = waiting.get(tenant)
            if first is None:
                self._passed.pop(place, None)
                continue
            # Another first task: what was the first is gone, and the tenant may have been away meanwhile.
            passed = self._passed.get(place)
            if passed is None or passed[0] != first:
                passed = self._passed[place] = (first, {})
            counts = passed[1]
            counts[starter] = counts.get(starter, 0) + 1
            if counts[starter] > MOST_TURNS:
                text = f'"{starter}" had {counts[starter]} starts on {pool_name} while "{tenant}" waited'
                raise Violation("tenant turns", text)

    def _startable(self, key: ClassKey) -> Key | None:
        """The first ready task of a class, if it is in memory and its queue lets it start."""
        first = self._first(key)
        if first is None or self._world.queues[key.queue].paused or not self._in_memory(first[1]):
            return None
        return first

    def _in_memory(self, seq: int) -> bool:
        scheduler = self._world.scheduler
        task = None if scheduler is None else scheduler.backlog.tasks.get(seq)
        return task is not None and task.state == READY

    def idleness(self) -> None:
        """No worker is idle while a task in memory could start on it."""
        world = self._world
        if not world.storage_ok or not world.dispatch:
            return
        for pool in world.pools.values():
            if pool.paused or not world.idle.get(pool.name):
                continue
            limits = world.definitions.get(pool.definition)
            if limits is not None and (not limits.active or limited(limits)):
                continue
            if pool.model is not None and not world.processes.free(pool.model):
                continue
            for key in self._rivals_of(pool.name):
                first = self._startable(key)
                if first is not None:
                    raise Violation("no idle worker", f"task {first[1]} waits while {pool.name} has an idle instance")

    def memory(self) -> None:
        scheduler = self._world.scheduler
        if scheduler is None:
            return
        config, backlog = scheduler.config, scheduler.backlog
        classes = len(backlog.ready.table.by_key)
        if classes > config.classes:
            raise Violation("memory", f"{classes} classes in memory, {config.classes} allowed")
        # Due tasks are promoted in bulk, and a forward jump of the clock may free the window of retries that go on waiting.
        bound = config.classes * config.window + 3 * config.later + scheduler.running
        if len(backlog.tasks) > bound:
            raise Violation("memory", f"{len(backlog.tasks)} tasks in memory, at most {bound} allowed")
