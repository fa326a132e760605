"""A connection that goes: what only looked ends with it, what changes something goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engine.client import connect
from engine.contract.requests.session import PROTOCOL_VERSION, Welcome
from engine.contract.requests.tasks import TaskAck, TaskOutcome, TaskSubmit, TaskWait
from engine.doors.session import Doorman
from engine.doors.socket import open_socket
from engine.home import make_home, socket_path
from engine.requests.caller import Caller
from engine.requests.table import RequestTable


class _Quiet:
    def emit(self, *_: object, **__: object) -> None:
        pass


async def test_a_request_that_only_looks_ends_with_its_connection(home: Path) -> None:
    make_home(home)
    table = RequestTable(_Quiet(), read_only=False)
    under_way = {name: asyncio.Event() for name in ("wait", "submit")}
    ended: dict[str, str] = {}
    go_on = asyncio.Event()

    async def handle(name: str) -> None:
        under_way[name].set()
        try:
            await go_on.wait()
            ended[name] = "done"
        except asyncio.CancelledError:
            ended[name] = "cancelled"
            raise

    async def wait(_: TaskWait, __: Caller) -> list[TaskOutcome]:
        await handle("wait")
        return []

    async def submit(_: TaskSubmit, __: Caller) -> TaskAck:
        await handle("submit")
        return TaskAck(id="t-10001", state="pending")

    table.register(TaskWait, wait)
    table.register(TaskSubmit, submit)
    left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    welcome = Welcome(
        protocol=PROTOCOL_VERSION, version="1", home=str(home), pid=1, epoch=1, host="test", read_only=False
    )
    doorman = Doorman(table, lambda: welcome, lambda *_: None, lambda _: left.set_result(None))
    server = await open_socket(socket_path(home), doorman)
    client = await connect(home, spawn=False)
    calls = (
        asyncio.ensure_future(client.call(TaskWait(ids=("t-10001",)))),
        asyncio.ensure_future(client.call(TaskSubmit(queue="q"))),
    )
    async with asyncio.timeout(10):
        for event in under_way.values():
            await event.wait()
        await client.close()
        await left
        await asyncio.gather(*calls, return_exceptions=True)
        go_on.set()
        while len(ended) < 2:  # noqa: ASYNC110 (the tasks belong to the door)
            await asyncio.sleep(0)
    assert ended == {"wait": "cancelled", "submit": "done"}
    server.close()
