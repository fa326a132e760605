"""Gates in an operator's words: why each is closed, since when, when or by what it opens, and the command that opens it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.contract.ids import task_id
from engine.contract.why import Gate
from engine.scheduling import gates
from engine.scheduling.budget import DAY
from engine.scheduling.classes import ReadyClass
from engine.scheduling.definitions import Definition
from engine.scheduling.inputs import Now, TaskRef
from engine.scheduling.pools import Pool
from engine.scheduling.quotas import Quotas
from engine.scheduling.ready import park_reason
from engine.scheduling.replicas import Model
from engine.scheduling.task import LATER, PROMOTING

if TYPE_CHECKING:
    from engine.scheduling.scheduler import Scheduler

NEVER: Final = "never by itself"
_WHEN_ENDS = "when a task ends"


def engine_gate(scheduler: Scheduler, count: int) -> Gate:
    closed = gates.engine_gate(scheduler.storage_ok, scheduler.dispatch)
    if closed is None:
        return Gate(name=gates.DISPATCH, closed=False, count=count, why="the engine starts tasks")
    fix: str | None
    if closed == gates.STORAGE:
        why, opens = "the database cannot be written", "when a write succeeds; it is tried again and again"
        fix = "aiwm doctor"
    else:
        reason = f": {scheduler.dispatch.reason}" if scheduler.dispatch.reason else ""
        why, opens, fix = f"the engine starts no tasks{reason}", "when an engine runs that does", "aiwm engine run"
        if closed == gates.MAINTENANCE:
            why, opens, fix = f"maintenance{reason}", "when somebody ends it", "aiwm engine resume"
    since = scheduler.closed_since_ms
    return Gate(name=closed, closed=True, count=count, since_ms=since, opens=opens, why=why, fix=fix)


def queue_gate(scheduler: Scheduler, name: str, count: int) -> Gate:
    ready = scheduler.backlog.ready
    spec = ready.queues.get(name)
    closed = gates.queue_gate(spec)
    if closed is None or spec is None:
        if closed is None:
            return Gate(name="queue", closed=False, count=count, why=f"queue {name} is open")
        why, opens = f'queue "{name}" does not exist', "when it is created"
        return Gate(
            name=gates.NO_QUEUE, closed=True, count=count, opens=opens, why=why, fix=f"aiwm queue create {name}"
        )
    why = f"queue {name} is paused" + (f": {spec.pause_reason}" if spec.pause_reason else "")
    return Gate(
        name=closed,
        closed=True,
        count=count,
        since_ms=ready.paused_since_ms.get(name),
        opens="when somebody resumes it",
        why=why,
        fix=f"aiwm queue resume {name}",
    )


def time_gate(scheduler: Scheduler, ref: TaskRef, now: Now) -> Gate:
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
    since = ref.submitted_ms or None
    return Gate(
        name=name,
        closed=True,
        count=1,
        since_ms=since,
        opens="at its time",
        opens_ms=due_ms,
        why=why,
        fix=f"aiwm task retry {task_id(ref.seq)}",
    )


def after_gate(count: int, others: tuple[str, ...] = ()) -> Gate:
    """Waiting for other tasks: one task's own answer names them, a sum of many says how many wait."""
    if not others:
        return Gate(name=gates.AFTER, closed=True, count=count, opens="when those end", why="wait for other tasks")
    named = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    opens = f"when {'it has' if len(others) == 1 else 'they have'} completed"
    fix = f"aiwm task explain {others[0]}"
    return Gate(name=gates.AFTER, closed=True, count=1, opens=opens, why=f"waits for {named}", fix=fix)


def class_gate(cls: ReadyClass, count: int) -> Gate:
    if cls.parked is None:
        names = ", ".join(pool.name for pool in cls.pools)
        return Gate(name=gates.NO_WORKER, closed=False, count=count, why=f"served by {names}")
    since = cls.since_ms or None
    # The list says of each pool what holds it back, such as a worker definition that is not there.
    fix = "aiwm pool list" if cls.parked == gates.NO_WORKER else None
    return Gate(name=cls.parked, closed=True, count=count, since_ms=since, opens=NEVER, why=park_reason(cls), fix=fix)


def pool_gate(scheduler: Scheduler, pool: Pool, count: int, now: Now) -> Gate:
    """What this pool says to a task that could start on it."""
    closed = gates.pool_gate(pool)
    if closed is None:
        return Gate(name=gates.INSTANCE, closed=False, count=count, why=f"{pool.name} has {len(pool.idle)} idle")
    if closed in (gates.SLOTS, gates.MODEL) and pool.model is not None:
        return slots_gate(pool.model, count)
    if closed in (gates.INACTIVE, gates.RATE):
        return definition_gate(pool.definition, count)
    since = pool.held_since_ms if pool.held is not None else None
    if closed == gates.POOL_PAUSED:
        name, opens = closed, "when somebody resumes it"
        why = f"pool {pool.name} is paused"
        return Gate(name=name, closed=True, count=count, since_ms=since, opens=opens, why=why)
    return _instance_gate(scheduler, pool, count, since, now)


def _instance_gate(scheduler: Scheduler, pool: Pool, count: int, since: int | None, now: Now) -> Gate:
    """Nobody is idle: why the pool has no further instance."""
    quotas = scheduler.fleet.quotas
    closed = gates.held_gate(pool, quotas, now.mono_ns)
    largest = pool.spec.max_total
    opens, fix, opens_ms = _WHEN_ENDS if pool.busy else NEVER, None, None
    if closed == gates.POOL_MAX:
        why = f"{pool.name} has {pool.total} of at most {largest} instances, none is idle"
        fix = f"aiwm pool scale {pool.name} --max-total {largest + 1}"
        if pool.leaving:
            opens = _WHEN_ENDS
    elif closed in (gates.DEFINITION_MAX, gates.ENGINE_MAX):
        why = limit_reached(pool.definition, quotas, closed)
        others = quotas.count if closed == gates.ENGINE_MAX else pool.definition.count
        opens = _WHEN_ENDS if others else "when an instance outside of pools is retired"
    elif closed == gates.SPAWN:
        opens, opens_ms = "when it tries again", now.wall_ms + (pool.retry_ns - now.mono_ns) // 1_000_000
        why = f"the last instance of {pool.name} did not come up"
    else:
        closed, opens, why = gates.STARTING, "when it is up", f"{pool.name} starts {max(1, pool.starting)} more"
    return Gate(name=closed, closed=True, count=count, since_ms=since, opens=opens, opens_ms=opens_ms, why=why, fix=fix)


def definition_gate(definition: Definition, count: int) -> Gate:
    """The definition's say: is it active, and is there room in its windows?"""
    name, since = definition.name, definition.since_ms
    if not definition.active:
        opens = "when its definition is active again" if definition.known else "when it is created"
        fix = "aiwm worker reload" if definition.known else None
        why = inactive(definition)
        return Gate(name=gates.INACTIVE, closed=True, count=count, since_ms=since, opens=opens, why=why, fix=fix)
    full = definition.full
    if full is None:
        return Gate(name=gates.RATE, closed=False, count=count, why=f"{name} has room in its windows")
    if full.opens_ms is None:
        why = f"{name} may make {full.limit:,} {full.window}; tasks that have started will use what is left"
        opens = "when they have made their calls"
    else:
        why = f"{name} has used its {full.limit:,} {full.window}"
        opens = "at midnight" if full.window == DAY else "when the oldest calls are a minute old"
    return Gate(name=gates.RATE, closed=True, count=count, since_ms=since, opens=opens, opens_ms=full.opens_ms, why=why)


def inactive(definition: Definition) -> str:
    return f'definition "{definition.name}" ' + ("is not active" if definition.known else "does not exist")


def limit_reached(definition: Definition, quotas: Quotas, closed: str) -> str:
    """Why there may be no further instance, by the gate that says so."""
    if closed == gates.DEFINITION_MAX:
        total, limit, outside = definition.total, definition.max_instances, definition.outside
        whose = f"definition {definition.name}"
    else:
        total, limit, outside, whose = quotas.total, quotas.max_instances, quotas.outside, "the engine"
    spawned = f", {outside} of them outside of pools" if outside else ""
    return f"{whose} has {total} of at most {limit} instances{spawned}"


def slots_gate(model: Model, count: int) -> Gate:
    free = model.free
    if free is None or free > 0:
        why = f"{model.name} has no limit" if free is None else f"{model.name} has {free} of {model.total} slots free"
        return Gate(name=gates.SLOTS, closed=False, count=count, why=why)
    if not model.total:
        trouble, until = model.trouble
        why = f"model {model.name} is not ready" + (f": {trouble}" if trouble else "")
        opens = "when it is loaded" if not trouble else "when it is tried again, if that goes well"
        name = gates.MODEL
    else:
        others, until = f", {model.outside} of them not by tasks" if model.outside else "", None
        name, why, opens = gates.SLOTS, f"all {model.total} slots of {model.name} are taken{others}", _WHEN_ENDS
    return Gate(name=name, closed=True, count=count, since_ms=model.since_ms, opens=opens, opens_ms=until, why=why)


def turn_gate(cls: ReadyClass, ref: TaskRef) -> Gate:
    """How many tasks go first on the pools that serve this class, at most, if no more come; those that are on disk only are not seen."""
    own = ahead = 0
    others: dict[str, int] = {}
    for other in {other for pool in cls.pools for other in pool.offered} | {cls}:
        before = other.window.before(ref.rank, ref.seq)
        if other.key.queue != cls.key.queue:
            ahead += before
        elif other.key.tenant == cls.key.tenant:
            own += before
        else:
            others[other.key.tenant] = others.get(other.key.tenant, 0) + len(other.window)
    edge = cls.window.edge
    more = edge is not None and (ref.rank, ref.seq) > edge
    # The tenants of a queue take turns.
    turns = sum(min(waiting, own + 1) for waiting in others.values())
    if not own and not ahead and not turns and not more:
        return Gate(name=gates.TURN, closed=False, count=1, why="it is the first")
    why = f"tasks that go first: {'at least ' if more else ''}{own + ahead + turns}"
    if turns:
        why += f", {turns} of them because tenants take turns"
    return Gate(name=gates.TURN, closed=True, count=1, opens="when they have started", why=why)
