"""One sample of each row, and ways to make others like it: what both the command line and the console are tested with."""

from __future__ import annotations

from typing import Any

from engine.contract.records import InstanceRow, ModelRow, PoolRow, QueueRow, RecordRow, TaskRow, WorkerRow
from engine.contract.why import Gate, Why


def task_row(number: int = 1, **changes: Any) -> TaskRow:
    fields: dict[str, Any] = {
        "id": f"t-1000{number}",
        "queue": "demo",
        "state": "completed",
        "priority": 0,
        "attempt": 1,
        "max_attempts": 3,
        "by": "operator",
        "submitted_ms": 1_700_000_000_000,
        "reason": "fine",
    }
    return TaskRow(**(fields | changes))


def queue_row(name: str = "demo", **changes: Any) -> QueueRow:
    fields: dict[str, Any] = {
        "id": name,
        "state": "open",
        "waiting": 3,
        "running": 1,
        "scheduled": 0,
        "retrying": 0,
        "completed": 10,
        "failed": 2,
        "cancelled": 0,
        "head_ms": None,
        "in_per_min": 1.5,
        "out_per_min": 0.0,
        "pools": ("demo",),
        "durability": "disk",
        "gate": "",
    }
    return QueueRow(**(fields | changes))


def pool_row(name: str = "demo", **changes: Any) -> PoolRow:
    fields: dict[str, Any] = {
        "id": name,
        "state": "busy",
        "definition": "nano",
        "queues": ("demo",),
        "model": "aiwm-nano",
        "busy": 1,
        "idle": 0,
        "starting": 0,
        "min_idle": 1,
        "max_total": 4,
        "waiting": 3,
        "held_by": "",
    }
    return PoolRow(**(fields | changes))


def instance_row(number: int = 1, **changes: Any) -> InstanceRow:
    fields: dict[str, Any] = {
        "id": f"i-{number:02d}",
        "state": "busy",
        "pool": "demo",
        "definition": "nano",
        "kind": "goat",
        "task": "t-10001",
        "since_ms": 1,
        "done": 1,
        "failed": 0,
        "tokens": 5,
        "note": "",
    }
    return InstanceRow(**(fields | changes))


def model_row(**changes: Any) -> ModelRow:
    fields: dict[str, Any] = {
        "id": "aiwm-nano.0",
        "model": "aiwm-nano",
        "state": "busy",
        "backend": "reference",
        "where": "CPU",
        "running": 1,
        "waiting": 0,
        "slots": 8,
        "tokens_per_s": 12.0,
        "steps_per_s": 3.0,
        "weights_bytes": 5_242_880,
        "kv_bytes": 1024,
        "kv_used_bytes": 0,
        "rss_bytes": 1,
        "adapters": 0,
        "restarts": 0,
        "since_ms": 1,
        "pid": 7,
        "note": "",
    }
    return ModelRow(**(fields | changes))


def record_row(number: int = 1, **changes: Any) -> RecordRow:
    fields: dict[str, Any] = {
        "id": str(number),
        "task": f"t-{number:05d}",
        "state": "completed",
        "success": True,
        "ended_ms": 1_700_000_000_000,
        "duration_ms": 400,
        "attempt": 1,
        "queue": "demo",
        "pool": "demo",
        "definition": "nano",
        "instance": "i-01",
        "by": "operator",
        "tokens_in": 30,
        "tokens_out": 5,
        "summary": "fine",
    }
    return RecordRow(**(fields | changes))


def worker_row(name: str = "nano", **changes: Any) -> WorkerRow:
    fields: dict[str, Any] = {
        "id": name,
        "kind": "goat",
        "model": "aiwm-nano",
        "capabilities": (),
        "pools": ("demo",),
        "digest": "d",
        "description": "",
    }
    return WorkerRow(**(fields | changes))


def why(scope: str, about: str) -> Why:
    """Something that moves, with one closed gate."""
    gate = Gate(
        name="pool at max",
        closed=True,
        count=3,
        since_ms=1_795_144_001_000,
        opens="when a task ends",
        why="4 of 4 busy",
    )
    return Why(
        scope=scope,
        about=about,
        moving=True,
        summary=f"{about} waits for a free instance",
        gates=(Gate(name="queue open", closed=False), gate),
    )
