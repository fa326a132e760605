"""What a claim costs when 1 k to 1 M tasks are pending: the scheduler's step and its share of the pages read from SQLite.

For each size a database is filled with that many pending tasks of 16 classes, and an engine's scheduler with its shipped bounds
claims from them: an attempt ends, the next task starts, pages are read when a class runs low. Every started row leaves `pending` and
a new one comes (not timed), so the number pending stays. CPU time of this process. The bar: flat, i.e. a ratio near 1.

Rows with adapters: each task asks for one of so many, some far more popular than others; two replicas hold eight each and say so whenever
that changes, which is part of the claims' time.

    python -m benchmarks.claim [--sizes 1000,10000,100000,1000000] [--claims 10000] [--rounds 7]
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import tempfile
import time
import tracemalloc
from collections import OrderedDict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._report import middle, write
from engine.clock import SystemClock
from engine.control.loading import waiting_ref
from engine.scheduling.decisions import (
    Decision,
    LoadClasses,
    LoadDeadlines,
    LoadDue,
    LoadPage,
    SpawnInstance,
    StartTask,
)
from engine.scheduling.inputs import (
    ClassesLoaded,
    ClassKey,
    ClassSummary,
    DeadlinesLoaded,
    DueLoaded,
    Input,
    InstanceReady,
    Now,
    PageLoaded,
    PoolChanged,
    QueueChanged,
    Recover,
    ReplicaChanged,
    TaskEnded,
    TaskRef,
    TaskSubmitted,
)
from engine.scheduling.scheduler import Scheduler, SchedulerConfig
from engine.store.store import Store

TENANTS = 16
WORKERS = 8
CHUNK = 100
INSERT = (
    'INSERT INTO tasks (seq, queue, state, priority, rank, tenant, criteria, capabilities, "by", durability, on_crash, max_attempts,'
    " submitted_ms, adapter) VALUES (?, 'q', 'pending', 0, ?, ?, '', '[]', 'bench', 'disk', 'retry', 3, ?, ?)"
)
ADAPTERS = 60
SHELF = 8


class Claims:
    """A scheduler on a real file, a page reader, and eight instances that finish at once, with or without a model and its adapters."""

    def __init__(self, path: Path, pending: int, *, adapters: bool = False) -> None:
        names = [f"a{number}" for number in range(ADAPTERS)]
        weights = [1 / (place + 1) for place in range(ADAPTERS)]
        self.adapters: list[str | None] = random.Random(1).choices(names, weights, k=4096) if adapters else [None]
        self.shelves: dict[str, OrderedDict[str, None]] = {}
        self.store = Store.open(path, clock=SystemClock())
        self.file = sqlite3.connect(path, isolation_level=None)
        self.file.execute("PRAGMA synchronous = OFF")
        self.next_seq = 1
        self.excluded_ns = 0
        self.write(INSERT, self.fresh(pending))
        self.scheduler = Scheduler()
        self.now = Now(2**40, 0)
        self.running: deque[StartTask] = deque()
        self.started: list[tuple[int]] = []
        self.pages = 0
        self.instances = 0
        if adapters:
            self.feed(self.shelve("m.0"))
            self.feed(self.shelve("m.1"))
        for inp in (
            Recover(),
            PoolChanged("p", "goat", max_total=WORKERS, min_idle=WORKERS, model="m" if adapters else None),
            QueueChanged("q", ("p",)),
        ):
            self.feed(inp)

    def fresh(self, count: int) -> list[tuple[int, int, str, int, str | None]]:
        """New tasks; five share each rank, as they do when many clients submit at once."""
        first, self.next_seq = self.next_seq, self.next_seq + count
        return [
            (seq, seq // 5, f"t{seq % TENANTS:02}", seq, self.adapters[seq % len(self.adapters)])
            for seq in range(first, first + count)
        ]

    def shelve(self, replica: str, adapter: str | None = None) -> ReplicaChanged:
        """A replica with the adapters that were used there last."""
        shelf = self.shelves.setdefault(replica, OrderedDict())
        if adapter is not None:
            shelf[adapter] = None
            if len(shelf) > SHELF:
                shelf.popitem(last=False)
        return ReplicaChanged("m", replica, WORKERS // 2, resident=frozenset(shelf))

    def write(self, sql: str, values: Sequence[tuple[Any, ...]]) -> None:
        """What the journal does: its time is not a claim's."""
        begun = time.process_time_ns()
        self.file.execute("BEGIN")
        self.file.executemany(sql, values)
        self.file.execute("COMMIT")
        self.excluded_ns += time.process_time_ns() - begun

    def feed(self, inp: Input) -> None:
        for decision in self.scheduler.step(inp, self.now):
            self.perform(decision)

    def perform(self, decision: Decision) -> None:
        if isinstance(decision, StartTask):
            self.running.append(decision)
            self.started.append((decision.seq,))
            adapter = self.adapters[decision.seq % len(self.adapters)]
            if adapter is not None and decision.replica is not None:
                shelf = self.shelves[decision.replica]
                if adapter in shelf:
                    shelf.move_to_end(adapter)
                else:
                    self.feed(self.shelve(decision.replica, adapter))
        elif isinstance(decision, SpawnInstance):
            self.instances += 1
            self.feed(InstanceReady(f"i-{self.instances}", decision.pool))
        elif isinstance(decision, LoadPage):
            self.write("UPDATE tasks SET state = 'processing' WHERE seq = ?", self.started)
            self.started.clear()
            key, limit = decision.key, decision.limit
            rows = self.store.readers.page(key.queue, key.tenant, key.criteria, decision.after, limit + 1)
            self.pages += 1
            self.feed(PageLoaded(decision.load, key, tuple(map(waiting_ref, rows[:limit])), len(rows) > limit))
        elif isinstance(decision, LoadClasses):
            found = sorted(ClassKey(one.queue, one.tenant, one.criteria) for one in self.store.readers.classes())
            left = [key for key in found if decision.after is None or key > decision.after]
            summaries = tuple(ClassSummary(key) for key in left[: decision.limit])
            self.feed(ClassesLoaded(decision.load, summaries, len(left) > decision.limit))
        elif isinstance(decision, LoadDue):
            self.feed(DueLoaded(decision.load, (), more=False))
        elif isinstance(decision, LoadDeadlines):
            self.feed(DeadlinesLoaded(decision.load, (), more=False))

    def submit(self, count: int) -> None:
        """New tasks come; not a claim's time either."""
        tasks = self.fresh(count)
        self.write(INSERT, tasks)
        begun = time.process_time_ns()
        before = self.excluded_ns
        for seq, rank, tenant, _, adapter in tasks:
            asked = None if adapter is None else (adapter,)
            self.feed(TaskSubmitted(TaskRef(seq, "q", rank, tenant, adapters=asked)))
        self.excluded_ns += time.process_time_ns() - begun - (self.excluded_ns - before)

    def run(self, claims: int) -> float:
        """CPU microseconds a claim: ends, starts, pages."""
        begun = time.process_time_ns()
        self.excluded_ns = 0
        for _ in range(claims // CHUNK):
            self.submit(CHUNK)
            for _ in range(CHUNK):
                start = self.running.popleft()
                self.feed(TaskEnded(start.seq, start.attempt, "completed"))
        return (time.process_time_ns() - begun - self.excluded_ns) / (claims // CHUNK * CHUNK) / 1000

    def close(self) -> None:
        self.store.readers.close()
        self.file.close()


def memory_bytes(count: int) -> float:
    """Bytes that a pending task takes in memory, its row's record included; one that is on disk only takes none."""
    tracemalloc.start()
    scheduler = Scheduler(SchedulerConfig(window=count))
    now = Now(2**40, 0)
    for inp in (PoolChanged("p", "goat"), QueueChanged("q", ("p",))):
        scheduler.step(inp, now)
    before = tracemalloc.get_traced_memory()[0]
    for seq in range(count):
        scheduler.step(TaskSubmitted(TaskRef(seq + 2**20, "q", seq + 2**40)), now)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken / count


def main() -> None:
    parser = argparse.ArgumentParser(description="claim cost against pending tasks")
    parser.add_argument("--sizes", default="1000,10000,100000,1000000")
    parser.add_argument("--claims", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with tempfile.TemporaryDirectory(prefix="aiwm-claim-") as folder:
        kinds = [(size, adapters) for adapters in (False, True) for size in sizes]
        claims = {kind: Claims(Path(folder) / f"{kind[0]}-{kind[1]}.db", kind[0], adapters=kind[1]) for kind in kinds}
        times: dict[tuple[int, bool], list[float]] = {kind: [] for kind in kinds}
        # Sizes take turns, so that whatever else the machine does meets all of them.
        for turn in range(options.rounds + 1):
            for kind, engine in claims.items():
                took = engine.run(options.claims)
                if turn:
                    times[kind].append(took)
        rows: list[dict[str, Any]] = [
            {
                "pending": kind[0],
                "adapters": ADAPTERS if kind[1] else 0,
                "n": options.claims * options.rounds,
                "us_per_claim": round(middle(times[kind]), 2),
                "us_min": round(min(times[kind]), 2),
                "ratio": round(middle(times[kind]) / middle(times[sizes[0], kind[1]]), 2),
                "pages": engine.pages,
                "tasks_in_memory": len(engine.scheduler.backlog.tasks),
            }
            for kind, engine in claims.items()
        ]
        for engine in claims.values():
            engine.close()
    note = (
        f"a pending task takes {memory_bytes(20_000):.0f} bytes while it is in memory and none while it is on disk only"
    )
    print(note)
    write("claim", rows, ("msgspec",), note)


if __name__ == "__main__":
    main()
