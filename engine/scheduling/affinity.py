"""Which waiting task goes first when others have their adapters at hand: a task whose adapters are not there lets some of equal standing go
before it, and only for so long.

The rule, exactly. Let T be the task that is next by rank and turn. If it needs adapters, and no replica with a free slot has them all, the
first 32 candidates are looked at: T, then the tasks of T's class and of the classes that are next in the other lines of the pools that
could start a task on this model now, in (rank, seq) order. The first of them whose adapters are all there on a replica with a free slot
starts instead of T, provided that

- its rank differs from T's by at most `wait_ms`: they stand equal, as ranks are times;
- all candidates before it, T too, may be passed: a task that is passed for the first time now, or was less than `wait_ms` ago, and that
  can expect another slot before that time is over, as far as the last tasks' durations tell.

So no slot stays empty for an adapter's sake; a task without adapters is never passed; and from the moment at which a task could have
started and was passed, no task goes before it for its adapters' sake after `wait_ms`, whatever comes."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge, nsmallest
from itertools import islice
from typing import Final, NamedTuple

from engine.scheduling import gates
from engine.scheduling.classes import ReadyClass
from engine.scheduling.inputs import Now
from engine.scheduling.pools import Pool
from engine.scheduling.replicas import Model, Replica
from engine.scheduling.routing import choose
from engine.scheduling.task import Task

CANDIDATES: Final = 32
_MS: Final = 1_000_000


class Pick(NamedTuple):
    """A task that starts: of which class, on which pool and replica (None: its model has no known one)."""

    task: Task
    cls: ReadyClass
    pool: Pool
    replica: Replica | None


def pick(task: Task, cls: ReadyClass, pool: Pool, model: Model, now: Now, wait_ms: int) -> Pick:
    """Who starts when this task is next. Notes on those that are passed when they were so for the first time."""
    adapters = pool.adapters_of(task.ref)
    best = choose(model, adapters)
    first = Pick(task, cls, pool, best)
    if best is None or best.resident.issuperset(adapters) or not wait_ms:
        return first
    passed: list[Task] = []
    for candidate in islice(_candidates(first, model), CANDIDATES):
        other = candidate.task
        if abs(other.ref.rank - task.ref.rank) <= wait_ms and (replica := _at_hand(candidate, model)) is not None:
            for one in passed:
                if one.passed_ns is None:
                    one.passed_ns = now.mono_ns
            return candidate._replace(replica=replica)
        if not _may_pass(candidate, model, now, wait_ms):
            return first
        passed.append(other)
    return first


def _candidates(first: Pick, model: Model) -> Iterator[Pick]:
    """The task that is next, then those that could start in its place, by (rank, seq)."""
    yield first
    heads: dict[ReadyClass, tuple[int, int, Pool]] = {}
    for pool in [first.pool] if model.free is None else model.pools:
        if pool is first.pool or (pool.offered and gates.pool_gate(pool) is None):
            for cls in pool.heads():
                row = cls.window.first()
                if row is not None and (cls not in heads or pool is first.pool):
                    heads[cls] = (row[0], row[1], pool)
    nearest = nsmallest(CANDIDATES, ((rank, seq, cls, pool) for cls, (rank, seq, pool) in heads.items()))
    for _, _, task, cls, pool in merge(*(_rows(cls, pool) for _, _, cls, pool in nearest)):
        if task is not first.task:
            yield Pick(task, cls, pool, None)


def _rows(cls: ReadyClass, pool: Pool) -> Iterator[tuple[int, int, Task, ReadyClass, Pool]]:
    return ((rank, seq, task, cls, pool) for rank, seq, task in cls.window.head(CANDIDATES))


def _at_hand(candidate: Pick, model: Model) -> Replica | None:
    """The replica with a free slot where none of the adapters that this task needs is missing; None also if it needs none."""
    adapters = candidate.pool.adapters_of(candidate.task.ref)
    best = choose(model, adapters) if adapters else None
    return best if best is not None and best.resident.issuperset(adapters) else None


def _may_pass(candidate: Pick, model: Model, now: Now, wait_ms: int) -> bool:
    since = candidate.task.passed_ns
    until = (now.mono_ns if since is None else since) + wait_ms * _MS
    slots = candidate.pool.total if model.free is None else min(candidate.pool.total, model.total or 1)
    return now.mono_ns + model.work_ns // max(1, slots) <= until
