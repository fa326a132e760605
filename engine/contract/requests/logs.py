"""Requests about the logs of the engine and its processes."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.records.logs import LogRow
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class LogList(Request[list[LogRow]], frozen=True, kw_only=True):
    """The logs that there are."""

    method: ClassVar[str] = "logs.list"
    effect: ClassVar[Effect] = Effect.read


class LogText(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a log, as its process wrote it: the bytes from `start` to `next`, where to read on from. `life` tells one life's log
    from the next one's, `changed_ms` is when it was last written to."""

    name: str
    life: int
    text: str
    next: int
    start: int = 0
    changed_ms: int = 0


class LogRead(Request[LogText], frozen=True, kw_only=True):
    """The last lines of a log: `engine`, or a process such as `nano.0`. `previous` reads the log of so many lives before. `after` (the
    `next` of the answer before, with its `life`) reads what came since; a log that has begun anew is read from its beginning. `before`
    (a `start`, with its `life`) reads the lines that lie before it, as many as one answer holds."""

    method: ClassVar[str] = "logs.read"
    effect: ClassVar[Effect] = Effect.read

    name: str
    previous: int = 0
    lines: int = 50
    after: int | None = None
    before: int | None = None
    life: int | None = None


class LogFollowed(msgspec.Struct, frozen=True, kw_only=True):
    """A log that is followed. What it holds from the asked place on comes as `logs.more`, at once and while it grows."""

    stream: str


class LogFollow(Request[LogFollowed], frozen=True, kw_only=True):
    """Follow a log's current life. Pieces arrive as `logs.more` notifications, at most ten a second and none while nothing is written,
    until `logs.unfollow`. `after` and `life` are those of the last `logs.read`; without them all of it comes. `every_ms` is the least
    time between two pieces, for a line that is thin."""

    method: ClassVar[str] = "logs.follow"
    effect: ClassVar[Effect] = Effect.read

    name: str
    after: int = 0
    life: int | None = None
    every_ms: int = 0


class LogUnfollow(Request[None], frozen=True, kw_only=True):
    """Stop following a log."""

    method: ClassVar[str] = "logs.unfollow"
    effect: ClassVar[Effect] = Effect.read

    stream: str
