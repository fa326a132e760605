"""A JSON-RPC peer on an asyncio transport: the same class on both ends of every pipe and socket.

Writes of one loop turn leave in one piece. A peer that does not read costs bounded memory: droppable notifications are
refused while it is congested, and nothing more is read from it until it has read its answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.wire import rpc
from engine.wire.framing import MAX_LINE_BYTES, LineFramer, Overlong

_log = logging.getLogger(__name__)

Serve = Callable[["Peer", rpc.Incoming], Awaitable[bytes]]
Heard = Callable[["Peer", rpc.Incoming], None]

_MAX_IN_FLIGHT = 4096
_HIGH_WATER = 1 * 2**20


async def _no_requests(_: Peer, message: rpc.Incoming) -> bytes:
    raise AiwmError(Code.unknown_method, f'this side answers no requests, so not "{message.method}"')


class Peer(asyncio.Protocol):
    """One end of a connection. `serve` answers requests with encoded results, `heard` takes notifications, both for this peer.

    `closed` is a future that is done when the connection is gone; calls in flight then raise `connection_lost`."""

    def __init__(self, serve: Serve = _no_requests, heard: Heard | None = None) -> None:
        self._serve = serve
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._framer = LineFramer()
        self._reader: asyncio.BaseTransport | None = None
        self._writer: asyncio.WriteTransport | None = None
        self._outbox: list[bytes] = []
        self._flushing = False
        self._next_id = 0
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.congested = False
        self._reading = True
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # -- transport events ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Over two pipes this is called once for each; over a socket one transport is both.
        if isinstance(transport, asyncio.WriteTransport):
            self._writer = transport
            transport.set_write_buffer_limits(high=_HIGH_WATER)
        if hasattr(transport, "pause_reading"):
            self._reader = transport

    def data_received(self, data: bytes) -> None:
        for line in self._framer.feed(data):
            if isinstance(line, Overlong):
                self._send(
                    rpc.error_line(
                        None,
                        ErrorInfo(code=Code.line_too_long, message="a line was longer than 16 MiB and was dropped"),
                    )
                )
            else:
                self._take(line)
        self._control_reading()

    def pause_writing(self) -> None:
        self.congested = True
        self._control_reading()

    def resume_writing(self) -> None:
        self.congested = False
        self._control_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        if self.closed.done():
            return
        self.closed.set_result(None)
        for call in self._calls.values():
            if not call.done():
                call.set_exception(_lost())
        self._calls.clear()
        for transport in (self._writer, self._reader):
            if transport is not None:
                transport.close()

    # -- what others use ---------------------------------------------------------------------------------------------

    async def call(self, method: str, params: bytes, *, given_up: Callable[[int], None] = lambda _: None) -> bytes:
        """Send a request; the encoded result, or the error that the other side answered with. `given_up` hears of the number of a call that
        is cancelled here."""
        if self.closed.done():
            raise _lost()
        self._next_id += 1
        identifier = self._next_id
        line = rpc.request_line(identifier, method, params)
        check_length(line, method)
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._calls[identifier] = answer
        self._send(line)
        try:
            return await answer
        except asyncio.CancelledError:
            given_up(identifier)
            raise
        finally:
            self._calls.pop(identifier, None)

    def notify(self, method: str, params: bytes, *, droppable: bool = False) -> bool:
        """Send a notification. A droppable one is refused (False) while the other side does not read."""
        if self.closed.done() or (droppable and self.congested):
            return False
        self._send(rpc.notification_line(method, params))
        return True

    def close(self) -> None:
        """Close once everything written has left. `closed` is done then; a peer that never reads must be given a timeout."""
        self._flush()
        for transport in (self._writer, self._reader):
            if transport is not None:
                transport.close()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _take(self, line: bytes) -> None:
        try:
            message = rpc.decode(line)
        except AiwmError as error:
            self._send(rpc.error_line(None, error.info))
            return
        if message.method is None:
            self._answered(message)
        elif message.id is None:
            if self._heard is not None:
                self._heard(self, message)
        else:
            task = self._loop.create_task(self._respond(message))
            self._tasks.add(task)
            task.add_done_callback(self._responded)

    def _answered(self, message: rpc.Incoming) -> None:
        call = self._calls.get(message.id) if isinstance(message.id, int) else None
        if call is None or call.done():
            return
        if message.error is not None:
            call.set_exception(rpc.error_of(message.error))
        else:
            call.set_result(bytes(message.result))

    async def _respond(self, message: rpc.Incoming) -> None:
        try:
            line = rpc.result_line(message.id, await self._serve(self, message))
            check_length(line, f"the answer to {message.method}")
        except AiwmError as error:
            line = rpc.error_line(message.id, error.info)
        except Exception as error:
            # Whatever went wrong here, the other side waits for an answer.
            _log.exception("%s failed", message.method)
            text = f"{message.method} failed: {type(error).__name__}"
            line = rpc.error_line(message.id, ErrorInfo(code=Code.internal, message=text))
        self._send(line)

    def _responded(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._control_reading()

    def _send(self, line: bytes) -> None:
        if self.closed.done():
            return
        self._outbox.append(line)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._outbox and self._writer is not None and not self._writer.is_closing():
            self._writer.write(b"".join(self._outbox))
        self._outbox.clear()

    def _control_reading(self) -> None:
        """Read nothing more from a side that does not take its answers, or that has too many requests under way."""
        reader: Any = self._reader
        if reader is None or self.closed.done() or reader.is_closing():
            return
        want = not self.congested and len(self._tasks) < _MAX_IN_FLIGHT
        if want != self._reading:
            self._reading = want
            if want:
                reader.resume_reading()
            else:
                reader.pause_reading()


def check_length(line: bytes, what: str) -> None:
    """Refuse a line that the other side would have to drop."""
    if len(line) > MAX_LINE_BYTES:
        raise AiwmError(
            Code.payload_too_large,
            f"{what} has {len(line)} bytes; a line may have {MAX_LINE_BYTES}",
            fix="ask for less at once",
        )


def _lost() -> AiwmError:
    return AiwmError(
        Code.connection_lost, "the connection to the engine is gone", fix="aiwm engine status", retryable=True
    )


def notification(peer: Peer, note: Any, *, droppable: bool = False) -> bool:
    """Send a notification struct of the contract."""
    return peer.notify(type(note).method, rpc.encode(note), droppable=droppable)


def decode_result(data: bytes, kind: Any) -> Any:
    """An encoded result as its type; None for requests that answer nothing."""
    return None if kind is type(None) else msgspec.json.decode(data, type=kind)
