"""Requests that change definitions: queues and pools (made and looked at in `fleet`), task templates, data sources, worker files.

An update changes only the fields that it says; the definition is checked as a whole. A delete is refused while something refers to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import msgspec

from engine.contract.definitions import DataSource, PoolDefinition, QueueDefinition, TaskTemplate, WorkerDefinition
from engine.contract.partial import partial_of
from engine.contract.records import PoolDetail, QueueDetail, WorkerDetail
from engine.contract.records.definitions import ScaleStep, SourceDetail, SourceRow, TemplateDetail, TemplateRow
from engine.contract.requests.base import Request
from engine.contract.requests.bundles import BundleReport
from engine.contract.states import Effect

if TYPE_CHECKING:
    PoolChanges: TypeAlias = Any
    QueueChanges: TypeAlias = Any
    TemplateChanges: TypeAlias = Any
    SourceChanges: TypeAlias = Any
else:
    PoolChanges = partial_of(PoolDefinition)
    QueueChanges = partial_of(QueueDefinition)
    TemplateChanges = partial_of(TaskTemplate)
    SourceChanges = partial_of(DataSource)

NO_POOL_CHANGES, NO_QUEUE_CHANGES, NO_TEMPLATE_CHANGES, NO_SOURCE_CHANGES = (
    PoolChanges(),
    QueueChanges(),
    TemplateChanges(),
    SourceChanges(),
)


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What a delete did. `cancelled` are the queue's waiting tasks that went with it, `stopped` those that ran and were told to stop."""

    kind: str
    name: str
    cancelled: int = 0
    stopped: int = 0


class QueueUpdate(Request[QueueDetail], frozen=True, kw_only=True):
    """Change fields of a queue. `clear` names fields that go back to their default."""

    method: ClassVar[str] = "queue.update"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerWorkQueueDefinition.update", "WorkQueue.Update")

    name: str
    changes: QueueChanges = NO_QUEUE_CHANGES
    clear: tuple[str, ...] = ()


class QueueDrain(Request[QueueDetail], frozen=True, kw_only=True):
    """Let a queue work off what it has and take nothing new, until it is resumed."""

    method: ClassVar[str] = "queue.drain"
    effect: ClassVar[Effect] = Effect.write

    name: str
    reason: str = ""


class QueueDelete(Request[Deleted], frozen=True, kw_only=True):
    """Delete a queue. One that has waiting or running tasks is not deleted, unless `cancel_tasks` cancels them all first. Its ended tasks
    stay in the history."""

    method: ClassVar[str] = "queue.delete"
    effect: ClassVar[Effect] = Effect.destructive
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerWorkQueueDefinition.remove", "WorkQueue.Delete")

    name: str
    cancel_tasks: bool = False


class PoolUpdate(Request[PoolDetail], frozen=True, kw_only=True):
    """Change fields of a pool. `clear` names fields that go back to their default."""

    method: ClassVar[str] = "pool.update"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerPoolDefinition.update", "AIWorkerPool.Update")

    name: str
    changes: PoolChanges = NO_POOL_CHANGES
    clear: tuple[str, ...] = ()


class PoolDelete(Request[Deleted], frozen=True, kw_only=True):
    """Delete a pool that no queue names. Its idle instances go at once, busy ones when their task has ended."""

    method: ClassVar[str] = "pool.delete"
    effect: ClassVar[Effect] = Effect.destructive
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerPoolDefinition.remove", "AIWorkerPool.Delete")

    name: str


class PoolHistory(Request[list[ScaleStep]], frozen=True, kw_only=True):
    """How a pool was scaled: each step with its reason and what the pool had after it, the latest first."""

    method: ClassVar[str] = "pool.history"
    effect: ClassVar[Effect] = Effect.read

    name: str
    limit: int = 100


class TemplateList(Request[list[TemplateRow]], frozen=True, kw_only=True):
    """All task templates."""

    method: ClassVar[str] = "template.list"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerWorkItemDefinition.list", "AIWorkerWorkItemDefinition.List")


class TemplateShow(Request[TemplateDetail], frozen=True, kw_only=True):
    """One task template, whole."""

    method: ClassVar[str] = "template.show"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerWorkItemDefinition.get", "AIWorkerWorkItemDefinition.Get")

    name: str


class TemplateCreate(Request[TemplateDetail], frozen=True, kw_only=True):
    """Make a task template: defaults for tasks of one sort, and the schema that their payloads must satisfy."""

    method: ClassVar[str] = "template.create"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerWorkItemDefinition.loadFromString", "AIWorkerWorkItemDefinition.Add")

    definition: TaskTemplate


class TemplateUpdate(Request[TemplateDetail], frozen=True, kw_only=True):
    """Change fields of a task template. Tasks that were submitted stay as they are. `clear` names fields that go back to their default."""

    method: ClassVar[str] = "template.update"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerWorkItemDefinition.update", "AIWorkerWorkItemDefinition.Update")

    name: str
    changes: TemplateChanges = NO_TEMPLATE_CHANGES
    clear: tuple[str, ...] = ()


class TemplateDelete(Request[Deleted], frozen=True, kw_only=True):
    """Delete a task template. Tasks that were made from it stay."""

    method: ClassVar[str] = "template.delete"
    effect: ClassVar[Effect] = Effect.destructive
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerWorkItemDefinition.remove", "AIWorkerWorkItemDefinition.Remove")

    name: str


class SourceList(Request[list[SourceRow]], frozen=True, kw_only=True):
    """All data sources, whether they can be read, and who uses them."""

    method: ClassVar[str] = "source.list"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerGlobalDataSource.list", "AIWorkerDataSource.ListGlobal")


class SourceShow(Request[SourceDetail], frozen=True, kw_only=True):
    """One data source, whole."""

    method: ClassVar[str] = "source.show"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerGlobalDataSource.get", "AIWorkerDataSource.GetGlobal")

    name: str


class SourceCreate(Request[SourceDetail], frozen=True, kw_only=True):
    """Make a data source. Outside the home's files/ it must be `external` and lie beneath a directory that config.toml allows."""

    method: ClassVar[str] = "source.create"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerGlobalDataSource.loadFromString", "AIWorkerDataSource.AddGlobal")

    definition: DataSource


class SourceUpdate(Request[SourceDetail], frozen=True, kw_only=True):
    """Change fields of a data source. `clear` names fields that go back to their default."""

    method: ClassVar[str] = "source.update"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerGlobalDataSource.update", "AIWorkerDataSource.UpdateGlobal")

    name: str
    changes: SourceChanges = NO_SOURCE_CHANGES
    clear: tuple[str, ...] = ()


class SourceDelete(Request[Deleted], frozen=True, kw_only=True):
    """Delete a data source that nothing names. The files in it stay."""

    method: ClassVar[str] = "source.delete"
    effect: ClassVar[Effect] = Effect.destructive
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerGlobalDataSource.remove", "AIWorkerDataSource.RemoveGlobal")

    name: str


class WorkerCreate(Request[WorkerDetail], frozen=True, kw_only=True):
    """Add one worker definition to those in force; there is no other way to change one than to replace the whole set. The file of worker
    definitions does not get it: a changed file that lacks it is refused as long as a pool names it."""

    method: ClassVar[str] = "worker.create"
    effect: ClassVar[Effect] = Effect.write

    definition: WorkerDefinition


class WorkerLoad(Request[BundleReport], frozen=True, kw_only=True):
    """Replace all worker definitions by those of a JSON document (a list, or an object with the list), or change nothing if anything in
    it is wrong."""

    method: ClassVar[str] = "worker.load"
    effect: ClassVar[Effect] = Effect.destructive
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerDefinition.loadFromString",)
    unlogged: ClassVar[tuple[str, ...]] = ("workers",)

    workers: str


class WorkerValidate(Request[BundleReport], frozen=True, kw_only=True):
    """Everything that is wrong with a document of worker definitions, and what loading it would change. Changes nothing."""

    method: ClassVar[str] = "worker.validate"
    effect: ClassVar[Effect] = Effect.read
    unlogged: ClassVar[tuple[str, ...]] = ("workers",)

    workers: str
