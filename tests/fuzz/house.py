"""A whole engine in this process, for fuzzing: its request table, its doorman and a real database, but nothing that dispatches.

It must answer whatever it is asked with a result or an AiwmError, never with `internal`, within a time, and leave nothing unhandled."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from engine.clock import SystemClock
from engine.config import load_config
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.session import EngineHello
from engine.home import database_path, make_home
from engine.host import Host, Options
from engine.requests.caller import Caller
from engine.store.store import Store
from engine.wire.peer import Peer
from engine.wire.rpc import encode

LIMIT_S = 5.0
WAITING = frozenset({"task.run", "task.wait", "batch.wait", "batch.results", "engine.drain"})
"""Requests that may rightly take long: they wait for what does not come here. They are given up after a moment."""
APART = {
    "engine.stop": "ends the engine that is fuzzed",
    "engine.doctor": "looks at the machine, which takes its time and takes no parameters",
    "instance.spawn": "starts model processes",
    "instance.chat": "starts model processes",
}
"""Requests that are left alone, and why."""
CALLS = 3000
"""After so many calls the engine is made anew: what they stored must not slow down, or explain, what comes later."""


class Broken(AssertionError):
    """The engine did what it must never do."""


class _Sink(asyncio.Transport):
    """The other side of a peer: keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


class House:
    """`ask` sends one request through the table, `say` bytes through a connection. Both raise Broken."""

    def __init__(self) -> None:
        # What the engine logs of refused definitions and the like is not news here; what it cannot handle is raised.
        logging.disable(logging.CRITICAL)
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: self._unhandled.append(context))
        self._unhandled: list[dict[str, Any]] = []
        self._open()

    def ask(self, method: str, params: bytes) -> Any:
        """The decoded result, or the AiwmError."""
        self._turn()
        if method in self.missing:
            return None
        return self._loop.run_until_complete(self._ask(method, params))

    def say(self, data: bytes) -> list[dict[str, Any]]:
        """Bytes on a connection that has shaken hands; the lines that came back, decoded."""
        self._turn()
        return self._loop.run_until_complete(self._say(data))

    def close(self) -> None:
        self._loop.run_until_complete(self._close())
        self._folder.cleanup()

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="aiwm-fuzz-")
        self._calls = 0
        self._loop.run_until_complete(self._start(Path(self._folder.name) / "home"))

    def _turn(self) -> None:
        self._calls += 1
        if self._calls > CALLS:
            self.close()
            self._open()

    async def _start(self, home: Path) -> None:
        make_home(home)
        self._store = Store.open(database_path(home), clock=SystemClock())
        self._host = Host(
            Options(home=home, on_demand=True, read_only=False, attached=False), load_config(), self._store
        )
        await self._host._manager.start(dispatch=False)
        self._caller = Caller(id=999, principal="operator", client="fuzz", read_only=False, send=lambda _: True)
        # A request that nobody answers is the business of another test.
        self.missing = frozenset(self._host._table.missing())
        for number in range(5):
            await self._ask("task.submit", b'{"queue":"echo","payload":{"n":%d},"batch":"b"}' % number)

    async def _close(self) -> None:
        await self._host._manager.stop()
        self._host._ticker.close()
        await self._host._models.close()
        await self._host._adapters.close()
        await self._host._views.close()
        await self._store.close()

    async def _ask(self, method: str, params: bytes) -> Any:
        try:
            async with asyncio.timeout(0.02 if method in WAITING else LIMIT_S):
                answer = await self._host._table.handle(method, msgspec.Raw(params), self._caller)
        except AiwmError as error:
            self._check(error, method, params)
            return error
        except TimeoutError:
            if method not in WAITING:
                raise Broken(f"{method} hangs: {params[:2000]!r}") from None
            return None
        except Exception as error:
            raise Broken(f"{method} raised {type(error).__name__}: {params[:2000]!r}") from error
        self._check_unhandled(method, params)
        return msgspec.json.decode(answer)

    def _check(self, error: AiwmError, method: str, params: bytes) -> None:
        if error.code == Code.internal:
            raise Broken(f"{method}: {error.info.message}: {params[:2000]!r}") from error.__cause__
        encode(error.info)
        self._check_unhandled(method, params)

    def _check_unhandled(self, method: str, params: bytes) -> None:
        if self._unhandled:
            context = self._unhandled.pop()
            self._unhandled.clear()
            raise Broken(f"{method} left {context.get('message')}: {params[:2000]!r}") from context.get("exception")

    async def _say(self, data: bytes) -> list[dict[str, Any]]:
        peer, sink = self._host._doorman.peer(), _Sink()
        peer.connection_made(sink)
        hello = b'{"jsonrpc":"2.0","id":0,"method":"engine.hello","params":%s}\n' % encode(EngineHello(work=False))
        for part in (hello, data, b"\n"):
            peer.data_received(part)
            await self._settled(peer, data)
        await asyncio.sleep(0)
        peer.connection_lost(None)
        answers: list[dict[str, Any]] = [json.loads(line) for line in bytes(sink.written).splitlines()]
        for answer in answers:
            code = answer.get("error", {}).get("data", {}).get("code")
            if code == Code.internal:
                raise Broken(f"a line was answered with {answer['error']['data']['message']}: {data[:2000]!r}")
        self._check_unhandled("a line", data)
        return answers[1:]

    async def _settled(self, peer: Peer, data: bytes) -> None:
        """Every request is answered; those that wait are given up."""
        tasks = set(peer._tasks)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=0.1)
        if late and not any(name.encode() in data for name in (*WAITING, "wait", "run", "drain")):
            _, late = await asyncio.wait(late, timeout=LIMIT_S)
            if late:
                raise Broken(f"no answer to {data[:2000]!r}")
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
