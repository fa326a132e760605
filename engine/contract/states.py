"""States: one word each, everywhere. How they look (glyph, colour) is the console's business."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    pending = "pending"
    scheduled = "scheduled"
    processing = "processing"
    retrying = "retrying"
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"

    @property
    def ended(self) -> bool:
        return self in ENDED_STATES


ENDED_STATES = frozenset({TaskState.completed, TaskState.failed, TaskState.cancelled})
"""Of tasks; their words are in it, too."""


class InstanceState(StrEnum):
    """What a live instance does, and how a retired one ended.

    `stuck` is busy, and its model has said nothing for a minute, or five before the first token; `limited` waits until a window of its
    definition opens, `spent` until the next day; `full`: its context has no room for another turn; `broken`: its last call failed, the
    next may work. Retired ones were `completed`, `exhausted` (served enough, or their definition changed), `failed`, `full` or
    `spent`."""

    starting = "starting"
    idle = "idle"
    busy = "busy"
    stuck = "stuck"
    limited = "limited"
    spent = "spent"
    full = "full"
    broken = "broken"
    retiring = "retiring"
    completed = "completed"
    exhausted = "exhausted"
    failed = "failed"


SEED_INSTANCE_STATES: dict[str, InstanceState] = {
    "initializing": InstanceState.starting,
    "context_full": InstanceState.full,
    "rate_limited": InstanceState.limited,
    "token_limit_reached": InstanceState.spent,
    "error": InstanceState.broken,
    "retired_completed": InstanceState.completed,
    "retired_exhausted": InstanceState.exhausted,
    "retired_error": InstanceState.failed,
}
"""The seeds' words for the same states, understood wherever a state is given."""


class ModelState(StrEnum):
    stopped = "stopped"
    starting = "starting"
    ready = "ready"
    busy = "busy"
    draining = "draining"
    backoff = "backoff"
    failed = "failed"


class Durability(StrEnum):
    """What an acknowledgement of a queue promises: `disk` survives power loss, `os` a killed engine, `memory` neither."""

    disk = "disk"
    os = "os"
    memory = "memory"


class Level(StrEnum):
    debug = "debug"
    info = "info"
    warn = "warn"
    error = "error"
    audit = "audit"
    ask = "ask"


class Effect(StrEnum):
    """What a request may do: `read` nothing, `write` something that can be undone or repeated, `destructive` lose something."""

    read = "read"
    write = "write"
    destructive = "destructive"
