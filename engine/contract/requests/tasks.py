"""Requests about tasks."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from engine.contract.errors import ErrorInfo
from engine.contract.records import TaskDetail, TaskRow
from engine.contract.requests.base import Request
from engine.contract.states import Effect
from engine.contract.why import Why


class TaskAck(msgspec.Struct, frozen=True, kw_only=True):
    """What a submit promises: the task is stored at its queue's durability. `duplicate`: the idempotency key was known, nothing
    was added."""

    id: str
    state: str
    duplicate: bool = False


class TaskSubmit(Request[TaskAck], frozen=True, kw_only=True):
    """Put a task into a queue. It is acknowledged when it is stored as durably as the queue promises.

    `template` gives defaults for everything that is not said here; with a queue of its own, `queue` may be left out. The task waits
    until those in `after` have completed, and fails if one of them does not. `sources` are added to those of the other levels,
    `supervisor` goes before theirs."""

    method: ClassVar[str] = "task.submit"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerWorkQueue.submitTask", "WorkQueue.SubmitTask")

    queue: str = ""
    payload: dict[str, Any] = {}
    priority: int | None = None
    definition: str | None = None
    capabilities: tuple[str, ...] = ()
    tenant: str = ""
    due_ms: int | None = None
    deadline_ms: int | None = None
    max_attempts: int | None = None
    idempotency_key: str | None = None
    batch: str | None = None
    template: str | None = None
    sources: tuple[str, ...] = ()
    supervisor: str = ""
    after: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}

    @classmethod
    def translated(cls, params: dict[str, Any]) -> dict[str, Any] | None:
        from engine.contract.requests.seed_names import of_submit

        return of_submit(params)


class TaskOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a task ended (or that it has not, when `state` is not an end state)."""

    id: str
    state: str
    attempt: int
    result: Any | None = None
    error: ErrorInfo | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None


class TaskRun(Request[TaskOutcome], frozen=True, kw_only=True):
    """Submit a task and wait for its end. `timeout_ms` bounds the wait, not the task."""

    method: ClassVar[str] = "task.run"
    effect: ClassVar[Effect] = Effect.write

    queue: str
    payload: dict[str, Any] = {}
    priority: int | None = None
    definition: str | None = None
    timeout_ms: int | None = None


class TaskWait(Request[list[TaskOutcome]], frozen=True, kw_only=True):
    """Wait until the given tasks have ended. After `timeout_ms` the answer says how far they are."""

    method: ClassVar[str] = "task.wait"
    effect: ClassVar[Effect] = Effect.read

    ids: tuple[str, ...]
    timeout_ms: int | None = None


class TaskShow(Request[TaskDetail], frozen=True, kw_only=True):
    """A task whole: what was asked, what came out, what happened."""

    method: ClassVar[str] = "task.show"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerWorkQueue.getTaskInfo", "WorkQueue.GetTaskInfo")

    id: str


class TaskPage(msgspec.Struct, frozen=True, kw_only=True):
    rows: list[TaskRow]
    total: int


class TaskList(Request[TaskPage], frozen=True, kw_only=True):
    """Tasks that match a filter in the language of locations, such as `state:failed queue:demo sort:-submitted`."""

    method: ClassVar[str] = "task.list"
    effect: ClassVar[Effect] = Effect.read

    where: str = ""
    limit: int = 100
    offset: int = 0


class ExportedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task with its bodies."""

    row: TaskRow
    payload: Any = None
    result: Any = None
    error: ErrorInfo | None = None


class ExportPage(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks by number; `next` is the offset of the page after this one, None when there is none."""

    tasks: list[ExportedTask]
    total: int
    next: int | None = None


class TaskExport(Request[ExportPage], frozen=True, kw_only=True):
    """Tasks that match a filter, with payloads and results, the oldest first. A page ends early when it grows large."""

    method: ClassVar[str] = "task.export"
    effect: ClassVar[Effect] = Effect.read

    where: str = ""
    offset: int = 0
    limit: int = 500


class PlanCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a change is about to cost or lose: tokens and US dollars that these tasks used so far, and how many of them run now."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    running: int = 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a change would do: the ids that it is fixed to, what it does to them, and what that costs."""

    request: str
    effect: str
    ids: list[str]
    count: int
    cost: PlanCost


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What all answers to changes say: the operation that it is (none for a dry run), when that is due if it waits, and the plan of a
    dry run."""

    operation: str = ""
    due_ms: int | None = None
    plan: Plan | None = None


class Cancelled(Change, frozen=True, kw_only=True):
    """`cancelled` ended at once, `stopping` run and were told to stop, `ended` had ended before."""

    cancelled: list[str] = []
    stopping: list[str] = []
    ended: list[str] = []


class TaskCancel(Request[Cancelled], frozen=True, kw_only=True):
    """Cancel tasks. Waiting ones end at once, running ones are told to stop.

    Name them by `ids` or by `where`, a filter that is resolved once. `dry_run` only says what it would do; with `delay_ms` it is an
    operation that can be undone until then."""

    method: ClassVar[str] = "task.cancel"
    effect: ClassVar[Effect] = Effect.destructive

    ids: tuple[str, ...] = ()
    where: str = ""
    reason: str = ""
    dry_run: bool = False
    delay_ms: int = 0


class Retried(Change, frozen=True, kw_only=True):
    """`retried` wait again. `held` follow when the canaries have completed."""

    retried: list[str] = []
    refused: dict[str, str] = {}
    held: int = 0


class TaskRetry(Request[Retried], frozen=True, kw_only=True):
    """Put failed or cancelled tasks back into their queue, with all attempts. One that waits for another attempt, or for its due time,
    and is named by its id waits no longer.

    Name them by `ids` or by `where`, a filter that is resolved once. `adapter` replaces the adapters that they ask for ("base": none),
    `set` is merged into their payloads, `priority` replaces theirs, `front` puts them before everything else. With `canary` only so
    many go first; the rest follow when these have completed, and stay as they are if one fails."""

    method: ClassVar[str] = "task.retry"
    effect: ClassVar[Effect] = Effect.write

    ids: tuple[str, ...] = ()
    where: str = ""
    adapter: str | None = None
    set: dict[str, Any] = {}
    priority: int | None = None
    front: bool = False
    canary: int = 0
    reason: str = ""
    dry_run: bool = False
    delay_ms: int = 0


class Changed(Change, frozen=True, kw_only=True):
    """`changed` were changed; `refused` says of each of the others why not."""

    changed: list[str] = []
    refused: dict[str, str] = {}


class TaskMove(Request[Changed], frozen=True, kw_only=True):
    """Move waiting tasks into another queue, or with `front` before everything else in theirs. Name them by `ids` or by `where`."""

    method: ClassVar[str] = "task.move"
    effect: ClassVar[Effect] = Effect.write

    ids: tuple[str, ...] = ()
    where: str = ""
    queue: str = ""
    front: bool = False
    reason: str = ""
    dry_run: bool = False
    delay_ms: int = 0


class TaskPriority(Request[Changed], frozen=True, kw_only=True):
    """Change the priority of waiting tasks (bigger is sooner). Name them by `ids` or by `where`."""

    method: ClassVar[str] = "task.priority"
    effect: ClassVar[Effect] = Effect.write

    priority: int
    ids: tuple[str, ...] = ()
    where: str = ""
    reason: str = ""
    dry_run: bool = False
    delay_ms: int = 0


class TaskExplain(Request[Why], frozen=True, kw_only=True):
    """Why a task does not run now: the gates in the order in which the scheduler tests them."""

    method: ClassVar[str] = "task.explain"
    effect: ClassVar[Effect] = Effect.read

    id: str


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a followed task is: its text so far from the asked offset on, and whether more can come. Offsets count characters."""

    stream: str
    task: str
    attempt: int
    offset: int
    text: str
    ended: bool


class TaskFollow(Request[StreamState], frozen=True, kw_only=True):
    """Follow a task's text. Chunks arrive as `stream.chunk` notifications until `task.unfollow` or the task's end."""

    method: ClassVar[str] = "task.follow"
    effect: ClassVar[Effect] = Effect.read

    id: str
    offset: int = 0


class TaskUnfollow(Request[None], frozen=True, kw_only=True):
    """Stop following a task's text."""

    method: ClassVar[str] = "task.unfollow"
    effect: ClassVar[Effect] = Effect.read

    stream: str
