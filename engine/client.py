"""The typed client: `await connect(home)` for the console and servers, `connect_blocking(home)` for subcommands.

Both attach to the engine that serves the home, or start one. A call takes a request and returns its typed result, or
raises the same AiwmError that the engine raised."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from engine import __version__
from engine.contract.errors import AiwmError, Code
from engine.contract.notifications import NOTIFICATIONS
from engine.contract.requests.base import Request, result_type
from engine.contract.requests.session import CallWithdrawn, EngineHello, Welcome
from engine.home import socket_path
from engine.wire import rpc
from engine.wire.framing import MAX_LINE_BYTES, LineFramer, Overlong

# asyncio and subprocess cost more to import than a subcommand may cost in all; they are imported where they are used. So is what starts an
# engine: mostly one runs.
if TYPE_CHECKING:
    import asyncio
    import subprocess

Result = TypeVar("Result")
Note = TypeVar("Note", bound=msgspec.Struct)

START_TIMEOUT_S = 30.0
_KINDS: dict[str, type[Any]] = {kind.method: kind for kind in NOTIFICATIONS}


def _hello(name: str, work: bool, read_only: bool, token: str = "") -> EngineHello:
    return EngineHello(client=name, version=__version__, work=work, read_only=read_only, token=token)


class Client:
    """A connection of asyncio programs. `welcome` is the engine's handshake; `closed` is done when the connection is gone."""

    def __init__(
        self,
        peer: Any,
        heard: dict[str, list[Callable[[Any], None]]],
        process: subprocess.Popen[bytes] | None,
        log_start: int = 0,
    ) -> None:
        self._peer = peer
        self._heard = heard
        self.process = process
        self.log_start = log_start
        self.welcome: Welcome | None = None

    @property
    def closed(self) -> asyncio.Future[None]:
        closed: asyncio.Future[None] = self._peer.closed
        return closed

    async def call(self, request: Request[Result], *, timeout_s: float | None = None) -> Result:
        """Ask the engine. Raises what the engine raised, `timeout` or `connection_lost`. A call that is cancelled ends in the engine, too,
        unless it changes something that lasts."""
        import asyncio

        kind = result_type(type(request))
        try:
            async with asyncio.timeout(timeout_s):
                data = await self._peer.call(request.method, rpc.encode(request), given_up=self._withdraw)
        except TimeoutError:
            raise AiwmError(
                Code.timeout, f"{request.method} took longer than {timeout_s:g} s", retryable=True
            ) from None
        result: Result = _decode(data, kind)
        return result

    def _withdraw(self, identifier: int) -> None:
        self._peer.notify(CallWithdrawn.method, rpc.encode(CallWithdrawn(id=identifier)))

    def on(self, kind: type[Note], callback: Callable[[Note], None]) -> Callable[[], None]:
        """Call `callback` with every notification of this kind; returns what undoes it."""
        callbacks = self._heard.setdefault(kind.method, [])  # type: ignore[attr-defined]
        callbacks.append(callback)
        return lambda: callbacks.remove(callback)

    async def close(self) -> None:
        """Close the connection. An engine that was started for it decides by itself whether it stays."""
        import asyncio

        self._peer.close()
        try:
            async with asyncio.timeout(1.0):
                await asyncio.shield(self._peer.closed)
        except TimeoutError:
            pass
        if self.process is not None and self.process.poll() is None:
            # It lives on by its own rules; only stop Python from warning about a child that was never waited for.
            self.process.returncode = 0

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _decode(data: bytes, kind: Any) -> Any:
    if kind is type(None):
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise AiwmError(
            Code.protocol_mismatch,
            f"the engine's answer is not what this client knows: {error}",
            fix="aiwm engine stop",
        ) from None


async def connect(
    home: Path,
    *,
    spawn: bool = True,
    work: bool = True,
    read_only: bool = False,
    name: str = "client",
    token: str = "",
) -> Client:
    """Attach to the home's engine over its socket, or (with `spawn`) start one and talk over its stdin and stdout. A door says by
    which `token` its own clients came.

    Raises `engine_unreachable` when there is none, `engine_running` never (a lost race is joined), `protocol_mismatch`
    when the engine is of another version."""
    import asyncio

    from engine.spawning import died, exit_code

    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        client = await _attach(home) or (await _start(home, read_only) if spawn else None)
        if client is None:
            raise _unreachable(home)
        try:
            client.welcome = await client.call(_hello(name, work, read_only, token), timeout_s=START_TIMEOUT_S)
            return client
        except AiwmError as error:
            again = error.code in (Code.connection_lost, Code.engine_stopping) and time.monotonic() < deadline
            # An engine of ours that has gone says why: another won the race for this home (attach to that), or it cannot start.
            if client.process is not None and await exit_code(client.process) != os.EX_TEMPFAIL:
                raise died(home, client.log_start) or error from None
            await client.close()
            if not again:
                raise
        await asyncio.sleep(0.05)


async def _attach(home: Path) -> Client | None:
    from engine.wire.transports import dial

    heard: dict[str, list[Callable[[Any], None]]] = {}
    try:
        peer = await dial(socket_path(home), heard=_listener(heard))
    except OSError:
        return None
    return Client(peer, heard, None)


async def _start(home: Path, read_only: bool) -> Client:
    from engine.spawning import spawn
    from engine.wire.transports import over_pipes

    heard: dict[str, list[Callable[[Any], None]]] = {}
    process, log_start = spawn(home, ["--stdio", *(["--read-only"] if read_only else [])], pipes=True)
    assert process.stdin is not None
    assert process.stdout is not None
    peer = await over_pipes(process.stdout, process.stdin, heard=_listener(heard))  # type: ignore[arg-type]
    return Client(peer, heard, process, log_start)


async def connect_through(
    command: Sequence[str], *, work: bool = True, read_only: bool = False, name: str = "client"
) -> Client:
    """Talk to an engine through a program that carries the protocol over its stdin and stdout, such as
    `ssh HOST aiwm engine attach --stdio`. Raises `engine_unreachable` with the program's last words."""
    import asyncio
    import subprocess
    import tempfile

    from engine.spawning import error_in
    from engine.wire.transports import over_pipes

    heard: dict[str, list[Callable[[Any], None]]] = {}
    with tempfile.TemporaryFile() as words:
        try:
            # A session of its own: Ctrl-C is the console's, and nothing may ask questions on its terminal.
            process = subprocess.Popen(  # noqa: ASYNC220 (returns at once)
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            text = f"{command[0]} cannot be started: {error.strerror}"
            raise AiwmError(Code.engine_unreachable, text, fix=f"install {command[0]}") from None
        assert process.stdin is not None
        assert process.stdout is not None
        peer = await over_pipes(process.stdout, process.stdin, heard=_listener(heard))  # type: ignore[arg-type]
        client = Client(peer, heard, process)
        try:
            client.welcome = await client.call(_hello(name, work, read_only), timeout_s=START_TIMEOUT_S)
        except AiwmError as error:
            await client.close()
            if error.code not in (Code.connection_lost, Code.timeout):
                raise
            process.kill()
            await asyncio.to_thread(process.wait)
            words.seek(0)
            lines = words.read(65_536).splitlines()
            reason = error_in(lines)
            if reason is not None:
                raise reason from None
            tail = tuple(line.decode(errors="replace") for line in lines[-8:])
            said = tail[-1] if tail else f"it ended with {process.returncode}"
            text = f"{command[0]} reaches no engine: {said}"
            raise AiwmError(Code.engine_unreachable, text, retryable=True, stderr=tail) from None
    return client


def _listener(heard: dict[str, list[Callable[[Any], None]]]) -> Any:

    def listen(_: object, message: rpc.Incoming) -> None:
        kind = _KINDS.get(message.method or "")
        if kind is None:
            return
        callbacks = heard.get(kind.method)
        if callbacks:
            note = rpc.params_of(message, kind)
            for callback in list(callbacks):
                callback(note)

    return listen


def _unreachable(home: Path) -> AiwmError:
    return AiwmError(Code.engine_unreachable, f"no engine serves {home}", fix="aiwm engine run", retryable=True)


def _gone() -> AiwmError:
    return AiwmError(Code.connection_lost, "the engine closed the connection", fix="aiwm engine status", retryable=True)


class BlockingClient:
    """A connection without asyncio, for subcommands: small to import, one thread, one request at a time."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._framer = LineFramer()
        self._ready: list[rpc.Incoming] = []
        self._notes: list[rpc.Incoming] = []
        self._next_id = 0
        self.welcome: Welcome | None = None

    def call(
        self,
        request: Request[Result],
        *,
        timeout_s: float | None = None,
        heard: Callable[[Any], None] | None = None,
    ) -> Result:
        """Ask the engine; raises what the engine raised, `timeout` or `connection_lost`. `heard` is given the notifications that come
        before the answer; without it they are kept for `notifications`."""
        self._next_id += 1
        line = rpc.request_line(self._next_id, request.method, rpc.encode(request))
        if len(line) > MAX_LINE_BYTES:
            raise AiwmError(
                Code.payload_too_large, f"{request.method} has {len(line)} bytes; a line may have {MAX_LINE_BYTES}"
            )
        try:
            self._socket.settimeout(None)
            self._socket.sendall(line)
        except OSError:
            raise _gone() from None
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            message = self._receive(deadline)
            if message is None:
                raise AiwmError(Code.timeout, f"{request.method} took longer than {timeout_s:g} s", retryable=True)
            if message.method is not None:
                kind = _KINDS.get(message.method)
                if heard is None:
                    self._notes.append(message)
                elif kind is not None:
                    heard(rpc.params_of(message, kind))
            elif message.id == self._next_id:
                if message.error is not None:
                    raise rpc.error_of(message.error)
                result: Result = _decode(bytes(message.result), result_type(type(request)))
                return result

    def notifications(self, timeout_s: float | None = None) -> Iterator[Any]:
        """Notifications as they come, until none came for `timeout_s` seconds (None: wait for ever) or the connection is gone."""
        while True:
            if self._notes:
                message: rpc.Incoming | None = self._notes.pop(0)
            else:
                message = self._receive(None if timeout_s is None else time.monotonic() + timeout_s)
            if message is None:
                return
            kind = _KINDS.get(message.method or "")
            if kind is not None:
                yield rpc.params_of(message, kind)

    def _receive(self, deadline: float | None) -> rpc.Incoming | None:
        while not self._ready:
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._socket.settimeout(left)
            else:
                self._socket.settimeout(None)
            try:
                data = self._socket.recv(262_144)
            except TimeoutError:
                return None
            except OSError:
                data = b""
            if not data:
                raise _gone()
            self._ready += [rpc.decode(line) for line in self._framer.feed(data) if not isinstance(line, Overlong)]
        return self._ready.pop(0)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect_blocking(
    home: Path, *, spawn: bool = True, work: bool = False, read_only: bool = False, name: str = "cli"
) -> BlockingClient:
    """Attach to the home's engine or (with `spawn`) start one that leaves 2 s after its last client and works only if `work` asks."""
    deadline = time.monotonic() + START_TIMEOUT_S
    process: subprocess.Popen[bytes] | None = None
    log_start, pause_s = 0, 0.01
    while True:
        client = _attach_blocking(home)
        if client is not None:
            try:
                client.welcome = client.call(_hello(name, work, read_only), timeout_s=START_TIMEOUT_S)
                return client
            except AiwmError as error:
                client.close()
                # It was just leaving: wait for it to be gone, then start another.
                if error.code not in (Code.connection_lost, Code.engine_stopping):
                    raise
        if not spawn:
            raise _unreachable(home)
        from engine import spawning

        if process is None:
            process, log_start = spawning.spawn(home, ["--on-demand"], pipes=False)
        elif process.poll() is not None:
            if process.returncode != os.EX_TEMPFAIL:
                raise spawning.died(home, log_start) or _unreachable(home)
            # Another engine holds the home and does not answer yet, or is just leaving: look again, ever less often.
            process, pause_s = None, min(1.0, pause_s * 2)
        if time.monotonic() > deadline:
            raise AiwmError(Code.timeout, f"the engine of {home} did not answer in {START_TIMEOUT_S:g} s")
        time.sleep(pause_s)


def _attach_blocking(home: Path) -> BlockingClient | None:
    import socket

    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(str(socket_path(home)))
    except OSError:
        sock.close()
        return None
    return BlockingClient(sock)
