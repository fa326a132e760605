"""The control room on a real store inside a test's process: no doors, no models, every request through the request table."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.clock import SystemClock
from engine.config import load_config
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.base import Request, result_type
from engine.contract.requests.tasks import TaskShow
from engine.contract.states import Durability, TaskState
from engine.control.manager import Manager
from engine.events import JournalEvents
from engine.home import database_path, make_home
from engine.inference.streams import Streams
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store import ops
from engine.store.store import Store

Result = TypeVar("Result")
CALLER = Caller(id=1, principal="operator", client="test", read_only=False, send=lambda _: True)


class Shelf:
    """Models that are here by name only: `there` says which."""

    def __init__(self, there: tuple[str, ...] = ("aiwm-nano",)) -> None:
        self.there = there

    def handle(self, model: str) -> Any:
        raise AssertionError(model)

    def pinned(self, adapter: str) -> str:
        return adapter

    def check(self, model: str) -> None:
        if model not in self.there:
            raise AiwmError(Code.model_not_found, f'model "{model}" is not here', field="model", fix="bring it")

    def publish(self, model: str) -> None:
        pass

    def ensure(self, model: str) -> None:
        pass

    def prefetch(self, model: str, replica: str, adapters: tuple[str, ...], first: bool) -> None:
        pass

    def grow(self, model: str) -> None:
        pass


class ManagerRoom:
    """`await room.call(request)` answers as an engine does. `restart` closes everything and begins again on the same home."""

    def __init__(self, home: Path, config: Path | None = None) -> None:
        self.home = home
        self.shelf = Shelf()
        self._config = config
        make_home(home)

    async def start(self) -> None:
        clock = SystemClock()
        self.store = Store.open(database_path(self.home), clock=clock)
        events = JournalEvents(self.store.journal, clock)
        self.manager = Manager(
            self.home,
            load_config({}, self._config).config,
            self.store,
            clock,
            events,
            self.shelf,
            self.shelf,
            Streams(),
            list,
            lambda _: None,
            lambda: "live",
        )
        self.table = RequestTable(events, read_only=False)
        self.manager.register(self.table)
        await self.manager.start(dispatch=True)

    async def stop(self) -> None:
        await self.manager.stop()
        await self.store.close()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def call(self, request: Request[Result]) -> Result:
        answer = await self.table.handle(request.method, msgspec.Raw(msgspec.json.encode(request)), CALLER)
        result: Result = msgspec.json.decode(answer, type=result_type(type(request)))
        return result

    async def until(self, task: str, state: TaskState) -> None:
        """Wait until a task is in a state."""
        async with asyncio.timeout(10):
            while (await self.call(TaskShow(id=task))).row.state != state:
                await self._committed()

    async def events(self, type_: str) -> list[str]:
        """The texts of events of a type, once what was told so far is written."""
        # Twice: what a commit made somebody tell is written after the first.
        for _ in range(2):
            await self._committed()
        with sqlite3.connect(f"file:{database_path(self.home)}?mode=ro", uri=True) as connection:
            return [
                row[0] for row in connection.execute("SELECT text FROM events WHERE type = ? ORDER BY seq", (type_,))
            ]

    async def _committed(self) -> None:
        """Wait for a commit, and so for all that was asked to be written before."""
        await self.store.journal.write((ops.PutDocument("test", "flush", "", 0, b"{}"),), Durability.os)
