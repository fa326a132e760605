"""Requests about the connection, the engine itself, and views."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from engine.contract.requests.base import Request
from engine.contract.requests.maintenance import Maintenance
from engine.contract.states import Effect
from engine.contract.why import Why

PROTOCOL_VERSION = 1


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's side of the handshake. A `brief` engine goes soon after this client: a command started it, and nobody else is there.
    `at_ms` is where a recording stands that it plays (Unix ms; None: it is live)."""

    protocol: int
    version: str
    home: str
    pid: int
    epoch: int
    host: str
    read_only: bool
    brief: bool = False
    at_ms: int | None = None


class EngineHello(Request[Welcome], frozen=True, kw_only=True):
    """The handshake: the first request of every connection. `work` asks an engine that was started on demand to dispatch tasks.

    A door that lets others in says by which `token` they came: their tasks are that token's, not the operator's."""

    method: ClassVar[str] = "engine.hello"
    effect: ClassVar[Effect] = Effect.read

    protocol: int = PROTOCOL_VERSION
    client: str = "client"
    version: str = ""
    read_only: bool = False
    work: bool = True
    token: str = ""


class CallWithdrawn(msgspec.Struct, frozen=True, kw_only=True):
    """From a client: it wants the answer to its request `id` no more. One that only looks, or whose effect does not last, is stopped, and
    has no answer."""

    method: ClassVar[str] = "call.withdrawn"

    id: int | str


class EngineStatusResult(msgspec.Struct, frozen=True, kw_only=True):
    """The engine in one look. `commits` counts transactions since its start (one fsync each where a queue promises `disk`), `fenced`
    answers that came too late and were dropped (of attempts that had been taken away: cancelled, timed out, given to another);
    `maintenance` says why nothing starts, if an operator wants it so; `unwritten` ends of tasks wait until storage works again;
    `text` is the same for people, rendered by the engine so that
    the shell need not."""

    version: str
    pid: int
    home: str
    epoch: int
    started_ms: int
    dispatching: bool
    storage: str
    clients: int
    running: int
    waiting: int
    commits: int
    text: str
    unwritten: int = 0
    maintenance: Maintenance | None = None
    fenced: int = 0


class EngineStatus(Request[EngineStatusResult], frozen=True, kw_only=True):
    """How the engine is. The one request that needs no handshake."""

    method: ClassVar[str] = "engine.status"
    effect: ClassVar[Effect] = Effect.read


class Stopping(msgspec.Struct, frozen=True, kw_only=True):
    """What a stop does to the work at hand: `running` tasks are given back to their queues (now) or awaited (drain)."""

    mode: str
    running: int
    waiting: int


class EngineStop(Request[Stopping], frozen=True, kw_only=True):
    """Stop the engine. `drain` waits for running tasks, `now` gives them back to their queues; nothing is lost either way."""

    method: ClassVar[str] = "engine.stop"
    effect: ClassVar[Effect] = Effect.destructive

    mode: str = "drain"


class EngineWhy(Request[Why], frozen=True, kw_only=True):
    """Why nothing moves, for the whole engine: waiting tasks by the first gate that holds them."""

    method: ClassVar[str] = "engine.why"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("why",)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the doctor: what was looked at, whether it works (`ok`, `warn`, `missing`), what was seen, what to do."""

    what: str
    state: str
    seen: str
    fix: str | None = None


class EngineDoctor(Request[list[Finding]], frozen=True, kw_only=True):
    """What works on this machine, and the fix for what does not."""

    method: ClassVar[str] = "engine.doctor"
    effect: ClassVar[Effect] = Effect.read


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration value and where it comes from (default, a file, an environment variable, a flag)."""

    key: str
    value: Any
    origin: str


class ConfigShow(Request[list[Setting]], frozen=True, kw_only=True):
    """All configuration values in force, each with its origin."""

    method: ClassVar[str] = "config.show"
    effect: ClassVar[Effect] = Effect.read


class ViewRows(msgspec.Struct, frozen=True, kw_only=True):
    """A window on a table. `location` is normalised; `rows` are the window's rows as objects in order; `top` the index of the
    first one; `matched` how many rows match the filter (`matched_exact` False: at least that many); `total` all rows of the
    table; `faults` how many of the matching ones are broken, where that is known."""

    view: str
    seq: int
    location: str
    table: str
    rows: list[dict[str, Any]]
    top: int
    matched: int
    total: int
    matched_exact: bool = True
    faults: int | None = None


class ViewOpen(Request[ViewRows], frozen=True, kw_only=True):
    """Open a live window on a table: the answer is its rows, changes follow as `view.changed` notifications, at most 10 a second.

    Who sits at the end of a thin line asks for fewer: at least `every_ms` (up to a minute) between one and the next."""

    method: ClassVar[str] = "view.open"
    effect: ClassVar[Effect] = Effect.read

    location: str
    size: int = 50
    top: int = 0
    every_ms: int = 0


class ViewMove(Request[ViewRows], frozen=True, kw_only=True):
    """Move or resize an open window. `anchor` (a row id) moves it so that the row is inside, if it still matches."""

    method: ClassVar[str] = "view.move"
    effect: ClassVar[Effect] = Effect.read

    view: str
    top: int | None = None
    size: int | None = None
    anchor: str | None = None


class ViewClose(Request[None], frozen=True, kw_only=True):
    """Close a window."""

    method: ClassVar[str] = "view.close"
    effect: ClassVar[Effect] = Effect.read

    view: str


class ViewRead(Request[ViewRows], frozen=True, kw_only=True):
    """The rows of a location once, without a live window: what `aiwm view` prints."""

    method: ClassVar[str] = "view.read"
    effect: ClassVar[Effect] = Effect.read

    location: str
    size: int = 50
    top: int = 0
