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

    A second task with the same queue and idempotency key is refused: its entry raises `conflict`."""

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


class StartTask(Op, frozen=True, gc=False):
    """An attempt begins. Fence: the task waits, and `attempt` is greater than its last one."""

    seq: int
    attempt: int
    instance: str
    pool: str
    definition: str
    at_ms: int


class EndTask(Op, frozen=True, kw_only=True, gc=False):
    """An attempt ends the task: `state` is an end state. Fence: it is processing this attempt of this epoch.

    `error` is ErrorInfo as JSON; `reason` is what the tasks table shows (cut to 200 characters)."""

    seq: int
    attempt: int
    state: TaskState
    at_ms: int
    result: bytes | None = None
    error: bytes | None = None
    reason: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None


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


class ReviveTask(Op, frozen=True, gc=False):
    """A failed or cancelled task is put back into its queue with `attempts` further attempts. Fence: it is one of these.

    Attempt numbers go on where they were: they are half of the fence, so none may come twice."""

    seq: int
    at_ms: int
    rank: int
    attempts: int = 1


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


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What became of an entry. `fenced`: an operation did not find what it expected, and nothing of the entry was written.
    Entries of `memory` durability are acknowledged before they are written; theirs is always False."""

    fenced: bool


class ChangedTask(msgspec.Struct, frozen=True, gc=False):
    """A task that a batch changed. `before` is None for a new one."""

    seq: int
    queue: str
    before: str | None
    after: str


def criteria_key(definition: str | None, capabilities: tuple[str, ...]) -> str:
    """What a task asks of the worker, as one canonical and readable text: tasks of one queue and tenant with equal keys are one
    class. Empty when it asks for nothing."""
    if definition is None and not capabilities:
        return ""
    return f"{definition or '*'}+{','.join(sorted(set(capabilities)))}"
