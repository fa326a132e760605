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
        return self in _ENDED


_ENDED = frozenset({TaskState.completed, TaskState.failed, TaskState.cancelled})


class InstanceState(StrEnum):
    starting = "starting"
    idle = "idle"
    busy = "busy"
    retiring = "retiring"


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
