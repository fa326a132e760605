"""Ready tasks: their classes, which pools each is offered to, and the pages that refill them."""

from __future__ import annotations

from itertools import count

from engine.scheduling import gates
from engine.scheduling.classes import ClassTable, ReadyClass
from engine.scheduling.decisions import Decision, LoadClasses, LoadPage, ParkClass, UnparkClass
from engine.scheduling.fleet import Fleet
from engine.scheduling.inputs import ClassesLoaded, ClassKey, Criteria, Now, QueueChanged, RetryPolicy, TaskRef
from engine.scheduling.pools import Pool
from engine.scheduling.task import READY, Task

_DEFAULT_POLICY = RetryPolicy()


class ReadySet:
    """The classes in memory, the queues they belong to, and what the pools are offered.

    `tasks` is shared with the backlog: every task in memory by seq. A task that a class has no room for leaves it."""

    def __init__(
        self, fleet: Fleet, tasks: dict[int, Task], loads: count[int], *, window: int, classes: int, rotate_ms: int
    ) -> None:
        self.queues: dict[str, QueueChanged] = {}
        self.paused_since_ms: dict[str, int] = {}
        self.table = ClassTable(classes)
        self._fleet = fleet
        self._tasks = tasks
        self._loads = loads
        self._window = window
        self._rotate_ns = rotate_ms * 1_000_000

    def put(self, task: Task, now: Now, out: list[Decision]) -> None:
        """Put a task whose row is `pending` into its class, in memory if it is among the first there."""
        ref = task.ref
        key = (ref.queue, ref.tenant, ref.criteria)
        table = self.table
        cls = table.by_key.get(key)
        if cls is None:
            if not table.room():
                table.missed()
                self._tasks.pop(ref.seq, None)
                return
            cls = self._new_class(ClassKey(*key), now)
        window = cls.window
        first = window.first()
        if first is None:
            table.rested.pop(key, None)
        row = (ref.rank, ref.seq, task)
        left = window.add(row)
        if left is not None:
            self._tasks.pop(left[1], None)
            if left is row:
                if cls.parked is not None:
                    self._announce(cls, out)
                self.want_page(cls, out)
                return
        task.state = READY
        self._tasks[ref.seq] = task
        if ref.adapters:
            self._fleet.ahead.adapters = True
        if (first is None or row < first) and cls.open:
            cls.offered = True
            for pool in cls.pools:
                pool.offer(cls, ref.rank, ref.seq)
        if cls.offered:
            touched = self._fleet.touched
            for pool in cls.pools:
                touched[pool] = None

    def put_page(self, cls: ReadyClass, fresh: list[Task], out: list[Decision]) -> None:
        """Put the tasks of a page, none of which is known, into their class."""
        window, tasks = cls.window, self._tasks
        for task in fresh:
            ref = task.ref
            task.state = READY
            tasks[ref.seq] = task
            if ref.adapters:
                self._fleet.ahead.adapters = True
            left = window.add((ref.rank, ref.seq, task))
            if left is not None:
                del tasks[left[1]]
        first = window.first()
        if first is not None and cls.open:
            cls.offered = True
            for pool in cls.pools:
                pool.offer(cls, first[0], first[1])
                self._fleet.touched[pool] = None
        self._note_rest(cls)
        self.want_page(cls, out)

    def take(self, cls: ReadyClass, task: Task, now: Now, out: list[Decision]) -> None:
        """A task of an offered class starts: its first one, or one that goes before it."""
        row = cls.window.first()
        if row is not None and row[2] is task:
            cls.window.pop()
        else:
            cls.window.remove(task.ref.rank, task.ref.seq)
        cls.active_ns = now.mono_ns
        self.table.started = True
        self._first_changed(cls)
        self.want_page(cls, out)

    def remove(self, task: Task, out: list[Decision]) -> None:
        """A task leaves its class before its turn."""
        ref = task.ref
        cls = self.table.by_key.get((ref.queue, ref.tenant, ref.criteria))
        if cls is None:
            return
        first = cls.window.first()
        if cls.window.remove(ref.rank, ref.seq) and first is not None and first[1] == ref.seq:
            self._first_changed(cls)
        self.want_page(cls, out)

    # -- queues and pools change -------------------------------------------------------------------------------------

    def queue_changed(self, inp: QueueChanged, now: Now, out: list[Decision]) -> None:
        self.queues[inp.name] = inp
        if not inp.paused:
            self.paused_since_ms.pop(inp.name, None)
        else:
            self.paused_since_ms.setdefault(inp.name, now.wall_ms)
        self.refresh(now, out, inp.name)

    def queue_removed(self, name: str, now: Now, out: list[Decision]) -> None:
        if self.queues.pop(name, None) is not None:
            self.paused_since_ms.pop(name, None)
            self.refresh(now, out, name)
            for pool in self._fleet.pools.values():
                pool.lines.pop(name, None)

    def refresh(self, now: Now, out: list[Decision], queue: str | None = None) -> None:
        """Look again at which pools serve which class, of one queue or of all."""
        for cls in self.table.by_key.values():
            if queue is None or cls.key.queue == queue:
                for pool in cls.pools:
                    pool.withdraw(cls)
                self._place(cls, now)
                if cls.parked is not None and cls.waiting:
                    self._announce(cls, out)
                elif cls.parked is None and cls.announced:
                    cls.announced = False
                    out.append(UnparkClass(cls.key))
                self.want_page(cls, out)

    def pools_for(self, queue: QueueChanged | None, criteria: Criteria) -> list[Pool]:
        """The pools that serve tasks with these criteria, in their queue's order of preference."""
        if queue is None:
            return []
        pools = [self._fleet.pools[name] for name in queue.pools if name in self._fleet.pools]
        return [pool for pool in pools if gates.serves(pool.spec, criteria)]

    def probe(self, key: ClassKey) -> ReadyClass:
        """The class of this key; if it is not in memory, one like it that nobody else sees."""
        cls = self.table.by_key.get(key)
        if cls is None:
            cls = ReadyClass(key, 1, unknown=True)
            queue = self.queues.get(key.queue)
            cls.pools = self.pools_for(queue, cls.criteria)
            if not cls.pools:
                cls.parked = gates.NO_QUEUE if queue is None else gates.NO_WORKER
        return cls

    def policy_of(self, ref: TaskRef) -> RetryPolicy:
        queue = self.queues.get(ref.queue)
        return _DEFAULT_POLICY if queue is None else queue.retry

    # -- pages -------------------------------------------------------------------------------------------------------

    def want_page(self, cls: ReadyClass, out: list[Decision]) -> None:
        window = cls.window
        if window.edge is not None and cls.open and window.wants_page():
            load = next(self._loads)
            out.append(LoadPage(load, cls.key, *window.begin_load(load)))

    def fill(self, now: Now, out: list[Decision]) -> None:
        """Look for classes that are on disk only: at once while there is room for them, else when it is their turn."""
        table = self.table
        if table.overflow and not table.load:
            room = len(table.by_key) < table.limit or bool(table.rested)
            if room or (now.mono_ns >= table.next_ns and self.turn_over()):
                table.started = False
                table.load = next(self._loads)
                table.next_ns = now.mono_ns + self._rotate_ns
                out.append(LoadClasses(table.load, table.cursor, max(1, table.limit >> 2)))

    def turn_over(self) -> bool:
        """Whether classes on disk could do better than those in memory: these have had a start, or leave a pool without work."""
        return self.table.started or not all(pool.offered for pool in self._fleet.pools.values())

    def drop_loads(self, out: list[Decision]) -> None:
        """Ask again for pages that may never come."""
        self.table.load = 0
        for cls in self.table.by_key.values():
            cls.window.drop_load()
            self.want_page(cls, out)

    def classes_loaded(self, inp: ClassesLoaded, now: Now, out: list[Decision]) -> None:
        table = self.table
        if not inp.load or table.load != inp.load:
            return
        victims: list[ReadyClass] | None = None
        for summary in inp.classes:
            if summary.key in table.by_key:
                continue
            if not table.room():
                if victims is None:
                    victims = table.victims(now.mono_ns - self._rotate_ns)
                table.missed()
                if not victims or not self._servable(summary.key):
                    continue
                self._drop_class(victims.pop())
            cls = self._new_class(summary.key, now, unknown=True)
            cls.window.beyond = summary.count
            if cls.parked is not None:
                self._announce(cls, out)
            self.want_page(cls, out)
        table.end_load(inp.classes[-1].key if inp.more and inp.classes else None)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _new_class(self, key: ClassKey, now: Now, *, unknown: bool = False) -> ReadyClass:
        # While classes may be on disk only, this one may have older rows there.
        cls = ReadyClass(key, self._window, unknown=unknown or self.table.overflow)
        cls.active_ns = now.mono_ns
        self.table.by_key[key] = cls
        self._place(cls, now)
        return cls

    def _drop_class(self, cls: ReadyClass) -> None:
        """Leave a class and its tasks to the disk."""
        for pool in cls.pools:
            pool.withdraw(cls)
        for row in cls.window.forget():
            del self._tasks[row[1]]
        del self.table.by_key[cls.key]

    def _place(self, cls: ReadyClass, now: Now) -> None:
        """Find the pools of a class, and offer or park it."""
        queue = self.queues.get(cls.key.queue)
        cls.pools = self.pools_for(queue, cls.criteria)
        cls.open = bool(cls.pools) and gates.queue_gate(queue) is None
        if cls.pools:
            cls.parked = None
        elif cls.parked is None:
            cls.parked = gates.NO_QUEUE if queue is None else gates.NO_WORKER
            cls.since_ms = now.wall_ms
            for row in cls.window.forget():
                del self._tasks[row[1]]
            self.table.rested.pop(cls.key, None)
        first = cls.window.first()
        cls.offered = cls.open and first is not None
        if cls.offered and first is not None:
            for pool in cls.pools:
                pool.offer(cls, first[0], first[1])
                self._fleet.touched[pool] = None

    def _first_changed(self, cls: ReadyClass) -> None:
        first = cls.window.first()
        if first is None:
            cls.offered = False
            for pool in cls.pools:
                pool.withdraw(cls)
            self._note_rest(cls)
        elif cls.offered:
            for pool in cls.pools:
                pool.offer(cls, first[0], first[1])

    def _note_rest(self, cls: ReadyClass) -> None:
        if cls.window.edge is None and not len(cls.window):
            self.table.rested[cls.key] = None

    def _announce(self, cls: ReadyClass, out: list[Decision]) -> None:
        if not cls.announced:
            cls.announced = True
            out.append(ParkClass(cls.key, park_reason(cls)))

    def _servable(self, key: ClassKey) -> bool:
        queue = self.queues.get(key.queue)
        return gates.queue_gate(queue) is None and bool(self.pools_for(queue, Criteria.parse(key.criteria)))


def park_reason(cls: ReadyClass) -> str:
    """Why nobody can serve this class, in one sentence."""
    if cls.parked == gates.NO_QUEUE:
        return f'queue "{cls.key.queue}" does not exist'
    wanted = []
    if cls.criteria.definition is not None:
        wanted.append(f'definition "{cls.criteria.definition}"')
    wanted.extend(f'capability "{name}"' for name in sorted(cls.criteria.capabilities))
    if not wanted:
        return f'no pool serves queue "{cls.key.queue}"'
    return f'no pool of queue "{cls.key.queue}" has {" and ".join(wanted)}'
