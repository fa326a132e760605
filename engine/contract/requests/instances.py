"""Requests about instances: live ones, directly spawned ones that are talked to, and those that are no more."""

from __future__ import annotations

from typing import ClassVar

from engine.contract.records import InstanceRow
from engine.contract.records.instances import ChatTurn, InstanceDetail, Overrides, RetiredRow
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class InstanceList(Request[list[InstanceRow]], frozen=True, kw_only=True):
    """All live instances and what each is doing; with `where` those that match a filter such as `state:busy definition:nano`."""

    method: ClassVar[str] = "instance.list"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerInstance.listActive", "aiWorkerPool.getInstanceStatus")

    where: str = ""


class InstanceRetired(Request[list[RetiredRow]], frozen=True, kw_only=True):
    """Instances that are no more, with how and why they went; the latest first. `where` is a filter such as `definition:nano`."""

    method: ClassVar[str] = "instance.retired"
    effect: ClassVar[Effect] = Effect.read

    where: str = ""
    limit: int = 100


class InstanceShow(Request[InstanceDetail], frozen=True, kw_only=True):
    """An instance whole, live or retired: its configuration in force, its conversation, what it used."""

    method: ClassVar[str] = "instance.show"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerInstance.get",)

    id: str


class InstanceSpawn(Request[InstanceDetail], frozen=True, kw_only=True):
    """Start an instance of a definition to talk to. It keeps its conversation, survives the engine, and lives until it is retired.

    The overrides go before the definition's values, for this instance only. `files` replace the definition's own file contexts."""

    method: ClassVar[str] = "instance.spawn"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerInstance.spawn",)

    definition: str
    overrides: Overrides = Overrides()
    files: tuple[str, ...] | None = None


class InstanceSet(Request[InstanceDetail], frozen=True, kw_only=True):
    """Change a directly spawned instance: its state (`idle` clears its last error, `broken` with a `note` takes it out of use), its
    active file contexts, or what it used beside its own calls (tokens are added)."""

    method: ClassVar[str] = "instance.set"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerInstance.updateStatus", "aiWorkerInstance.updateTokenUsage")

    id: str
    state: str | None = None
    note: str = ""
    files: tuple[str, ...] | None = None
    tokens_in: int = 0
    tokens_out: int = 0


class InstanceRetire(Request[InstanceDetail], frozen=True, kw_only=True):
    """End an instance. A directly spawned one goes at once and stays in the history with its conversation; one of a pool takes no
    further task and goes when the one it has has ended. `status` is how it ended: completed, exhausted, failed, full or spent."""

    method: ClassVar[str] = "instance.retire"
    effect: ClassVar[Effect] = Effect.destructive
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerInstance.retire",)

    id: str
    reason: str = ""
    status: str = "completed"


class InstanceChat(Request[ChatTurn], frozen=True, kw_only=True):
    """Say something to a directly spawned instance and get its answer; the conversation so far is what it answers to.

    With `stream` the answer comes in `instance.chunk` notifications too. When its definition's rate limit is used up, it waits until a
    window opens, `wait_ms` at most (None: as long as it takes). A caller that leaves ends the answer."""

    method: ClassVar[str] = "instance.chat"
    effect: ClassVar[Effect] = Effect.write

    id: str
    message: str
    stream: bool = False
    wait_ms: int | None = None


class InstanceStop(Request[None], frozen=True, kw_only=True):
    """Stop the answer that an instance is giving. What it has said so far is its answer."""

    method: ClassVar[str] = "instance.stop"
    effect: ClassVar[Effect] = Effect.write

    id: str
