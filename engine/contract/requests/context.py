"""The request for a task's effective context: what it may use, and which level gave it."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.requests.base import Request
from engine.contract.states import Effect


class LevelSays(msgspec.Struct, frozen=True, kw_only=True):
    """What one level says. `level` is definition, queue, pool, instance, template or task, `name` its own name."""

    level: str
    name: str
    sources: tuple[str, ...] = ()
    supervisor: str = ""


class GivenSource(msgspec.Struct, frozen=True, kw_only=True):
    """A data source and the level that gave it first; `also` are those that name it too. `problem` says why it cannot be used."""

    source: str
    level: str
    name: str
    also: tuple[str, ...] = ()
    problem: str = ""


class GivenSupervisor(msgspec.Struct, frozen=True, kw_only=True):
    """The supervisor in force and the level that gave it; `over` are the levels whose own it goes before."""

    supervisor: str
    level: str
    name: str
    over: tuple[str, ...] = ()


class EffectiveContext(msgspec.Struct, frozen=True, kw_only=True):
    """A task's effective context. `note` says what is still open (a task that waits has no instance yet); `tools` are the ones that it
    may call, `tools_from` whose lists decide, `bounded_by` the tasks on whose behalf it was started."""

    task: str
    levels: tuple[LevelSays, ...]
    sources: tuple[GivenSource, ...]
    supervisor: GivenSupervisor | None
    tools: tuple[str, ...]
    needs_approval: tuple[str, ...]
    tools_allow: tuple[str, ...]
    tools_deny: tuple[str, ...]
    tools_from: tuple[str, ...]
    bounded_by: tuple[str, ...] = ()
    note: str = ""


class TaskContextShow(Request[EffectiveContext], frozen=True, kw_only=True):
    """What a task may use: data sources, supervisor and tools, and which level gave each of them."""

    method: ClassVar[str] = "task.context"
    effect: ClassVar[Effect] = Effect.read

    id: str
