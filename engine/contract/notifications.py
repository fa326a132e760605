"""What the engine sends without being asked: changes of open views and chunks of followed text."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from engine.contract.requests.logs import LogText


class ViewChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A view changed. `seq` grows by one each time: a gap means something was dropped, and the client reopens.

    `rows` are new or changed rows of the window, `removed` ids that left it, `order` the window's ids in order when that
    changed (None: as before). The counts are as in ViewRows."""

    method: ClassVar[str] = "view.changed"

    view: str
    seq: int
    rows: list[dict[str, Any]] = []
    removed: list[str] = []
    order: list[str] | None = None
    top: int = 0
    matched: int = 0
    total: int = 0
    matched_exact: bool = True
    faults: int | None = None


class StreamChunk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Text of a followed task. `offset` counts characters from the attempt's start; a new attempt starts at 0 again.

    `ended` comes once, after the task's last text, with its final state."""

    method: ClassVar[str] = "stream.chunk"

    stream: str
    task: str
    attempt: int
    offset: int
    text: str
    ended: bool = False
    state: str | None = None


class InstanceChunk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of an instance's answer as it is made; `offset` counts characters from the turn's start. With `until_ms` and no text: the
    turn waits until a rate limit's window opens, `why` says which."""

    method: ClassVar[str] = "instance.chunk"

    instance: str
    turn: int
    offset: int
    text: str
    until_ms: int | None = None
    why: str = ""


class LogMore(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """More of a followed log. A piece of another life, or one that starts before the last one ended, says that the log began anew."""

    method: ClassVar[str] = "logs.more"

    stream: str
    piece: LogText


class EngineNotice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The engine's own news for every client: it is stopping, storage failed or works again."""

    method: ClassVar[str] = "engine.notice"

    what: str
    text: str


class ReplayMoved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A played recording stands somewhere else, or goes at another speed. Fields are those of ReplayState."""

    method: ClassVar[str] = "replay.moved"

    at_ms: int
    playing: bool
    speed: float


NOTIFICATIONS: tuple[
    type[ViewChanged]
    | type[StreamChunk]
    | type[InstanceChunk]
    | type[LogMore]
    | type[EngineNotice]
    | type[ReplayMoved],
    ...,
] = (
    ViewChanged,
    StreamChunk,
    InstanceChunk,
    LogMore,
    EngineNotice,
    ReplayMoved,
)
