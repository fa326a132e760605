"""The connection to the engine, for as long as the console runs: connects, notices a loss, connects again.

One object owns the client. Others call through it and are told of each phase; none of them keeps a client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.requests.base import Request
from engine.contract.requests.session import Welcome

# Screens are described in terms of a link also where nothing is live: `aiwm view` must not pay for asyncio.
if TYPE_CHECKING:
    import asyncio

Result = TypeVar("Result")
Note = TypeVar("Note", bound=msgspec.Struct)

_FIRST_DELAY_S = 0.2
_LAST_DELAY_S = 5.0


class Connection(Protocol):
    """What is needed of `engine.client.Client`."""

    welcome: Welcome | None

    @property
    def closed(self) -> asyncio.Future[None]: ...

    async def call(self, request: Request[Result], *, timeout_s: float | None = None) -> Result: ...

    def on(self, kind: type[Note], callback: Callable[[Note], None]) -> Callable[[], None]: ...

    async def close(self) -> None: ...


class Phase(StrEnum):
    connecting = "connecting"
    live = "live"
    lost = "lost"
    failed = "failed"


def _nothing() -> None:
    pass


class _Heard:
    def __init__(self, kind: type[Any], callback: Callable[[Any], None]) -> None:
        self.kind = kind
        self.callback = callback
        self.undo: Callable[[], None] = _nothing


class Link:
    """`phase` and `error` say how the connection is; `listeners` are called after each change of it. `asking` requests are unanswered.
    `every_ms`: over a thin line, so long at least lies between two changes of what is shown.

    For a while it may lead elsewhere (`detour`): to the engine of a recording. The own connection is kept meanwhile, `greeted` is called
    with it whenever it is made, and `back` returns to it."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._client: Connection | None = None
        self._own: Connection | None = None
        self._heard: list[_Heard] = []
        self.away = False
        self.switching = False
        self.phase = Phase.connecting
        self.error: AiwmError | None = None
        self.welcome: Welcome | None = None
        self.asking = 0
        self.every_ms = 0
        self.listeners: list[Callable[[Phase], None]] = []
        self.greeted: Callable[[Connection], None] = lambda _: None

    async def run(self) -> None:
        """Keep connected until cancelled. Waits longer after each failure, up to 5 s; an engine that dies young is a failure too."""
        import asyncio

        delay = _FIRST_DELAY_S
        try:
            while True:
                try:
                    client = await self._connect()
                except AiwmError as error:
                    if not self.away:
                        self.error = error
                        self._enter(Phase.lost if self.welcome else Phase.failed)
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, _LAST_DELAY_S)
                    continue
                since = asyncio.get_running_loop().time()
                self._own = client
                if not self.away:
                    self._use(client)
                self.greeted(client)
                await asyncio.wait([client.closed])
                self._own = None
                if not self.away:
                    self._client = None
                    self._enter(Phase.lost)
                if asyncio.get_running_loop().time() - since > _LAST_DELAY_S:
                    delay = _FIRST_DELAY_S
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LAST_DELAY_S)
        finally:
            clients = {id(client): client for client in (self._client, self._own) if client is not None}
            self._client = self._own = None
            for client in clients.values():
                await client.close()

    async def detour(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        """Lead to another engine until `back`, or until that one is gone. Raises what its connection raises; then nothing has changed."""
        client = await connect()
        before, self.away = self._client if self.away else None, True
        self._switch(client)
        client.closed.add_done_callback(lambda _: self._over(client))
        if before is not None:
            await before.close()

    async def back(self) -> None:
        """Lead to the own engine again."""
        client = self._client if self.away else None
        self.away = False
        self._switch(self._own)
        if client is not None:
            await client.close()

    def _over(self, client: Connection) -> None:
        if self.away and self._client is client:
            self.away = False
            self._switch(self._own)

    def _switch(self, client: Connection | None) -> None:
        """What was shown is of the other engine: it is old, then all of it is asked for again."""
        self.switching = True
        for entry in self._heard:
            entry.undo()
            entry.undo = _nothing
        self._client = None
        self._enter(Phase.lost)
        if client is not None:
            self._use(client)
        self.switching = False

    def _use(self, client: Connection) -> None:
        self._client, self.welcome, self.error = client, client.welcome, None
        for entry in self._heard:
            entry.undo = client.on(entry.kind, entry.callback)
        self._enter(Phase.live)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        for listener in list(self.listeners):
            listener(phase)

    async def call(self, request: Request[Result], *, timeout_s: float | None = 30.0) -> Result:
        """Ask the engine; `engine_unreachable` while there is no connection."""
        if self._client is None:
            raise AiwmError(
                Code.engine_unreachable, "the engine is not connected", fix="the console connects again", retryable=True
            )
        self.asking += 1
        try:
            return await self._client.call(request, timeout_s=timeout_s)
        finally:
            self.asking -= 1

    def on(self, kind: type[Note], callback: Callable[[Note], None]) -> Callable[[], None]:
        """Hear notifications of a kind on this and every later connection; returns what undoes it."""
        entry = _Heard(kind, callback)
        self._heard.append(entry)
        if self._client is not None:
            entry.undo = self._client.on(kind, callback)
        return lambda: self._forget(entry)

    def _forget(self, entry: _Heard) -> None:
        self._heard.remove(entry)
        if self._client is not None:
            entry.undo()
