"""What the scheduler is told. Every input states something that has already happened (and, where it changed a row, was committed)."""

from __future__ import annotations

import json
from typing import Literal, NamedTuple

import msgspec

Outcome = Literal["completed", "failed", "cancelled", "crashed", "expired", "gone"]
"""How an attempt or a waiting task ended. `crashed`: its process or instance died under it. `expired`: its deadline passed while it
waited. `gone`: nothing was left to end, the row had already moved on."""

Key = tuple[int, int]
"""A place in an order: (rank, seq), (due_ms, seq) or (deadline_ms, seq)."""

BOTTOM: Key = (-(2**63), 0)
"""Before every key: a page after it starts at the beginning."""


class Now(msgspec.Struct, frozen=True, gc=False):
    """One reading of both clocks: Unix time in ms (may jump) and monotonic time in ns (never goes back)."""

    wall_ms: int
    mono_ns: int


class Criteria(msgspec.Struct, frozen=True):
    """What a task asks of its worker: a definition by name, and capabilities that it must have all of."""

    definition: str | None = None
    capabilities: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """The canonical text of these criteria: empty for none. Rows store it, classes are told apart by it."""
        if self.definition is None and not self.capabilities:
            return ""
        return json.dumps([self.definition, *sorted(self.capabilities)], ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def parse(cls, key: str) -> Criteria:
        """The criteria whose `key` this is."""
        if not key:
            return _ANY
        definition, *capabilities = json.loads(key)
        return cls(definition, frozenset(capabilities))


_ANY = Criteria()


class ClassKey(NamedTuple):
    """Tasks that the same workers may run in the same order: one queue, one tenant, one `Criteria.key`."""

    queue: str
    tenant: str
    criteria: str


class TaskRef(msgspec.Struct, frozen=True, gc=False):
    """A waiting task as its row has it.

    `rank` is `due_ms - priority * aging_ms`, written at submit and never changed (smaller first, then `seq`). `due_ms` (Unix ms) is set
    while the row is `scheduled`, or `retrying` (`retrying` is then True), and None once it is `pending`. `attempt` counts started
    attempts, `crashes` those that ended in a crash. `max_attempts` None means the queue's. `deadline_ms` is Unix ms. `submitted_ms` (0:
    not known) is for words only: how long it has been waiting. `adapters` are those it asks for, as it calls them, None if it leaves that
    to its pool's definition."""

    seq: int
    queue: str
    rank: int
    tenant: str = ""
    criteria: str = ""
    due_ms: int | None = None
    attempt: int = 0
    crashes: int = 0
    max_attempts: int | None = None
    deadline_ms: int | None = None
    on_crash: Literal["retry", "dead-letter"] = "retry"
    retrying: bool = False
    submitted_ms: int = 0
    adapters: tuple[str, ...] | None = None


class RetryPolicy(msgspec.Struct, frozen=True):
    """How failed attempts are repeated: `delay_ms` before the second one, times `backoff` for each further one, at most `max_delay_ms`;
    `jitter` (0 to 1) spreads a delay by up to that share either way."""

    max_attempts: int = 3
    delay_ms: int = 1_000
    backoff: float = 2.0
    max_delay_ms: int = 300_000
    jitter: float = 0.1


class QueueChanged(msgspec.Struct, frozen=True):
    """A queue exists and looks like this. `pools` in order of preference. A draining queue works off what it has; refusing new tasks
    is the caller's business, before the journal."""

    name: str
    pools: tuple[str, ...] = ()
    paused: bool = False
    draining: bool = False
    retry: RetryPolicy = RetryPolicy()
    max_length: int | None = None
    pause_reason: str = ""


class QueueRemoved(msgspec.Struct, frozen=True):
    name: str


class PoolChanged(msgspec.Struct, frozen=True):
    """A pool exists and looks like this. Instances of another `definition` or `revision` (its digest) than the one given are retired:
    idle ones now, busy ones when their task ends. `model` names what its tasks need a slot of, None when nothing; `adapters` are those of
    its definition.

    An instance is retired when it has run `max_tasks` tasks or is `max_age_ms` old (0: never), and, above `min_idle`, after `cooldown_ms`
    without work; never while it runs a task."""

    name: str
    definition: str
    capabilities: frozenset[str] = frozenset()
    min_idle: int = 0
    max_total: int = 1
    model: str | None = None
    paused: bool = False
    revision: str = ""
    max_tasks: int = 0
    max_age_ms: int = 0
    cooldown_ms: int = 60_000
    adapters: tuple[str, ...] = ()


class PoolRemoved(msgspec.Struct, frozen=True):
    name: str


class DefinitionChanged(msgspec.Struct, frozen=True):
    """A worker definition exists and looks like this; 0 is no limit. Minutes slide, days begin at local midnight. Only an `active` one gets
    new instances and tasks; of one that nobody told of, the scheduler assumes that it is active and has no limits."""

    name: str
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    tokens_per_day: int = 0
    max_instances: int = 0
    active: bool = True


class DefinitionRemoved(msgspec.Struct, frozen=True):
    """It gets no new instances and tasks until it exists again."""

    name: str


class EngineLimits(msgspec.Struct, frozen=True):
    """Over all pools and the instances outside of them; 0 is no limit."""

    max_instances: int = 0


class InstancesOutside(msgspec.Struct, frozen=True, gc=False):
    """So many instances of a definition exist that belong to no pool (spawned directly). They count against the limits."""

    definition: str
    count: int


class TaskSubmitted(msgspec.Struct, frozen=True, gc=False):
    """A row began to wait: submitted, revived, or made ready by hand. Fed once a page read would see the row."""

    task: TaskRef


class TaskBlocked(msgspec.Struct, frozen=True, gc=False):
    """A row waits for other tasks and has a deadline, which is all that is watched until TaskSubmitted says that it waits for them no
    more."""

    seq: int
    deadline_ms: int


class TaskEnded(msgspec.Struct, frozen=True, gc=False):
    """An attempt, or a waiting task, ended; its transaction is committed.

    Answers StartTask (with its `attempt`), and CancelTask of a waiting task, ExpireTask and DeadLetter (any `attempt`; outcome `gone`
    when the transaction found nothing to do). An attempt that is not the running one is a zombie's and changes nothing."""

    seq: int
    attempt: int
    outcome: Outcome
    retryable: bool = False
    error_code: str | None = None
    retry_after_ms: int | None = None


class StartRefused(msgspec.Struct, frozen=True, gc=False):
    """A StartTask did not come about. `gone`: the row was no longer waiting, forget it. Otherwise its commit failed and it waits again."""

    seq: int
    attempt: int
    gone: bool


class CancelRequested(msgspec.Struct, frozen=True, gc=False):
    """Somebody wants this task cancelled, waiting or running."""

    seq: int


class RetryNow(msgspec.Struct, frozen=True, gc=False):
    """A scheduled or retrying task shall not wait for its time. (A task that ended is revived by its row and TaskSubmitted.)"""

    seq: int


class Promoted(msgspec.Struct, frozen=True):
    """Answers Promote: these rows are `pending` now."""

    seqs: tuple[int, ...]


class PageLoaded(msgspec.Struct, frozen=True):
    """Answers LoadPage: waiting rows of the class after the asked key, in (rank, seq) order; `more` if the class goes on after them."""

    load: int
    key: ClassKey
    tasks: tuple[TaskRef, ...]
    more: bool


class ClassSummary(msgspec.Struct, frozen=True):
    """A class that has pending rows, and how many (for answers to "why" only: any number that is known cheaply will do)."""

    key: ClassKey
    count: int = 1


class ClassesLoaded(msgspec.Struct, frozen=True):
    """Answers LoadClasses: classes in key order; `more` if there are further ones."""

    load: int
    classes: tuple[ClassSummary, ...]
    more: bool


class DueLoaded(msgspec.Struct, frozen=True):
    """Answers LoadDue: scheduled and retrying rows after the asked key, in (due_ms, seq) order."""

    load: int
    tasks: tuple[TaskRef, ...]
    more: bool


class DeadlinesLoaded(msgspec.Struct, frozen=True):
    """Answers LoadDeadlines: (deadline_ms, seq) of waiting rows after the asked key, in that order."""

    load: int
    deadlines: tuple[Key, ...]
    more: bool


class InstanceReady(msgspec.Struct, frozen=True, gc=False):
    """An instance takes work. `answers_spawn` is False when nobody asked for it here (an operator started it). `revision` is that of the
    definition it was made from: if the pool has another one by now, it is retired at once; None is taken for the pool's."""

    id: str
    pool: str
    answers_spawn: bool = True
    revision: str | None = None


class SpawnFailed(msgspec.Struct, frozen=True, gc=False):
    """A SpawnInstance came to nothing. The pool tries again after a growing pause."""

    pool: str
    reason: str


class InstanceGone(msgspec.Struct, frozen=True, gc=False):
    """An instance is no more. The end of its task, if it had one, is told by TaskEnded, before or after."""

    id: str
    crashed: bool = False


class RetireRequested(msgspec.Struct, frozen=True, gc=False):
    """An instance shall take no further task and go when the one it has ends."""

    id: str


class ReplicaChanged(msgspec.Struct, frozen=True, gc=False):
    """A process of a model is there and serves `total` requests at once: None is no limit, 0 not ready. `outside` counts the slots held by
    others than tasks started here (a chat); what tasks hold is counted by the scheduler itself from StartTask to TaskEnded.

    `resident` are the adapters that are there, by every name that means one of them now; `latency_ms` is the time to the first token
    lately (0: not known). `why` and `until_ms` (Unix time) are for people: what is wrong with one that is not ready, and until when."""

    model: str
    replica: str
    total: int | None
    outside: int = 0
    resident: frozenset[str] = frozenset()
    latency_ms: float = 0.0
    why: str = ""
    until_ms: int | None = None


class ReplicaGone(msgspec.Struct, frozen=True, gc=False):
    """A process of a model is no more. The ends of its tasks are told by TaskEnded, before or after."""

    model: str
    replica: str


class BudgetReserve(msgspec.Struct, frozen=True, gc=False):
    """Somebody is about to call a definition's model and expects it to take so many tokens, in and out. Answered at once by GrantBudget or
    DenyBudget. `id` is the call's own; a denied one asks again under the same id and so keeps its place before those that came later."""

    id: int
    definition: str
    tokens: int


class BudgetSettle(msgspec.Struct, frozen=True, gc=False):
    """A granted call ended and took so many tokens. What it did not take is given back where it was reserved; what it took beyond its
    estimate counts from now on."""

    id: int
    tokens: int


class BudgetCancel(msgspec.Struct, frozen=True, gc=False):
    """A granted call was not made, or a denied one is not asked for any more."""

    id: int


class BudgetRestored(msgspec.Struct, frozen=True):
    """What `Scheduler.budget_buckets` said before this engine started: (start of a minute, Unix ms; calls; tokens)."""

    definition: str
    buckets: tuple[tuple[int, int, int], ...]


class StorageFailed(msgspec.Struct, frozen=True):
    """A commit failed: nothing that needs one is decided until StorageRecovered."""


class StorageRecovered(msgspec.Struct, frozen=True):
    """Commits work again: what was decided and never answered is decided once more."""


class DispatchEnabled(msgspec.Struct, frozen=True):
    """Whether tasks may start at all. `reason` says why not: "no command waits for work", or an operator's own words when it is for
    `maintenance`, which somebody has to end."""

    enabled: bool
    reason: str = ""
    maintenance: bool = False


class Recover(msgspec.Struct, frozen=True):
    """The store has rows that were not told one by one: classes, due times and deadlines are asked for in pages."""


class Tick(msgspec.Struct, frozen=True):
    """Time has passed. Answers WakeAt; an extra one does no harm."""


TaskInput = TaskSubmitted | TaskBlocked | TaskEnded | StartRefused | CancelRequested | RetryNow | Promoted
PageInput = PageLoaded | ClassesLoaded | DueLoaded | DeadlinesLoaded
FleetInput = (
    QueueChanged
    | QueueRemoved
    | PoolChanged
    | PoolRemoved
    | InstanceReady
    | SpawnFailed
    | InstanceGone
    | RetireRequested
    | ReplicaChanged
    | ReplicaGone
)
LimitInput = DefinitionChanged | DefinitionRemoved | EngineLimits | InstancesOutside
BudgetInput = BudgetReserve | BudgetSettle | BudgetCancel | BudgetRestored
EngineInput = StorageFailed | StorageRecovered | DispatchEnabled | Recover | Tick
Input = TaskInput | PageInput | FleetInput | LimitInput | BudgetInput | EngineInput
