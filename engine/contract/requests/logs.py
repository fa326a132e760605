"""Requests about the logs of the engine and its model processes."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.requests.base import Request
from engine.contract.states import Effect


class LogRow(msgspec.Struct, frozen=True, kw_only=True):
    """A log: `id` is `engine` or a process; `lives` counts those before the current one that are kept."""

    id: str
    size_bytes: int
    changed_ms: int
    lives: int = 0


class LogList(Request[list[LogRow]], frozen=True, kw_only=True):
    """The logs that there are."""

    method: ClassVar[str] = "logs.list"
    effect: ClassVar[Effect] = Effect.read


class LogText(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a log, as its process wrote it. `next` is where to read on from; `life` tells one life's log from the next one's."""

    name: str
    life: int
    text: str
    next: int


class LogRead(Request[LogText], frozen=True, kw_only=True):
    """The last lines of a log: `engine`, or a model process such as `nano.0`. `previous` reads the log of so many lives before. `after`
    (the `next` of the answer before, with its `life`) reads what came since; a log that has begun anew is read from its beginning."""

    method: ClassVar[str] = "logs.read"
    effect: ClassVar[Effect] = Effect.read

    name: str
    previous: int = 0
    lines: int = 50
    after: int | None = None
    life: int | None = None
