"""Requests about maintenance: nothing new starts, until somebody says so, whatever is restarted in between."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.requests.base import Request
from engine.contract.states import Effect


class Maintenance(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing starts, who said so, and since when."""

    reason: str
    by: str
    since_ms: int


class RunningTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that runs. `idempotent` False: its kind may do something twice if it is taken back and run again."""

    id: str
    instance: str
    definition: str
    kind: str
    idempotent: bool
    for_ms: int


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """How far a drain is. A restart now would take `running` back to their queues; `risky` are the kinds among them that are not
    idempotent. `idle` when nothing runs: the machine is quiet."""

    maintenance: Maintenance
    idle: bool
    running: list[RunningTask]
    risky: list[str]
    waiting: int


class EngineDrain(Request[Drained], frozen=True, kw_only=True):
    """Start no more tasks, for maintenance: what runs goes on, what is submitted waits. It outlasts restarts, until engine.resume.

    The answer comes when nothing runs any more, or after `wait_ms`, and says what a restart would take back."""

    method: ClassVar[str] = "engine.drain"
    effect: ClassVar[Effect] = Effect.write

    reason: str = ""
    wait_ms: int = 0


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """`maintenance` is what ended, None when there was none."""

    maintenance: Maintenance | None
    waiting: int


class EngineResume(Request[Resumed], frozen=True, kw_only=True):
    """End the maintenance: tasks start again."""

    method: ClassVar[str] = "engine.resume"
    effect: ClassVar[Effect] = Effect.write
