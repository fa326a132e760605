"""What a request leads to carries its name: in its handler, in what that starts, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract.definitions import QueueDefinition
from engine.contract.query import parse
from engine.contract.records import EventRow
from engine.contract.requests.fleet import QueueCreate, QueuePause, QueueResume
from engine.contract.requests.session import EngineStatus, EngineStop
from engine.contract.requests.tasks import TaskCancel
from engine.events import JournalEvents
from engine.requests import correlation
from engine.requests.caller import Caller
from engine.requests.table import RequestTable, _summary
from engine.store.store import Store
from tests.support.screens import wait_until
from tests.support.stored import T0, FakeClock, open_store

CALLER = Caller(id=1, principal="ana", client="test", read_only=False, send=lambda _: True)


class _Rooms:
    """Handlers that tell of what they do at once, in a task of their own, and by another request."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.events = JournalEvents(store.journal, FakeClock())
        self.table = RequestTable(self.events, read_only=False)
        self.table.register(QueuePause, self.pause)
        self.table.register(QueueResume, self.resume)
        self.table.register(EngineStatus, self.status)
        self.go_on = asyncio.Event()
        self.later: asyncio.Task[None] | None = None

    async def pause(self, request: QueuePause, caller: Caller) -> Any:
        self.events.emit("info", "room.pausing", request.name, "")
        self.later = asyncio.create_task(self._later())
        await self.handle(QueueResume(name=request.name), caller)

    async def resume(self, request: QueueResume, _: Caller) -> Any:
        self.events.emit("info", "room.resuming", request.name, "")

    async def status(self, _: EngineStatus, __: Caller) -> Any:
        self.events.emit("info", "room.asked", "", "")

    async def _later(self) -> None:
        await self.go_on.wait()
        self.events.emit("info", "room.later", "", "")

    async def handle(self, request: Any, caller: Caller = CALLER) -> None:
        await self.table.handle(request.method, msgspec.Raw(msgspec.json.encode(request)), caller)

    async def found(self, count: int) -> dict[str, str | None]:
        """The events and what they belong to, once there are so many."""
        await wait_until(lambda: sum(self.store.journal.event_counts().values()) >= count)
        window = await self.store.windows.window(parse(":events sort:id"), 0, 100, T0)
        return {row.type: row.correlation for row in window.rows if isinstance(row, EventRow)}


@pytest.fixture
async def rooms(tmp_path: Path) -> AsyncIterator[_Rooms]:
    store = open_store(tmp_path / "aiwm.db")
    yield _Rooms(store)
    await store.close()


async def test_what_a_request_leads_to_carries_its_name(rooms: _Rooms) -> None:
    await asyncio.create_task(rooms.handle(QueuePause(name="q")))
    rooms.go_on.set()
    assert rooms.later is not None
    await rooms.later
    await asyncio.create_task(rooms.handle(EngineStatus()))
    found = await rooms.found(6)
    name = found["queue.pause"]
    assert name is not None
    assert name.startswith("c-")
    assert found == {
        "queue.pause": name,
        "queue.resume": name,
        "room.pausing": name,
        "room.resuming": name,
        "room.later": name,
        "room.asked": None,
    }
    await asyncio.create_task(rooms.handle(QueueResume(name="q")))
    assert (await rooms.found(8))["queue.resume"] not in (None, name), "another request is another chain"


async def test_after_a_while_it_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert correlation.current() is None
    correlation.begin()
    assert correlation.current() is not None
    monkeypatch.setattr(correlation, "LASTS_S", -1.0)
    assert correlation.current() is None


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (QueuePause(name="etl", reason="driver update"), "reason driver update"),
        (QueueResume(name="etl"), ""),
        (QueueCreate(definition=QueueDefinition(name="etl", pools=("a", "b"), aging_ms=5)), "pools a,b, aging_ms 5"),
        (TaskCancel(ids=("t-1", "t-2"), reason="x"), "reason x"),
        (EngineStop(mode="now"), "mode now"),
    ],
)
def test_an_audit_event_says_what_was_asked_for_and_nothing_twice(request_: Any, said: str) -> None:
    assert _summary(request_) == said


def test_what_shall_not_be_logged_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueueCreate, "unlogged", ("definition",))
    assert _summary(QueueCreate(definition=QueueDefinition(name="etl", pools=("secret",)))) == ""
    monkeypatch.setattr(QueueCreate, "unlogged", ("pools",))
    definition = QueueDefinition(name="etl", pools=("secret",), aging_ms=5)
    assert _summary(QueueCreate(definition=definition)) == "aging_ms 5"
