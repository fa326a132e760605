"""What can be written: one frozen struct an operation. An entry of the journal is a sequence of them and has all of its effects or none.

Fenced operations name what they expect of the row; when one of an entry does not find it, the whole entry has no effect and its
receipt says so. Times are Unix ms. JSON arrives encoded, as UTF-8 bytes."""

from __future__ import annotations

import msgspec

from engine.contract.states import Durability, TaskState


class Op(msgspec.Struct, frozen=True, gc=False):
    """Base of all operations."""


class InsertTask(Op, frozen=True, kw_only=True, gc=False):
    """A new task. `seq` comes from `journal.next_seq()`; `rank` orders waiting tasks (smaller first, then seq).

    A second task with the same queue and idempotency key is refused: its entry raises `conflict`. `blocked` counts the tasks of
    `after` that it must wait for: while it is not 0 the task is in no page. `adapter` names the adapters asked for (empty: none at
    all), `sources` and `metadata` are JSON, `parent` is the task on whose behalf it was submitted."""

    seq: int
    queue: str
    state: TaskState
    priority: int
    rank: int
    payload: bytes
    submitted_ms: int
    by: str
    tenant: str = ""
    definition: str | None = None
    capabilities: tuple[str, ...] = ()
    due_ms: int | None = None
    deadline_ms: int | None = None
    max_attempts: int = 1
    idempotency_key: str | None = None
    batch: str | None = None
    durability: Durability = Durability.disk
    on_crash: str = "retry"
    after: tuple[int, ...] = ()
    blocked: int = 0
    adapter: str | None = None
    template: str | None = None
    supervisor: str | None = None
    sources: bytes | None = None
    metadata: bytes | None = None
    parent: int | None = None

    @property
    def more(self) -> bool:
        """Whether it has any of the things that few tasks have."""
        return bool(
            self.blocked
            or self.adapter is not None
            or self.template
            or self.supervisor
            or self.sources
            or self.metadata
            or self.parent is not None
        )


class StartTask(Op, frozen=True, gc=False):
    """An attempt begins. Fence: the task waits, and `attempt` is greater than its last one. `adapter` names the adapters that it will use,
    by their exact versions (None: it uses none)."""

    seq: int
    attempt: int
    instance: str
    pool: str
    definition: str
    at_ms: int
    adapter: str | None = None


class EndTask(Op, frozen=True, kw_only=True, gc=False):
    """An attempt ends the task: `state` is an end state. Fence: it is processing this attempt of this epoch.

    `error` is ErrorInfo as JSON; `reason` is what the tasks table shows (cut to 200 characters). Tokens and cost are this attempt's;
    the row and the task's performance record, which is written with this, show the sum over all attempts. `adapter` names the
    adapters really used, `fail` is the failure's fingerprint. The rest is for the record: `summary` (cut to 256 characters; the
    reason when empty), `model`, `finish_reason`, `calls` of the model, `input_chars` asked, `reflection` (what the worker noted).
    `prompt` is what the model read last, kept with the result."""

    seq: int
    attempt: int
    state: TaskState
    at_ms: int
    result: bytes | None = None
    error: bytes | None = None
    reason: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    adapter: str | None = None
    fail: str | None = None
    summary: str = ""
    model: str | None = None
    finish_reason: str | None = None
    calls: int | None = None
    input_chars: int | None = None
    reflection: str | None = None
    prompt: str | None = None

    @property
    def detailed(self) -> bool:
        """Whether it says more than a kind without a model has to say."""
        return bool(
            self.cost_usd is not None
            or self.adapter
            or self.fail
            or self.summary
            or self.model
            or self.finish_reason
            or self.calls
            or self.input_chars
            or self.reflection
        )


class RetryTask(Op, frozen=True, kw_only=True, gc=False):
    """An attempt failed and another follows at `due_ms`: the state becomes retrying. Fence as EndTask."""

    seq: int
    attempt: int
    due_ms: int
    at_ms: int
    error: bytes | None = None
    reason: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    fail: str | None = None
    prompt: str | None = None


class ReleaseTask(Op, frozen=True, kw_only=True, gc=False):
    """An attempt is given back unused (the engine stops, an instance was retired): pending again, and the attempt does not count
    against `max_attempts`. `crashed`: because its process died under it, which is counted. Fence as EndTask."""

    seq: int
    attempt: int
    at_ms: int
    reason: str = ""
    crashed: bool = False


class DueTask(Op, frozen=True, gc=False):
    """A scheduled or retrying task is due: it becomes pending. Fence: it is one of these."""

    seq: int
    at_ms: int


class CancelTask(Op, frozen=True, gc=False):
    """A waiting task is cancelled. Fence: it waits (running ones end through EndTask with state cancelled)."""

    seq: int
    at_ms: int
    reason: str = ""


class ExpireTask(Op, frozen=True, gc=False):
    """A waiting task's deadline passed: failed. Fence: it waits."""

    seq: int
    at_ms: int
    error: bytes
    reason: str = ""
    fail: str | None = None


class ReviveTask(Op, frozen=True, gc=False):
    """A failed or cancelled task is put back into its queue with `attempts` further attempts. Fence: it is one of these.

    Attempt numbers go on where they were: they are half of the fence, so none may come twice. A `payload` replaces the task's own,
    a `priority` its priority (the rank is given), an `adapter` the names of the adapters that it asks for. What earlier attempts used
    is in their record; the row begins at nothing."""

    seq: int
    at_ms: int
    rank: int
    attempts: int = 1
    payload: bytes | None = None
    priority: int | None = None
    blocked: int = 0
    adapter: str | None = None


class SetBlocked(Op, frozen=True, gc=False):
    """How many tasks a task still waits for; at 0 it is like any other waiting one. Fence: it waits."""

    seq: int
    blocked: int
    at_ms: int


class MoveTask(Op, frozen=True, gc=False):
    """A waiting task goes into another queue. Fence: it waits. Its entry raises `conflict` if that queue has its idempotency key."""

    seq: int
    queue: str
    rank: int


class SetPriority(Op, frozen=True, gc=False):
    """A waiting task gets another priority, and the rank that follows from it. Fence: it waits."""

    seq: int
    priority: int
    rank: int


class RateRecord(Op, frozen=True, gc=False):
    """What a supervisor says of a task: into its latest performance record. Nothing happens when it has none (any more)."""

    task: int
    rating: float | None
    comments: str


class AppendEvent(Op, frozen=True, kw_only=True, gc=False):
    """An event. `task_seq` puts it into that task's timeline."""

    at_ms: int
    level: str
    type: str
    who: str
    about: str
    text: str
    task_seq: int | None = None
    correlation: str | None = None
    causation: str | None = None


class PutDefinition(Op, frozen=True, gc=False):
    """Write a worker, pool or queue definition, or replace it."""

    kind: str
    name: str
    json: bytes
    digest: str
    at_ms: int


class DeleteDefinition(Op, frozen=True, gc=False):
    """Remove a definition; nothing happens when there is none."""

    kind: str
    name: str


class PutDocument(Op, frozen=True, gc=False):
    """Write a small thing (an operation, an approval, a lesson, …), or replace it. `ref` is what it is about, `at_ms` its time; both
    can be searched."""

    kind: str
    key: str
    ref: str
    at_ms: int
    json: bytes


class DeleteDocument(Op, frozen=True, gc=False):
    """Remove a document; nothing happens when there is none."""

    kind: str
    key: str


class PutSamples(Op, frozen=True, gc=False):
    """Points of series: (series, step_ms, at_ms, value) each, where `at_ms` is a multiple of the step. A later one replaces."""

    rows: tuple[tuple[str, int, int, float], ...]


class PruneSamples(Op, frozen=True, gc=False):
    """Delete a series' points at one step that lie before a time (Unix ms)."""

    series: str
    step_ms: int
    before_ms: int


class PruneEvents(Op, frozen=True, gc=False):
    """Delete the events with numbers below `before`."""

    before: int


class PruneRecords(Op, frozen=True, gc=False):
    """Delete the performance records with numbers below `before`."""

    before: int


class DeleteTasks(Op, frozen=True, gc=False):
    """Delete tasks with all that belongs to them but their records and events. Those that have not ended stay."""

    seqs: tuple[int, ...]


class IndexWords(Op, frozen=True, gc=False):
    """Bring the next payloads and results into the word index, `limit` of each."""

    limit: int


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What became of an entry. `fenced`: an operation did not find what it expected, and nothing of the entry was written.
    Entries of `memory` durability are acknowledged before they are written; theirs is always False."""

    fenced: bool


class ChangedTask(msgspec.Struct, frozen=True, gc=False):
    """A task that a batch changed. `before` is its state before, None for a new one; `after` is None when it was deleted;
    `came_from` is the queue that it was in, if it moved."""

    seq: int
    queue: str
    before: str | None
    after: str | None
    came_from: str | None = None


def criteria_key(definition: str | None, capabilities: tuple[str, ...]) -> str:
    """What a task asks of the worker, as one canonical and readable text: tasks of one queue and tenant with equal keys are one
    class. Empty when it asks for nothing."""
    if definition is None and not capabilities:
        return ""
    return f"{definition or '*'}+{','.join(sorted(set(capabilities)))}"
