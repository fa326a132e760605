"""Why something stands still: the scheduler's own gates, asked in its own order, in an operator's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from engine.contract.ids import task_id
from engine.contract.why import Gate, Why
from engine.scheduling import gate_words as words
from engine.scheduling import gates, route_words
from engine.scheduling.classes import ReadyClass
from engine.scheduling.dependencies import Unmet
from engine.scheduling.inputs import ClassKey, Now, TaskRef
from engine.scheduling.task import READY, RUNNING

if TYPE_CHECKING:
    from engine.scheduling.scheduler import Scheduler

# Closed gates that neither the work nor the time that passes will open: somebody has to do something.
_STUCK = frozenset(
    {
        gates.STORAGE,
        gates.DISPATCH,
        gates.MAINTENANCE,
        gates.NO_QUEUE,
        gates.PAUSED,
        gates.NO_WORKER,
        gates.POOL_PAUSED,
        gates.INACTIVE,
        gates.MODEL,
        gates.SPAWN,
    }
)


def explain_task(scheduler: Scheduler, ref: TaskRef, now: Now, unmet: Unmet) -> Why:
    """Every gate before this task in order, open ones too; the first closed one is the reason."""
    held = scheduler.backlog.tasks.get(ref.seq)
    about = task_id(ref.seq)
    if held is not None and held.state == RUNNING:
        where = f" on {held.instance.id}" if held.instance is not None else ""
        replica = f" with {held.replica.name}" if held.replica is not None else ""
        summary = f"it runs{where}{replica}, attempt {held.attempt}"
        return Why(scope="task", about=about, moving=True, summary=summary, notes=route_words.chosen(held))
    cls = scheduler.backlog.ready.probe(ClassKey(ref.queue, ref.tenant, ref.criteria))
    found = [*_line(scheduler, cls, 1, now), words.turn_gate(cls, ref)]
    waits = [words.time_gate(scheduler, ref, now)]
    if unmet:
        waits.append(words.after_gate(len(unmet), tuple(task_id(seq) for seq, _ in unmet)))
    found[2:2] = waits
    closed = next((gate for gate in found if gate.closed), None)
    summary = "nothing holds it: it starts next" if closed is None else closed.why
    moving = closed is None or not _stuck(closed)
    notes: tuple[str, ...] = ()
    if cls.pools:
        pool, wait_ms = cls.pools[0], scheduler.config.affinity_wait_ms
        notes = route_words.outlook(pool, held, pool.adapters_of(ref), now, wait_ms)
    return Why(scope="task", about=about, moving=moving, summary=summary, gates=tuple(found), notes=notes)


def explain_queue(scheduler: Scheduler, name: str, now: Now, blocked: int) -> Why:
    """One gate for each thing that the queue's tasks wait for, with how many."""
    found = _grouped(scheduler, now, name, blocked)
    spec = scheduler.backlog.ready.queues.get(name)
    if not any(gate.closed for gate in found):
        found.insert(0, words.queue_gate(scheduler, name, 0))
    if spec is not None and spec.draining:
        found.append(Gate(name="draining", closed=False, why="it takes no new tasks and works off those it has"))
    if spec is not None and spec.max_length is not None:
        found.append(Gate(name="length", closed=False, why=f"it takes at most {spec.max_length} waiting tasks"))
    return _summed("queue", name, found)


def explain_pool(scheduler: Scheduler, name: str, now: Now) -> Why:
    pool = scheduler.fleet.pools.get(name)
    if pool is None:
        # A pool that is refused is not told to the scheduler.
        return _summed("pool", name, [_missing(f'pool "{name}" cannot work: its worker definition is not there')])
    count = sum(cls.waiting for cls in pool.offered)
    work = f"{pool.busy} of {pool.total} instances work, {len(pool.idle)} are idle"
    return _state(
        "pool", name, count, work, [words.engine_gate(scheduler, count), words.pool_gate(scheduler, pool, count, now)]
    )


def explain_model(scheduler: Scheduler, name: str) -> Why:
    model = scheduler.fleet.models.get(name)
    if model is None:
        return _summed("model", name, [_missing(f'no pool has model "{name}"')])
    count = sum(cls.waiting for cls in {cls for pool in model.pools for cls in pool.offered})
    limit = "" if model.total is None else f" of {model.total}"
    work = f"{model.taken}{limit} slots are taken"
    why = _state("model", name, count, work, [words.engine_gate(scheduler, count), words.slots_gate(model, count)])
    return msgspec.structs.replace(why, notes=route_words.replicas(model))


def explain_engine(scheduler: Scheduler, now: Now, blocked: int) -> Why:
    """One gate for each thing that any task waits for, with how many."""
    found = _grouped(scheduler, now, None, blocked)
    engine = words.engine_gate(scheduler, 0)
    if engine.name not in {gate.name for gate in found if gate.closed}:
        found.insert(0, engine)
    return _summed("engine", "engine", found)


def spawn_refusal(scheduler: Scheduler, name: str) -> str | None:
    """Why a definition may not have another instance outside of pools."""
    quotas = scheduler.fleet.quotas
    definition = quotas.of(name)
    if not definition.active:
        return words.inactive(definition)
    closed = gates.limits_gate(definition, quotas)
    return None if closed is None else words.limit_reached(definition, quotas, closed)


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
    found = [
        words.engine_gate(scheduler, count),
        words.queue_gate(scheduler, cls.key.queue, count),
        words.class_gate(cls, count),
    ]
    if cls.pools:
        answers = [words.pool_gate(scheduler, pool, count, now) for pool in cls.pools]
        found.append(next((answer for answer in answers if not answer.closed), answers[0]))
    return found


def _grouped(scheduler: Scheduler, now: Now, queue: str | None, blocked: int) -> list[Gate]:
    """What tasks wait for (of one queue, or all): the first closed gate of each class, equal ones added up, the biggest first. `blocked`
    tasks wait for others; the scheduler has not been told of them."""
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
    if blocked:
        add(words.after_gate(blocked))
    return sorted(found.values(), key=lambda gate: (not gate.closed, -gate.count))


def _times(scheduler: Scheduler, now: Now, queue: str | None) -> Iterator[Gate]:
    """The tasks in memory that wait for a time, one gate for those with the wall clock's and one for backoffs."""
    waits: dict[str, list[int]] = {gates.DUE: [], gates.BACKOFF: []}
    for due_ms, _, task in scheduler.backlog.later.window.rows():
        if queue is None or task.ref.queue == queue:
            waits[gates.DUE if task.due_ns is None else gates.BACKOFF].append(due_ms)
    for name, why in ((gates.DUE, "scheduled for later"), (gates.BACKOFF, "waiting before another attempt")):
        times = waits[name]
        if times:
            yield Gate(
                name=name,
                closed=True,
                count=len(times),
                opens="at its time",
                opens_ms=max(times[0], now.wall_ms),
                why=why,
            )


def _summed(scope: str, about: str, found: list[Gate]) -> Why:
    closed = [gate for gate in found if gate.closed]
    counts = ", ".join(f"{gate.count} {gate.name}" for gate in closed if gate.count)
    summary = f"waiting: {counts}" if counts else closed[0].why if closed else "nothing is held"
    # An engine that starts nothing holds nothing up while nothing waits.
    idle = (gates.DISPATCH, gates.MAINTENANCE)
    moving = not any(_stuck(gate) and (gate.count or gate.name not in idle) for gate in closed)
    return Why(scope=scope, about=about, moving=moving, summary=summary, gates=tuple(found))


def _state(scope: str, about: str, waiting: int, work: str, found: list[Gate]) -> Why:
    closed = next((gate for gate in found if gate.closed), None)
    held = f"; {closed.why}" if closed is not None and waiting else ""
    moving = closed is None or not waiting or not _stuck(closed)
    return Why(
        scope=scope, about=about, moving=moving, summary=f"{work}, waiting tasks: {waiting}{held}", gates=tuple(found)
    )


def _stuck(gate: Gate) -> bool:
    return gate.name in _STUCK or gate.opens == words.NEVER


def _missing(why: str) -> Gate:
    return Gate(name=gates.NO_WORKER, closed=True, opens=words.NEVER, why=why)
