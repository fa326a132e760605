"""Records of tasks, the fleet and events."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.definitions import PoolDefinition, QueueDefinition, WorkerDefinition
from engine.contract.errors import ErrorInfo
from engine.contract.records.notes import TaskNotes


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records: every row has an `id` that is unique in its table and never changes."""

    id: str


def total_tokens(tokens_in: int | None, tokens_out: int | None) -> int | None:
    """Both together; None when neither is known."""
    return None if tokens_in is None and tokens_out is None else (tokens_in or 0) + (tokens_out or 0)


class TaskRow(Record, frozen=True, kw_only=True):
    """One line of the tasks table. `reason` is what the last column says: the answer's start, the gate, the error.

    `adapter` names the adapters that it asked for or got, comma-separated; `fail` is the fingerprint of its last failure, equal for
    failures alike; `after` counts the tasks that it still waits for."""

    queue: str
    state: str
    priority: int
    attempt: int
    max_attempts: int
    by: str
    submitted_ms: int
    due_ms: int | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    definition: str | None = None
    pool: str | None = None
    instance: str | None = None
    batch: str | None = None
    tenant: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    template: str | None = None
    adapter: str | None = None
    cost_usd: float | None = None
    fail: str | None = None
    after: int = 0
    error: str | None = None
    reason: str = ""

    @property
    def tokens(self) -> int | None:
        """Tokens in and out together."""
        return total_tokens(self.tokens_in, self.tokens_out)


class TimelineStep(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a task's timeline, from its events."""

    at_ms: int
    type: str
    text: str


class TaskDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A task whole: its row, what was asked, what came out, what happened on the way."""

    row: TaskRow
    payload: Any
    result: Any | None = None
    error: ErrorInfo | None = None
    deadline_ms: int | None = None
    idempotency_key: str | None = None
    capabilities: tuple[str, ...] = ()
    timeline: tuple[TimelineStep, ...] = ()
    notes: TaskNotes = TaskNotes()


class QueueRow(Record, frozen=True, kw_only=True):
    """`head_ms` is the submit time of the oldest waiting task; in/out are tasks per minute over the last minute. `p50_ms` and `p95_ms`
    are how long tasks ran that completed in the last five minutes (None: there were none); `empty_ms` is in how long nothing will wait
    at these rates (None: nothing waits, or it never will be empty); `trend` is how many waited during the last
    hour, in twenty pieces of three minutes, the newest last."""

    state: str
    waiting: int
    running: int
    scheduled: int
    retrying: int
    completed: int
    failed: int
    cancelled: int
    head_ms: int | None
    in_per_min: float
    out_per_min: float
    pools: tuple[str, ...]
    durability: str
    gate: str
    p50_ms: float | None = None
    p95_ms: float | None = None
    empty_ms: float | None = None
    trend: tuple[int, ...] = ()


class PoolRow(Record, frozen=True, kw_only=True):
    """`head_ms` is the submit time of the oldest task that waits for it, `p50_ms` the median of how long its tasks ran that completed in
    the last five minutes; `up_1h` and `down_1h` count its scaling steps of the last hour."""

    state: str
    definition: str
    queues: tuple[str, ...]
    model: str
    busy: int
    idle: int
    starting: int
    min_idle: int
    max_total: int
    waiting: int
    held_by: str
    head_ms: int | None = None
    p50_ms: float | None = None
    up_1h: int = 0
    down_1h: int = 0


class InstanceRow(Record, frozen=True, kw_only=True):
    """One live instance. `pool` is "" for one that was spawned directly; its `done` counts turns of its chat.

    `max_tasks` is after how many tasks it retires (0: never), `spawned_ms` when it came; `context` the tokens in its context as of its
    last call, of at most `context_max` (0: not known yet); `until_ms` when a window opens that it waits for; `note` its next or last
    trouble."""

    state: str
    pool: str
    definition: str
    kind: str
    task: str | None
    since_ms: int
    done: int
    failed: int
    tokens: int
    note: str
    max_tasks: int = 0
    spawned_ms: int | None = None
    context: int = 0
    context_max: int = 0
    until_ms: int | None = None
    by: str = ""


class WorkerRow(Record, frozen=True, kw_only=True):
    """A worker definition as a row; `digest` names its exact content. `interaction` is how it may be used: conversational and both can
    be chatted with. `key` names its API key and `key_status` says whether that is found, both empty when it needs none."""

    kind: str
    model: str
    capabilities: tuple[str, ...]
    pools: tuple[str, ...]
    digest: str
    description: str
    provider: str = "local"
    status: str = "active"
    interaction: str = "both"
    key: str = ""
    key_status: str = ""


class EventRow(Record, frozen=True, kw_only=True):
    """An immutable fact. `id` is its number as text; `about` is what it is about, `task` the task it belongs to, if any."""

    at_ms: int
    level: str
    type: str
    who: str
    about: str
    text: str
    task: str | None = None
    correlation: str | None = None
    causation: str | None = None


class NeedRow(Record, frozen=True, kw_only=True):
    """A line of "needs you" on the overview: what, why, since when, what to press; ↵ opens `location`. `rank` is by what it costs to wait:
    0 nothing starts, 1 work stands still, 2 it is slow or somebody waits for an answer, 3 it has failed already."""

    since_ms: int
    state: str
    what: str
    why: str
    press: str
    location: str
    rank: int = 2


class MachineRow(Record, frozen=True, kw_only=True):
    """The machine line. `fail_today` counts failures since midnight, `asks` what waits for somebody's decision; `mode` is live, read-only,
    storage-failed or stopping. `gpus` says of each GPU how much of its memory is taken: `GPU0 21.1/24.0G`."""

    host: str
    started_ms: int
    running: int
    waiting: int
    fail_today: int
    tokens_per_s: float
    mode: str
    asks: int = 0
    cpu_percent: float | None = None
    gpus: tuple[str, ...] = ()


class QueueDetail(msgspec.Struct, frozen=True, kw_only=True):
    """`uuid` follows from the name: it is the same in every home, and shows the definition as well as the name does."""

    row: QueueRow
    definition: QueueDefinition
    uuid: str = ""


class PoolDetail(msgspec.Struct, frozen=True, kw_only=True):
    """`uuid` follows from the name: it is the same in every home, and shows the definition as well as the name does."""

    row: PoolRow
    definition: PoolDefinition
    uuid: str = ""


class WorkerDetail(msgspec.Struct, frozen=True, kw_only=True):
    """`uuid` follows from the name: it is the same in every home, and shows the definition as well as the name does."""

    row: WorkerRow
    definition: WorkerDefinition
    uuid: str = ""


ROWS: dict[str, type[Record]] = {
    "tasks": TaskRow,
    "queues": QueueRow,
    "pools": PoolRow,
    "instances": InstanceRow,
    "workers": WorkerRow,
    "events": EventRow,
    "needs": NeedRow,
    "machine": MachineRow,
}
