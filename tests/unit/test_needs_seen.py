"""A need that comes by the passing of time alone is seen: by who looks, and in a recording."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from engine.config import load_config
from engine.contract.definitions import QueueDefinition
from engine.contract.requests.base import Request
from engine.contract.requests.fleet import QueueCreate
from engine.contract.requests.recordings import RecordStart
from engine.contract.requests.session import ViewOpen
from engine.contract.requests.tasks import TaskCancel, TaskSubmit
from engine.home import database_path, make_home
from engine.host import Host, Options
from engine.requests.caller import Caller
from engine.store.store import Store
from tests.support.screens import wait_until
from tests.support.stored import FakeClock


class _House:
    """A host without doors on a clock that stands; `told` are the notifications that its client was sent."""

    def __init__(self, home: Path) -> None:
        self.clock = FakeClock()
        make_home(home)
        self.store = Store.open(database_path(home), clock=self.clock)
        self.host = Host(Options(home=home), load_config(), self.store, self.clock)
        self.told: list[Any] = []
        self.caller = Caller(id=7, principal="operator", client="test", read_only=False, send=self._hear)

    def _hear(self, note: Any) -> bool:
        self.told.append(note)
        return True

    async def call(self, request: Request[Any]) -> Any:
        params = msgspec.Raw(msgspec.json.encode(request))
        return msgspec.json.decode(await self.host._table.handle(request.method, params, self.caller))


@asynccontextmanager
async def house(home: Path) -> AsyncIterator[_House]:
    found = _House(home)
    host = found.host
    await host._manager.start(dispatch=True)
    try:
        models = host._models.rows
        await wait_until(lambda: {row.state for row in models()} == {"ready"}, "what starts tells of itself")
        yield found
    finally:
        await host._recorder.close()
        await host._manager.stop()
        host._ticker.close()
        host._needs.close()
        await host._models.close()
        await host._adapters.close()
        await host._views.close()
        await found.store.close()


async def test_a_queue_that_stands_still_after_a_minute_is_told_of(home: Path, tmp_path: Path) -> None:
    async with house(home) as found:
        await found.call(QueueCreate(definition=QueueDefinition(name="alone")))
        gone = await found.call(TaskSubmit(queue="alone", payload={}))
        await found.call(TaskSubmit(queue="alone", payload={}))
        await found.call(TaskCancel(ids=(gone["id"],)))
        file = tmp_path / "a.rec"
        await found.call(RecordStart(path=str(file)))
        view = await found.call(ViewOpen(location=":needs", size=10))
        assert view["rows"] == [], "something has just gone out of it"
        shown = found.host._views._views[view["view"]]
        await wait_until(lambda: not shown._timer and not shown._looking, "all that was committed is shown")
        found.clock.now_ms += 61_000
        await wait_until(lambda: "alone stands still" in repr(found.told), "it is told without a commit")
        await wait_until(lambda: b'"what":"alone stands still"' in file.read_bytes(), "it is recorded")
