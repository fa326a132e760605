"""Who may come in: the Host header must be one of ours (a web page that a browser was tricked to send here names another), the token
must be right, and the body must be small enough. A plain ASGI layer, so that nothing is read before it is checked."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

from engine.contract.errors import Code, ErrorInfo
from engine.doors.http.errors import body_of, status_of

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/health"})
"""What is answered without a token."""


class Guard:
    """`hosts` are names without ports, lower case; `token` None lets everybody in; `max_bytes` bounds a body."""

    def __init__(self, app: App, *, hosts: Iterable[str], token: str | None, max_bytes: int) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._token = None if token is None else token.encode()
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        refusal = self._refusal(scope["path"], headers)
        if refusal is not None:
            await _refuse(refusal, send)
            return
        await self._app(scope, _Bounded(receive, self._max_bytes), send)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> ErrorInfo | None:
        host = host_of(headers.get(b"host", b"").decode("latin-1"))
        if host not in self._hosts:
            fix = "ask for localhost, or allow the name with --allow-host"
            return ErrorInfo(code=Code.denied, message=f'this server is not "{host[:80]}"', field="Host", fix=fix)
        origin = headers.get(b"origin", b"").decode("latin-1")
        if self._token is None and origin and host_of(origin.rpartition("//")[2]) not in self._hosts:
            # Any page in this machine's browser can send a request here; only the token would tell it from its user.
            fix = "leave --no-token out, or allow the page's host with --allow-host"
            return ErrorInfo(code=Code.denied, message=f'pages of "{origin[:80]}" may not ask', field="Origin", fix=fix)
        if self._token is not None and path not in OPEN_PATHS:
            given = headers.get(b"authorization", b"")
            scheme, _, token = given.partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
                fix = "send Authorization: Bearer TOKEN with the token of http.token in the home"
                return ErrorInfo(
                    code=Code.denied, message="the token is missing or wrong", field="Authorization", fix=fix
                )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            return too_large(self._max_bytes)
        return None


def host_of(header: str) -> str:
    """The name in a Host header, without its port; IPv6 addresses without their brackets."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def too_large(max_bytes: int) -> ErrorInfo:
    return ErrorInfo(
        code=Code.payload_too_large, message=f"a body may have {max_bytes} bytes", fix="queues.max_payload_bytes"
    )


class BodyTooLarge(Exception):
    """A body went past the bound that it did not announce."""


class _Bounded:
    """A body's events, up to the bound."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._left = max_bytes

    async def __call__(self) -> Event:
        event = await self._receive()
        self._left -= len(event.get("body", b""))
        if self._left < 0:
            raise BodyTooLarge
        return event


async def _refuse(error: ErrorInfo, send: Send) -> None:
    body = msgspec.json.encode(body_of(error))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status_of(error) == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status_of(error), "headers": headers})
    await send({"type": "http.response.body", "body": body})
