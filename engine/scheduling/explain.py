"""Why something stands still: the scheduler's own gates, asked in its own order, in an operator's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from engine.contract.ids import task_id
from engine.contract.why import Gate, Why
from engine.scheduling import gates
from engine.scheduling.classes import ReadyClass
from engine.scheduling.inputs import ClassKey, Now, TaskRef
from engine.scheduling.pools import Model, Pool
from engine.scheduling.ready import park_reason
from engine.scheduling.task import LATER, PROMOTING, READY, RUNNING

if TYPE_CHECKING:
    from engine.scheduling.scheduler import Scheduler

_WHEN_ENDS = "when a task ends"
# Closed gates that neither the work nor the time that passes will open: somebody has to do something.
_STUCK = frozenset(
    {
        gates.STORAGE,
        gates.DISPATCH,
        gates.NO_QUEUE,
        gates.PAUSED,
        gates.NO_WORKER,
        gates.POOL_PAUSED,
        gates.MODEL,
        gates.SPAWN,
    }
)


def explain_task(scheduler: Scheduler, ref: TaskRef, now: Now) -> Why:
    """Every gate before this task in order, open ones too; the first closed one is the reason."""
    held = scheduler.backlog.tasks.get(ref.seq)
    about = task_id(ref.seq)
    if held is not None and held.state == RUNNING:
        where = f" on {held.instance.id}" if held.instance is not None else ""
        return Why(scope="task", about=about, moving=True, summary=f"it runs{where}, attempt {held.attempt}")
    cls = scheduler.backlog.ready.probe(ClassKey(ref.queue, ref.tenant, ref.criteria))
    found = [*_line(scheduler, cls, 1, now), _turn(cls, ref)]
    found.insert(2, _time(scheduler, ref, now))
    closed = next((gate for gate in found if gate.closed), None)
    summary = "nothing holds it: it starts next" if closed is None else closed.why
    moving = closed is None or closed.name not in _STUCK
    return Why(scope="task", about=about, moving=moving, summary=summary, gates=tuple(found))


def explain_queue(scheduler: Scheduler, name: str, now: Now) -> Why:
    """One gate for each thing that the queue's tasks wait for, with how many."""
    found = _grouped(scheduler, now, name)
    spec = scheduler.backlog.ready.queues.get(name)
    if not any(gate.closed for gate in found):
        found.insert(0, _queue(scheduler, name, 0))
    if spec is not None and spec.draining:
        found.append(Gate(name="draining", closed=False, why="it takes no new tasks and works off those it has"))
    if spec is not None and spec.max_length is not None:
        found.append(Gate(name="length", closed=False, why=f"it takes at most {spec.max_length} waiting tasks"))
    return _summed("queue", name, found)


def explain_pool(scheduler: Scheduler, name: str, now: Now) -> Why:
    pool = scheduler.fleet.pools.get(name)
    if pool is None:
        return _summed("pool", name, [_missing(f'pool "{name}" does not exist')])
    count = sum(cls.waiting for cls in pool.offered)
    work = f"{pool.busy} of {pool.total} instances work, {len(pool.idle)} are idle"
    return _state("pool", name, count, work, [_engine(scheduler, count), _pool(pool, count, now)])


def explain_model(scheduler: Scheduler, name: str) -> Why:
    model = scheduler.fleet.models.get(name)
    if model is None:
        return _summed("model", name, [_missing(f'no pool has model "{name}"')])
    count = sum(cls.waiting for cls in {cls for pool in model.pools for cls in pool.offered})
    limit = "" if model.total is None else f" of {model.total}"
    work = f"{model.reserved + model.outside}{limit} slots are taken"
    return _state("model", name, count, work, [_engine(scheduler, count), _slots(model, count)])


def explain_engine(scheduler: Scheduler, now: Now) -> Why:
    """One gate for each thing that any task waits for, with how many."""
    found = _grouped(scheduler, now, None)
    engine = _engine(scheduler, 0)
    if engine.name not in {gate.name for gate in found if gate.closed}:
        found.insert(0, engine)
    return _summed("engine", "engine", found)


def task_gate(scheduler: Scheduler, seq: int, now: Now) -> str | None:
    """The first closed gate of a waiting task that is in memory, in one word."""
    task = scheduler.backlog.tasks.get(seq)
    if task is None or task.state == RUNNING:
        return None
    if task.state != READY:
        return gates.DUE if task.due_ns is None else gates.BACKOFF
    ref = task.ref
    cls = scheduler.backlog.ready.probe(ClassKey(ref.queue, ref.tenant, ref.criteria))
    return next((gate.name for gate in _line(scheduler, cls, 1, now) if gate.closed), gates.TURN)


def _line(scheduler: Scheduler, cls: ReadyClass, count: int, now: Now) -> list[Gate]:
    """The gates that all tasks of a class share, in the order in which the dispatcher meets them."""
    found = [_engine(scheduler, count), _queue(scheduler, cls.key.queue, count), _class(cls, count)]
    if cls.pools:
        answers = [_pool(pool, count, now) for pool in cls.pools]
        found.append(next((answer for answer in answers if not answer.closed), answers[0]))
    return found


def _grouped(scheduler: Scheduler, now: Now, queue: str | None) -> list[Gate]:
    """What tasks wait for (of one queue, or all): the first closed gate of each class, equal ones added up, the biggest first."""
    found: dict[tuple[str, str], Gate] = {}

    def add(gate: Gate) -> None:
        same = found.get((gate.name, gate.why))
        if same is not None:
            gate = msgspec.structs.replace(gate, count=gate.count + same.count)
        found[gate.name, gate.why] = gate

    for cls in scheduler.backlog.ready.table.by_key.values():
        if cls.waiting and (queue is None or cls.key.queue == queue):
            line = _line(scheduler, cls, cls.waiting, now)
            add(next((gate for gate in line if gate.closed), line[-1]))
    for gate in _times(scheduler, now, queue):
        add(gate)
    return sorted(found.values(), key=lambda gate: (not gate.closed, -gate.count))


def _times(scheduler: Scheduler, now: Now, queue: str | None) -> Iterator[Gate]:
    """The tasks in memory that wait for a time, one gate for those with the wall clock's and one for backoffs."""
    waits: dict[str, list[int]] = {gates.DUE: [], gates.BACKOFF: []}
    for due_ms, _, task in scheduler.backlog.later.window.rows():
        if queue is None or task.ref.queue == queue:
            waits[gates.DUE if task.due_ns is None else gates.BACKOFF].append(due_ms)
    for name, words in ((gates.DUE, "scheduled for later"), (gates.BACKOFF, "waiting before another attempt")):
        times = waits[name]
        if times:
            yield Gate(
                name=name,
                closed=True,
                count=len(times),
                opens="at its time",
                opens_ms=max(times[0], now.wall_ms),
                why=words,
            )


def _summed(scope: str, about: str, found: list[Gate]) -> Why:
    closed = [gate for gate in found if gate.closed]
    counts = ", ".join(f"{gate.count} {gate.name}" for gate in closed if gate.count)
    summary = f"waiting: {counts}" if counts else closed[0].why if closed else "nothing is held"
    # An engine that starts nothing holds nothing up while nothing waits.
    moving = not any(gate.name in _STUCK and (gate.count or gate.name != gates.DISPATCH) for gate in closed)
    return Why(scope=scope, about=about, moving=moving, summary=summary, gates=tuple(found))


def _state(scope: str, about: str, waiting: int, work: str, found: list[Gate]) -> Why:
    closed = next((gate for gate in found if gate.closed), None)
    held = f"; {closed.why}" if closed is not None and waiting else ""
    moving = closed is None or not waiting or closed.name not in _STUCK
    return Why(
        scope=scope, about=about, moving=moving, summary=f"{work}, waiting tasks: {waiting}{held}", gates=tuple(found)
    )


def _missing(why: str) -> Gate:
    return Gate(name=gates.NO_WORKER, closed=True, opens="never by itself", why=why)


# -- one gate each ---------------------------------------------------------------------------------------------------


def _engine(scheduler: Scheduler, count: int) -> Gate:
    closed = gates.engine_gate(scheduler.storage_ok, scheduler.dispatch)
    if closed is None:
        return Gate(name=gates.DISPATCH, closed=False, count=count, why="the engine starts tasks")
    if closed == gates.STORAGE:
        why, opens, fix = (
            "the database cannot be written",
            "when a write succeeds; it is tried again and again",
            "aiwm doctor",
        )
    else:
        why = "the engine starts no tasks" + (f": {scheduler.dispatch_reason}" if scheduler.dispatch_reason else "")
        opens, fix = "when an engine runs that does", "aiwm engine run"
    return Gate(
        name=closed, closed=True, count=count, since_ms=scheduler.closed_since_ms, opens=opens, why=why, fix=fix
    )


def _queue(scheduler: Scheduler, name: str, count: int) -> Gate:
    spec = scheduler.backlog.ready.queues.get(name)
    closed = gates.queue_gate(spec)
    if closed is None:
        return Gate(name="queue", closed=False, count=count, why=f"queue {name} is open")
    if closed == gates.NO_QUEUE:
        return Gate(
            name=closed, closed=True, count=count, opens="when it is created", why=f'queue "{name}" does not exist'
        )
    return Gate(
        name=closed,
        closed=True,
        count=count,
        since_ms=scheduler.backlog.ready.paused_since_ms.get(name),
        opens="when somebody resumes it",
        why=f"queue {name} is paused",
        fix=f"aiwm queue resume {name}",
    )


def _time(scheduler: Scheduler, ref: TaskRef, now: Now) -> Gate:
    held = scheduler.backlog.tasks.get(ref.seq)
    due_ms, retrying = ref.due_ms, ref.retrying
    if held is not None:
        retrying = held.due_ns is not None or ref.retrying
        due_ms = held.due_ms if held.state in (LATER, PROMOTING) else None
        if held.state == LATER and held.due_ns is not None:
            due_ms = now.wall_ms + max(0, held.due_ns - now.mono_ns) // 1_000_000
    if due_ms is None or due_ms <= now.wall_ms:
        return Gate(name=gates.DUE, closed=False, count=1, why="it waits for no time")
    why = f"waits before attempt {ref.attempt + 1}" if retrying else "is scheduled for later"
    name = gates.BACKOFF if retrying else gates.DUE
    return Gate(name=name, closed=True, count=1, opens="at its time", opens_ms=due_ms, why=why)


def _class(cls: ReadyClass, count: int) -> Gate:
    if cls.parked is None:
        names = ", ".join(pool.name for pool in cls.pools)
        return Gate(name=gates.NO_WORKER, closed=False, count=count, why=f"served by {names}")
    return Gate(
        name=cls.parked,
        closed=True,
        count=count,
        since_ms=cls.since_ms or None,
        opens="never by itself",
        why=park_reason(cls),
    )


def _pool(pool: Pool, count: int, now: Now) -> Gate:
    """What this pool says to a task that could start on it."""
    closed = gates.pool_gate(pool)
    if closed is None:
        return Gate(name=gates.INSTANCE, closed=False, count=count, why=f"{pool.name} has {len(pool.idle)} idle")
    if closed in (gates.SLOTS, gates.MODEL) and pool.model is not None:
        return _slots(pool.model, count)
    since = pool.held_since_ms if pool.held is not None else None
    if closed == gates.POOL_PAUSED:
        name, opens = closed, "when somebody resumes it"
        why = f"pool {pool.name} is paused"
        return Gate(name=name, closed=True, count=count, since_ms=since, opens=opens, why=why)
    closed = gates.held_gate(pool, now.mono_ns)
    largest = pool.spec.max_total
    if closed == gates.POOL_MAX:
        why = f"{pool.name} has {pool.total} of at most {largest} instances, none is idle"
        fix = f"aiwm pool scale {pool.name} --max-total {largest + 1}"
        return Gate(name=closed, closed=True, count=count, since_ms=since, opens=_WHEN_ENDS, why=why, fix=fix)
    if closed == gates.SPAWN:
        at = now.wall_ms + (pool.retry_ns - now.mono_ns) // 1_000_000
        why = f"the last instance of {pool.name} did not come up"
        return Gate(
            name=gates.SPAWN,
            closed=True,
            count=count,
            since_ms=since,
            opens="when it tries again",
            opens_ms=at,
            why=why,
        )
    why = f"{pool.name} starts {max(1, pool.starting)} more"
    return Gate(name=gates.STARTING, closed=True, count=count, since_ms=since, opens="when it is up", why=why)


def _slots(model: Model, count: int) -> Gate:
    free = model.free
    if free is None or free > 0:
        why = f"{model.name} has no limit" if free is None else f"{model.name} has {free} of {model.total} slots free"
        return Gate(name=gates.SLOTS, closed=False, count=count, why=why)
    if not model.total:
        name, why, opens = gates.MODEL, f"model {model.name} is not ready", "when it is loaded"
    else:
        others = f", {model.outside} of them not by tasks" if model.outside else ""
        name, why, opens = gates.SLOTS, f"all {model.total} slots of {model.name} are taken{others}", _WHEN_ENDS
    return Gate(name=name, closed=True, count=count, since_ms=model.since_ms, opens=opens, why=why)


def _turn(cls: ReadyClass, ref: TaskRef) -> Gate:
    """How many tasks go first on the pools that serve this class; those that are on disk only are not seen."""
    rivals = {other for pool in cls.pools for other in pool.offered} | {cls}
    ahead = sum(other.window.before(ref.rank, ref.seq) for other in rivals)
    edge = cls.window.edge
    more = edge is not None and (ref.rank, ref.seq) > edge
    if not ahead and not more:
        return Gate(name=gates.TURN, closed=False, count=1, why="it is the first")
    why = f"tasks that go first by rank: {'at least ' if more else ''}{ahead}"
    return Gate(name=gates.TURN, closed=True, count=1, opens="when they have started", why=why)
