"""Requests about queues, pools, instances, worker definitions and models."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.definitions import PoolDefinition, QueueDefinition
from engine.contract.errors import ErrorInfo
from engine.contract.records import (
    ModelRow,
    PoolDetail,
    PoolRow,
    QueueDetail,
    QueueRow,
    WorkerDetail,
    WorkerRow,
)
from engine.contract.requests.base import Request
from engine.contract.states import Effect
from engine.contract.why import Why


class QueueList(Request[list[QueueRow]], frozen=True, kw_only=True):
    """All queues with what waits, runs and has ended in them."""

    method: ClassVar[str] = "queue.list"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerWorkQueueDefinition.list", "WorkQueue.List")


class QueueShow(Request[QueueDetail], frozen=True, kw_only=True):
    """One queue: its row and its definition."""

    method: ClassVar[str] = "queue.show"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = (
        "aiWorkerWorkQueueDefinition.get",
        "aiWorkerWorkQueue.getStatus",
        "WorkQueue.Get",
        "WorkQueue.GetStatus",
    )

    name: str


class QueueCreate(Request[QueueDetail], frozen=True, kw_only=True):
    """Make a queue. Its pools must exist."""

    method: ClassVar[str] = "queue.create"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerWorkQueueDefinition.loadFromString", "WorkQueue.Create")

    definition: QueueDefinition


class QueuePause(Request[QueueDetail], frozen=True, kw_only=True):
    """Start nothing more from a queue. What runs goes on; what is submitted waits."""

    method: ClassVar[str] = "queue.pause"
    effect: ClassVar[Effect] = Effect.write

    name: str
    reason: str = ""


class QueueResume(Request[QueueDetail], frozen=True, kw_only=True):
    """Let a paused queue go on."""

    method: ClassVar[str] = "queue.resume"
    effect: ClassVar[Effect] = Effect.write

    name: str


class QueueExplain(Request[Why], frozen=True, kw_only=True):
    """What a queue's waiting tasks wait for."""

    method: ClassVar[str] = "queue.explain"
    effect: ClassVar[Effect] = Effect.read

    name: str


class PoolList(Request[list[PoolRow]], frozen=True, kw_only=True):
    """All pools with their instances and what holds them back."""

    method: ClassVar[str] = "pool.list"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerPoolDefinition.list", "AIWorkerPool.List")


class PoolShow(Request[PoolDetail], frozen=True, kw_only=True):
    """One pool: its row and its definition."""

    method: ClassVar[str] = "pool.show"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerPoolDefinition.get", "AIWorkerPool.Get")

    name: str


class PoolCreate(Request[PoolDetail], frozen=True, kw_only=True):
    """Make a pool of instances of one worker definition."""

    method: ClassVar[str] = "pool.create"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerPoolDefinition.loadFromString", "AIWorkerPool.Create")

    definition: PoolDefinition


class PoolScale(Request[PoolDetail], frozen=True, kw_only=True):
    """Change how many instances a pool keeps idle and may have."""

    method: ClassVar[str] = "pool.scale"
    effect: ClassVar[Effect] = Effect.write

    name: str
    min_idle: int | None = None
    max_total: int | None = None


class PoolExplain(Request[Why], frozen=True, kw_only=True):
    """What holds a pool back."""

    method: ClassVar[str] = "pool.explain"
    effect: ClassVar[Effect] = Effect.read

    name: str


class WorkerList(Request[list[WorkerRow]], frozen=True, kw_only=True):
    """All worker definitions; with `where` those that match a filter such as `provider:local name:*extract* capabilities:json`."""

    method: ClassVar[str] = "worker.list"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerDefinition.list", "AIWorkerDefinition.List")

    where: str = ""


class WorkerShow(Request[WorkerDetail], frozen=True, kw_only=True):
    """One worker definition, whole."""

    method: ClassVar[str] = "worker.show"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerDefinition.get", "AIWorkerDefinition.Get")

    name: str


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload of the definitions changed. With errors nothing is changed; warnings hinder nothing."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    unchanged: int
    errors: list[ErrorInfo] = []
    warnings: list[ErrorInfo] = []


class WorkerReload(Request[Reloaded], frozen=True, kw_only=True):
    """Read `ai_worker_definitions.json` again. It replaces the whole set, or nothing if anything in it is wrong."""

    method: ClassVar[str] = "worker.reload"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerDefinition.loadFromFile",)


class ModelList(Request[list[ModelRow]], frozen=True, kw_only=True):
    """All model processes; with `known` the models that are not loaded, too."""

    method: ClassVar[str] = "model.list"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("model.ps",)

    known: bool = False


class ModelExplain(Request[Why], frozen=True, kw_only=True):
    """What holds a model back."""

    method: ClassVar[str] = "model.explain"
    effect: ClassVar[Effect] = Effect.read

    name: str
