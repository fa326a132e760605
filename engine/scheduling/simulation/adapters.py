"""Many adapters, few places for them: the real scheduler against plain FIFO, on the same tasks.

Tasks come at random and ask for adapters of which some are far more popular than others (Zipf). Each replica holds so many adapters and
drops the one that was used longest ago. `aiwm` is told what each replica has, and its prefetches are performed; `fifo` is the same
scheduler told of slots only: tasks start in order of arrival on the emptiest replica. Everything else, each task's arrival, adapter and
work, is equal in both."""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate

from engine.scheduling.decisions import Decision, Prefetch, SpawnInstance, StartTask, WakeAt
from engine.scheduling.inputs import (
    Input,
    InstanceReady,
    Now,
    PoolChanged,
    QueueChanged,
    ReplicaChanged,
    TaskEnded,
    TaskRef,
    TaskSubmitted,
    Tick,
)
from engine.scheduling.scheduler import Scheduler, SchedulerConfig

_MS = 1_000_000
_START_MS = 1_800_000_000_000


@dataclass(frozen=True)
class Mix:
    """What is simulated. `cache` adapters fit into each of the `replicas`, at least one for each of its `slots`; `work_ms` is a task's mean
    work, `load_ms` what an adapter takes to come there; `load` is the work that comes, as a share of what all slots can do when no task
    ever waits for an adapter."""

    seed: int = 1
    tasks: int = 10_000
    adapters: int = 60
    zipf: float = 1.0
    replicas: int = 3
    slots: int = 4
    cache: int = 8
    work_ms: float = 400.0
    load_ms: float = 250.0
    load: float = 0.6


@dataclass(frozen=True)
class Figures:
    """What came of it. A hit is a start whose adapter was there, `late` one whose adapter was on its way; waits in ms, from a task's
    arrival until its work began. `longest_passed_ms` is how long others went before a task for their adapters' sake, at most."""

    policy: str
    hits: int
    late: int
    misses: int
    loads: int
    wait_ms: float
    wait_p50_ms: float
    wait_p95_ms: float
    wait_p99_ms: float
    wait_max_ms: float
    longest_passed_ms: float
    done_s: float

    @property
    def hit_rate(self) -> float:
        return self.hits / max(1, self.hits + self.late + self.misses)


def compare(mix: Mix) -> tuple[Figures, Figures]:
    """The figures of `aiwm` and of `fifo`."""
    return _World(mix, aware=True).run(), _World(mix, aware=False).run()


@dataclass(frozen=True)
class _Job:
    arrives_ns: int
    adapter: str
    work_ns: int


def _jobs(mix: Mix) -> list[_Job]:
    rng = random.Random(mix.seed)
    names = [f"a{number:03}" for number in range(mix.adapters)]
    weights = list(accumulate(1 / (place + 1) ** mix.zipf for place in range(mix.adapters)))
    gap_ms = mix.work_ms / (mix.replicas * mix.slots) / mix.load
    ms, found = 0.0, []
    for _ in range(mix.tasks):
        ms += rng.expovariate(1 / gap_ms)
        work_ms = rng.expovariate(1 / mix.work_ms)
        found.append(_Job(int(ms * _MS), rng.choices(names, cum_weights=weights)[0], int(work_ms * _MS)))
    return found


class _Shelf:
    """The adapters of a replica, the one that was used longest ago first. One is read at a time."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.ready_ns: OrderedDict[str, int] = OrderedDict()  # by adapter: when it is there
        self.used: dict[str, int] = {}  # by how many tasks it is used now
        self.loader_ns = 0  # when the last one that is being read is there
        self.loads = 0

    def there(self, now_ns: int) -> frozenset[str]:
        return frozenset(name for name, ready_ns in self.ready_ns.items() if ready_ns <= now_ns)

    def bring(self, name: str, now_ns: int, load_ns: int, *, evict: bool) -> int | None:
        """When it is there; None if there is no room for it."""
        if name not in self.ready_ns:
            if len(self.ready_ns) >= self.room:
                idle = next((one for one, at in self.ready_ns.items() if at <= now_ns and not self.used.get(one)), None)
                if idle is None or not evict:
                    return None
                del self.ready_ns[idle]
            self.loader_ns = max(now_ns, self.loader_ns) + load_ns
            self.ready_ns[name] = self.loader_ns
            self.loads += 1
        return self.ready_ns[name]


class _World:
    def __init__(self, mix: Mix, *, aware: bool) -> None:
        self.mix = mix
        self.aware = aware
        self.jobs = _jobs(mix)
        self.load_ns = int(mix.load_ms * _MS)
        self.ns = 0
        wait_ms = SchedulerConfig().affinity_wait_ms if aware else 0
        self.scheduler = Scheduler(SchedulerConfig(window=mix.tasks, affinity_wait_ms=wait_ms))
        self.shelves = {f"m.{number}": _Shelf(mix.cache) for number in range(mix.replicas)}
        self.events: list[tuple[int, int, Input | str]] = []
        self.made = 0
        self.running: dict[int, str] = {}
        self.starts = {"hits": 0, "late": 0, "misses": 0}
        self.waits_ns: list[int] = []
        self.line: dict[int, None] = {}  # tasks that wait, in their order
        self.passed_ns: dict[int, int] = {}
        self.longest_passed_ns = 0
        self.wake_ns = -1

    def run(self) -> Figures:
        slots = self.mix.replicas * self.mix.slots
        for name in self.shelves:
            self.tell(name)
        self.feed(PoolChanged("p", "goat", min_idle=slots, max_total=slots, model="m"))
        self.feed(QueueChanged("q", ("p",)))
        for seq, job in enumerate(self.jobs, 1):
            ref = TaskRef(seq, "q", _START_MS + job.arrives_ns // _MS, adapters=(job.adapter,))
            self.at(job.arrives_ns, TaskSubmitted(ref))
        while self.events:
            self.ns, _, what = heappop(self.events)
            if isinstance(what, str):
                self.tell(what)
            elif not isinstance(what, Tick) or self.wake_ns == self.ns:
                if isinstance(what, TaskSubmitted):
                    self.line[what.task.seq] = None
                elif isinstance(what, TaskEnded):
                    self.shelves[self.running.pop(what.seq)].used[self.jobs[what.seq - 1].adapter] -= 1
                self.feed(what)
        return self.figures()

    def at(self, ns: int, what: Input | str) -> None:
        self.made += 1
        heappush(self.events, (ns, self.made, what))

    def tell(self, replica: str) -> None:
        there = self.shelves[replica].there(self.ns) if self.aware else frozenset()
        self.feed(ReplicaChanged("m", replica, self.mix.slots, resident=there))

    def feed(self, inp: Input) -> None:
        changed: dict[str, None] = {}
        for decision in self.scheduler.step(inp, Now(_START_MS + self.ns // _MS, self.ns)):
            self.perform(decision, changed)
        for replica in changed:
            self.tell(replica)

    def perform(self, decision: Decision, changed: dict[str, None]) -> None:
        match decision:
            case SpawnInstance():
                self.made += 1
                self.at(self.ns, InstanceReady(f"i-{self.made}", "p"))
            case StartTask():
                self.start(decision, changed)
            case Prefetch() if self.aware:
                for name in decision.adapters:
                    self.bring(decision.replica, name, changed, evict=decision.first)
            case WakeAt():
                self.wake_ns = decision.mono_ns
                self.at(decision.mono_ns, Tick())

    def start(self, start: StartTask, changed: dict[str, None]) -> None:
        assert start.replica is not None
        job, shelf = self.jobs[start.seq - 1], self.shelves[start.replica]
        self.note_order(start.seq)
        known = shelf.ready_ns.get(job.adapter)
        self.starts["misses" if known is None else "hits" if known <= self.ns else "late"] += 1
        ready_ns = self.bring(start.replica, job.adapter, changed, evict=True)
        # All places may be taken by adapters that are in use or being read; then it waits for one that is.
        begins_ns = max(self.ns, shelf.loader_ns + self.load_ns if ready_ns is None else ready_ns)
        shelf.used[job.adapter] = shelf.used.get(job.adapter, 0) + 1
        if job.adapter in shelf.ready_ns:
            shelf.ready_ns.move_to_end(job.adapter)
        self.running[start.seq] = start.replica
        self.waits_ns.append(begins_ns - job.arrives_ns)
        self.at(begins_ns + job.work_ns, TaskEnded(start.seq, start.attempt, "completed"))

    def bring(self, replica: str, name: str, changed: dict[str, None], *, evict: bool) -> int | None:
        shelf = self.shelves[replica]
        loads = shelf.loads
        ready_ns = shelf.bring(name, self.ns, self.load_ns, evict=evict)
        if shelf.loads > loads and ready_ns is not None:
            changed[replica] = None
            self.at(ready_ns, replica)
        return ready_ns

    def note_order(self, seq: int) -> None:
        """Remember since when each task has been passed."""
        for other in self.line:
            if other == seq:
                break
            since_ns = self.passed_ns.setdefault(other, self.ns)
            self.longest_passed_ns = max(self.longest_passed_ns, self.ns - since_ns)
        del self.line[seq]

    def figures(self) -> Figures:
        waits = sorted(wait / _MS for wait in self.waits_ns)

        def quantile(share: float) -> float:
            return round(waits[min(len(waits) - 1, int(share * len(waits)))], 1)

        return Figures(
            policy="aiwm" if self.aware else "fifo",
            **self.starts,
            loads=sum(shelf.loads for shelf in self.shelves.values()),
            wait_ms=round(sum(waits) / len(waits), 1),
            wait_p50_ms=quantile(0.5),
            wait_p95_ms=quantile(0.95),
            wait_p99_ms=quantile(0.99),
            wait_max_ms=round(waits[-1], 1),
            longest_passed_ms=round(self.longest_passed_ns / _MS, 1),
            done_s=round(self.ns / 1e9, 1),
        )
