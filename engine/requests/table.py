"""The table of handlers and the one way through it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any, TypeVar

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.contract.requests import catalogue
from engine.contract.requests.base import Request
from engine.contract.states import Effect
from engine.ports import EventSink
from engine.requests import correlation
from engine.requests.caller import Caller
from engine.requests.grants import check_grant
from engine.wire.rpc import encode, undecodable

Result = TypeVar("Result")
Handler = Callable[[Any, Caller], Awaitable[Any]]

_log = logging.getLogger(__name__)

# Their own events say who asked; an audit line for each would only double them, and repeat what was said in a chat. Changes of tasks
# are operations, which write theirs with their id.
_SPEAK_FOR_THEMSELVES = frozenset(
    {
        "task.submit",
        "task.run",
        "task.cancel",
        "task.retry",
        "task.move",
        "task.priority",
        "batch.add",
        "batch.cancel",
        "operation.defer",
        "operation.undo",
        "instance.chat",
        "adapter.use",
        "adapter.pin",
    }
)


class RequestTable:
    """Maps request classes to handlers. `read_only` refuses every effect but `read`, for everyone, and `whose` says why."""

    def __init__(self, events: EventSink, *, read_only: bool, whose: str = "this engine is read-only") -> None:
        self._events = events
        self._whose = whose
        self._read_only = read_only
        self._catalogue = catalogue()
        self._handlers: dict[str, Handler] = {}

    def register(self, kind: type[Request[Result]], handler: Callable[[Any, Caller], Awaitable[Result]]) -> None:
        """Let `handler` answer requests of this class. Each class has exactly one handler."""
        if kind.method in self._handlers:
            raise ValueError(f"{kind.method} has a handler already")
        self._handlers[kind.method] = handler

    def replace(self, kind: type[Request[Result]], handler: Callable[[Any, Caller], Awaitable[Result]]) -> None:
        """Let another handler answer requests of this class."""
        self._handlers[kind.method] = handler

    def instead(self, choose: Callable[[type[Request[Any]], Handler], Handler]) -> None:
        """Let every request be answered by what `choose` makes of its class and its handler."""
        self._handlers = {
            method: choose(self._catalogue.by_method[method], handler) for method, handler in self._handlers.items()
        }

    def missing(self) -> list[str]:
        """Methods of the contract that nobody answers: must be empty once the host is built."""
        return sorted(set(self._catalogue.by_method) - set(self._handlers))

    def only_reads(self, method: str) -> bool:
        """Whether a request changes nothing. Unknown methods do not either."""
        kind = self._catalogue.by_method.get(method)
        return kind is not None and kind.effect is Effect.read

    def ends_with_its_asker(self, method: str) -> bool:
        """Whether a request is stopped when whoever asked is gone or wants it no more."""
        kind = self._catalogue.by_method.get(method)
        return kind is not None and (kind.effect is Effect.read or kind.withdrawable)

    async def handle(self, method: str, params: msgspec.Raw, caller: Caller) -> bytes:
        """Answer one request. Raises AiwmError only; anything else a handler raises becomes `internal` and a log entry."""
        kind = self._catalogue.find(method)
        request = decode_request(kind, params)
        self._check(kind, caller)
        if caller.grant is not None:
            check_grant(request, caller.grant)
        audited = kind.effect is not Effect.read and kind.method not in _SPEAK_FOR_THEMSELVES
        if audited:
            correlation.begin()
        try:
            result = await self._handlers[kind.method](request, caller)
        except AiwmError:
            raise
        except Exception as error:
            _log.exception("%s failed", kind.method)
            raise AiwmError(
                Code.internal,
                f"{kind.method} failed inside the engine: {type(error).__name__}",
                fix="see logs/engine.log",
            ) from error
        if audited:
            self._events.emit("audit", kind.method, _about(request), _summary(request), who=caller.principal)
        return encode(result)

    def _check(self, kind: type[Request[Any]], caller: Caller) -> None:
        if kind.effect is Effect.read:
            return
        if self._read_only or caller.read_only:
            why = self._whose if self._read_only else "this connection is read-only"
            fix = "leave --read-only out" if why.endswith("read-only") else None
            raise AiwmError(Code.read_only, f"{kind.method} changes something and {why}", fix=fix)


def decode_request(kind: type[Request[Any]], params: msgspec.Raw) -> Request[Any]:
    """The typed request; `bad_request` naming the field otherwise. Absent params are an empty object."""
    raw = bytes(params)
    try:
        request: Request[Any] = msgspec.json.decode(b"{}" if raw == b"null" else raw, type=kind)
    except NOT_JSON as error:
        found = _translated(kind, raw) if isinstance(error, msgspec.ValidationError) else None
        if found is None:
            raise undecodable(error, kind) from None
        return found
    return request


def _translated(kind: type[Request[Any]], raw: bytes) -> Request[Any] | None:
    """The request when its parameters have other names that the class understands; None otherwise."""
    params = msgspec.json.decode(raw)
    translated = kind.translated(params) if isinstance(params, dict) else None
    if translated is None or translated == params:
        return None
    try:
        found: Request[Any] = msgspec.convert(translated, kind)
    except msgspec.ValidationError as error:
        raise undecodable(error, kind) from None
    return found


def _about(request: Request[Any]) -> str:
    for name in ("name", "id", "ids", "queue", "definition"):
        value = getattr(request, name, None)
        if value:
            value = getattr(value, "name", value)
            return ",".join(value)[:200] if isinstance(value, tuple) else str(value)[:200]
    return ""


def _summary(request: Request[Any]) -> str:
    """What was asked for, as `field value`: what is not as it is anyway, and not said by `about` already."""
    about = _about(request)
    said = [(name, value) for name, value in _said(request, request.unlogged) if value != about]
    return ", ".join(f"{name} {value}" for name, value in said)[:500]


def _said(record: msgspec.Struct, unlogged: Collection[str]) -> Iterator[tuple[str, str]]:
    """The fields that differ from their defaults, written out; those of a definition stand beside those of its request."""
    for field in msgspec.structs.fields(record):
        if field.name in unlogged:
            continue
        value = getattr(record, field.name)
        if value == field.default or (
            field.default_factory is not msgspec.NODEFAULT and value == field.default_factory()
        ):
            continue
        if isinstance(value, msgspec.Struct):
            yield from _said(value, unlogged)
        elif isinstance(value, str):
            yield field.name, value
        elif isinstance(value, tuple | list) and all(isinstance(each, str) for each in value):
            yield field.name, ",".join(value)
        else:
            yield field.name, encode(value).decode()
