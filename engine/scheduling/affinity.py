"""Which waiting task goes first when the adapters of the next one are not there: it lets some of equal standing go before it for which
nothing must be loaded, or nothing twice, and only for so long. Its adapters can come meanwhile.

The rule, exactly. Let T be the task that is next by rank and turn. If it needs adapters, and no replica with a free slot has them all, the
first 32 candidates are looked at: T, then in (rank, seq) order the tasks of T's class and of the classes that are next in other lines: in
lines of pools that could start a task on this model now, and whose first task's rank is larger than that of T's line by at most `wait_ms`.
The first candidate for which nothing must be loaded, on a replica with a free slot, starts instead of T; if there is none, the first one
whose adapters are not there, or on their way, on another replica than the one that it would get (which may be T). For both,

- its rank is larger than T's, and than that of its own class's first task, by at most `wait_ms`: they stand equal, as ranks are times;
- all candidates before it, T too, may be passed: those that never were, or were for the first time less than `wait_ms` ago, and that can
  expect another slot before that time is over, as far as the last tasks' durations tell.

So no slot stays empty for an adapter's sake; nobody is passed for whom nothing must be loaded; and when a task has been passed, others may
go before it for adapters' sake for `wait_ms` from then on and no longer, whatever comes."""

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
    if best is None or best.has(adapters) or not wait_ms:
        return first
    free = [one.resident for one in model.replicas.values() if one.free != 0]
    latest_ns = _latest(model, pool, now, wait_ms)
    passed: list[Task] = []
    second: tuple[Pick, int] | None = None
    for rank, _, other, its_cls, its_pool, oldest in islice(_candidates(first, model, wait_ms), CANDIDATES):
        if rank - oldest <= wait_ms:
            wanted = its_pool.adapters_of(other.ref)
            for resident in free:
                if resident.issuperset(wanted):
                    return _pass(Pick(other, its_cls, its_pool, choose(model, wanted)), passed, now)
            if second is None and not _elsewhere(there := choose(model, wanted), model, wanted):
                second = Pick(other, its_cls, its_pool, there), len(passed)
        if (now.mono_ns if other.passed_ns is None else other.passed_ns) < latest_ns:
            break
        passed.append(other)
    return first if second is None else _pass(second[0], passed[: second[1]], now)


def _pass(chosen: Pick, passed: list[Task], now: Now) -> Pick:
    for one in passed:
        if one.passed_ns is None:
            one.passed_ns = now.mono_ns
    return chosen


def _elsewhere(there: Replica | None, model: Model, adapters: tuple[str, ...]) -> bool:
    """Whether these adapters are there or on their way on another replica than this one, so that they would be loaded twice."""
    return (
        there is not None
        and not there.will_have(adapters)
        and any(one.will_have(adapters) for one in model.replicas.values() if one.total != 0)
    )


_Candidate = tuple[int, int, Task, ReadyClass, Pool, int]
"""Rank, seq, task, its class and pool, and the smallest rank that may not be much smaller: the class's first one's, or T's."""


def _candidates(first: Pick, model: Model, wait_ms: int) -> Iterator[_Candidate]:
    """The task that is next, then those that could start in its place, by (rank, seq)."""
    ref = first.task.ref
    yield ref.rank, ref.seq, first.task, first.cls, first.pool, ref.rank
    heads: dict[ReadyClass, tuple[int, int, Pool]] = {}
    start = first.pool.lines[first.cls.key.queue].first()
    latest = (ref.rank if start is None else start[0]) + wait_ms
    for pool in [first.pool] if model.free is None else model.pools:
        if pool is first.pool or (pool.offered and gates.pool_gate(pool) is None):
            for key, cls in pool.heads():
                row = cls.window.first()
                if row is not None and key[0] <= latest and (cls not in heads or pool is first.pool):
                    heads[cls] = (row[0], row[1], pool)
    nearest = nsmallest(CANDIDATES, ((rank, seq, cls, pool) for cls, (rank, seq, pool) in heads.items()))
    sources = [_rows(cls, pool, min(ref.rank, rank)) for rank, _, cls, pool in nearest]
    for found in sources[0] if len(sources) == 1 else merge(*sources):
        if found[2] is not first.task:
            yield found


def _rows(cls: ReadyClass, pool: Pool, oldest: int) -> Iterator[_Candidate]:
    return ((rank, seq, task, cls, pool, oldest) for rank, seq, task in cls.window.head(CANDIDATES))


def _latest(model: Model, pool: Pool, now: Now, wait_ms: int) -> int:
    """Who was passed before this time (monotonic, ns) may not be passed now: another slot is to be expected too late for it."""
    slots = pool.total if model.free is None else min(pool.total, model.total or 1)
    return now.mono_ns + model.work_ns // max(1, slots) - wait_ms * _MS
