"""One client's connection: the handshake, then requests through the table until it leaves."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from engine import __version__
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.session import PROTOCOL_VERSION, CallWithdrawn, EngineHello, EngineStatus, Welcome
from engine.requests.caller import Caller
from engine.requests.table import RequestTable, decode_request
from engine.wire.peer import Peer, notification
from engine.wire.rpc import Incoming, encode
from engine.wire.transports import peer_uid


class Doorman:
    """Keeps the connected clients. `greet` makes the welcome, `arrived` hears of a client (and whether it waits for work),
    `left` of its end; `stopping` refuses newcomers."""

    def __init__(
        self,
        table: RequestTable,
        greet: Callable[[], Welcome],
        arrived: Callable[[Caller, bool], None],
        left: Callable[[Caller], None],
    ) -> None:
        self._table = table
        self._greet = greet
        self._arrived = arrived
        self._left = left
        self._ids = itertools.count(1)
        self._sessions: dict[Peer, Caller] = {}
        self._looking: dict[Peer, dict[int | str | None, asyncio.Task[Any]]] = {}
        self.stopping = False

    @property
    def clients(self) -> int:
        return len(self._sessions)

    def peer(self) -> Peer:
        """A peer for a new connection."""
        peer = Peer(self._serve, self._heard)
        peer.closed.add_done_callback(lambda _: self._gone(peer))
        return peer

    def tell_all(self, note: Any) -> None:
        """Send a notification to every client."""
        for peer in self._sessions:
            notification(peer, note)

    def close_all(self) -> list[Peer]:
        """Close every connection after what was written has left; the peers, to wait for."""
        peers = list(self._sessions)
        for peer in peers:
            peer.close()
        return peers

    async def _serve(self, peer: Peer, message: Incoming) -> bytes:
        method = message.method or ""
        if method == EngineHello.method:
            return self._hello(peer, message)
        caller = self._sessions.get(peer)
        if caller is None:
            if method != EngineStatus.method:
                raise AiwmError(Code.bad_request, "the first request of a connection is engine.hello", field="method")
            caller = Caller(id=0, principal="operator", client="status", read_only=True, send=lambda _: False)
        if self._table.ends_with_its_asker(method):
            return await self._look(peer, message.id, self._table.handle(method, message.params, caller))
        return await self._table.handle(method, message.params, caller)

    def _heard(self, peer: Peer, message: Incoming) -> None:
        if message.method == CallWithdrawn.method:
            try:
                withdrawn = msgspec.json.decode(message.params, type=CallWithdrawn)
            except msgspec.DecodeError:
                return  # a notification has no answer
            # After the requests that were read with it have begun: the one that is meant may be among them.
            asyncio.get_running_loop().call_soon(self._withdraw, peer, withdrawn.id)

    def _withdraw(self, peer: Peer, identifier: int | str) -> None:
        task = self._looking.get(peer, {}).get(identifier)
        if task is not None:
            task.cancel()

    async def _look(self, peer: Peer, identifier: int | str | None, answer: Coroutine[Any, Any, bytes]) -> bytes:
        """A request that changes nothing that lasts ends when it is withdrawn, and with its connection: it may wait for hours, and nobody
        would hear the answer."""
        task = asyncio.current_task()
        assert task is not None
        looking = self._looking.setdefault(peer, {})
        looking[identifier] = task
        try:
            return await answer
        finally:
            if looking.get(identifier) is task:
                del looking[identifier]

    def _hello(self, peer: Peer, message: Incoming) -> bytes:
        hello = decode_request(EngineHello, message.params)
        assert isinstance(hello, EngineHello)
        uid = peer_uid(peer)
        if uid is not None and uid not in (0, os.getuid()):
            raise AiwmError(Code.denied, "this engine belongs to another user")
        if hello.protocol != PROTOCOL_VERSION:
            raise AiwmError(
                Code.protocol_mismatch,
                f"this engine (aiwm {__version__}) speaks protocol {PROTOCOL_VERSION}, the client {hello.protocol}",
                field="protocol",
                fix="stop it with `aiwm engine stop` and start it with the aiwm you use",
            )
        if self.stopping:
            raise AiwmError(Code.engine_stopping, "this engine is stopping", retryable=True)
        if peer not in self._sessions:
            caller = Caller(
                id=next(self._ids),
                principal=f"token {hello.token[:64]}" if hello.token else "operator",
                client=hello.client[:80],
                read_only=hello.read_only,
                send=lambda note: notification(peer, note, droppable=True),
                gone=peer.closed,
            )
            self._sessions[peer] = caller
            self._arrived(caller, hello.work)
        return encode(self._greet())

    def _gone(self, peer: Peer) -> None:
        for task in list(self._looking.pop(peer, {}).values()):
            task.cancel()
        caller = self._sessions.pop(peer, None)
        if caller is not None:
            self._left(caller)
