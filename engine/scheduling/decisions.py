"""What the scheduler decides. `control` performs decisions in the order given and answers those that say so."""

from __future__ import annotations

import msgspec

from engine.scheduling.inputs import ClassKey, Key


class StartTask(msgspec.Struct, frozen=True, gc=False):
    """Commit `processing` with this attempt, then run the task on the instance. Answered by TaskEnded or StartRefused.
    A slot of this `replica` of the pool's model is reserved from now until then (None: it needs none, or its model has no known one)."""

    seq: int
    attempt: int
    instance: str
    pool: str
    replica: str | None = None


class SpawnInstance(msgspec.Struct, frozen=True, gc=False):
    """Start an instance of the pool. Answered by InstanceReady or SpawnFailed. `reason` is a sentence for the scaling log."""

    pool: str
    reason: str


class RetireInstance(msgspec.Struct, frozen=True, gc=False):
    """End this idle instance. Answered by InstanceGone."""

    id: str
    reason: str


class Requeue(msgspec.Struct, frozen=True, gc=False):
    """After TaskEnded: the task waits for another attempt, until `due_mono_ns` (`due_ms` on the wall; None: ready at once).
    Equal to what `Scheduler.verdict` said for the end's own transaction, so there is nothing more to write."""

    seq: int
    attempt_next: int
    due_ms: int | None
    due_mono_ns: int | None
    reason: str


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """The task will not be tried again. `committed` True: after TaskEnded, `verdict` said so for the end's own transaction.
    False: found while it waited; commit it as failed, and answer with TaskEnded."""

    seq: int
    reason: str
    committed: bool


class CancelTask(msgspec.Struct, frozen=True, gc=False):
    """Cancel it: a waiting one by its row, a running one on its instance. Answered by TaskEnded."""

    seq: int
    running: bool
    instance: str | None = None


class ExpireTask(msgspec.Struct, frozen=True, gc=False):
    """Its deadline passed while it waited: commit it as failed if the row still waits. Answered by TaskEnded."""

    seq: int


class Promote(msgspec.Struct, frozen=True):
    """These scheduled or retrying tasks are due: commit their rows as `pending`. Answered by Promoted."""

    seqs: tuple[int, ...]


class LoadPage(msgspec.Struct, frozen=True):
    """Read up to `limit` pending rows of the class with (rank, seq) > `after`, in that order. Answered by PageLoaded."""

    load: int
    key: ClassKey
    after: Key
    limit: int


class LoadClasses(msgspec.Struct, frozen=True):
    """Read up to `limit` classes that have pending rows, with keys > `after` (None: from the first). Answered by ClassesLoaded."""

    load: int
    after: ClassKey | None
    limit: int


class LoadDue(msgspec.Struct, frozen=True):
    """Read up to `limit` scheduled and retrying rows with (due_ms, seq) > `after`, in that order. Answered by DueLoaded."""

    load: int
    after: Key
    limit: int


class LoadDeadlines(msgspec.Struct, frozen=True):
    """Read up to `limit` (deadline_ms, seq) > `after` of waiting rows that have one, in that order. Answered by DeadlinesLoaded."""

    load: int
    after: Key
    limit: int


class ParkClass(msgspec.Struct, frozen=True):
    """Nobody can serve this class; its tasks stay on disk until that changes. `reason` is a sentence."""

    key: ClassKey
    reason: str


class UnparkClass(msgspec.Struct, frozen=True):
    """The class can be served again."""

    key: ClassKey


class Prefetch(msgspec.Struct, frozen=True):
    """Bring these adapters to a replica: a task in line needs them and no replica has them. `first`: no other task of this model is before
    it. Not answered; ReplicaChanged says when they are there."""

    model: str
    replica: str
    adapters: tuple[str, ...]
    first: bool


class MoreReplicas(msgspec.Struct, frozen=True, gc=False):
    """All slots of a model have been taken for `short_ms` while so many tasks waited for one: start another replica if there may be one.
    Not answered, and decided again while it is so."""

    model: str
    waiting: int
    short_ms: int


class GrantBudget(msgspec.Struct, frozen=True, gc=False):
    """The call may be made; it is reserved from now on, until BudgetSettle or BudgetCancel."""

    id: int


class DenyBudget(msgspec.Struct, frozen=True, gc=False):
    """The call may not be made now. Ask again at `until_ms` (Unix ms; None: it never fits). `window` is the one that is full: "requests
    per minute", "tokens per minute", "tokens per day" or "definition" (it is not active); `reason` a sentence."""

    id: int
    until_ms: int | None
    window: str
    reason: str


class WakeAt(msgspec.Struct, frozen=True, gc=False):
    """Feed a Tick at this monotonic time (ns). The latest WakeAt stands alone."""

    mono_ns: int


Decision = (
    StartTask
    | SpawnInstance
    | RetireInstance
    | Requeue
    | DeadLetter
    | CancelTask
    | ExpireTask
    | Promote
    | LoadPage
    | LoadClasses
    | LoadDue
    | LoadDeadlines
    | ParkClass
    | UnparkClass
    | Prefetch
    | MoreReplicas
    | GrantBudget
    | DenyBudget
    | WakeAt
)
