"""A connection that goes: what only looked ends with it, what changes something goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.client import connect
from engine.contract.errors import AiwmError
from engine.contract.requests.comparisons import Comparison, TaskCompare
from engine.contract.requests.session import PROTOCOL_VERSION, Welcome
from engine.contract.requests.tasks import TaskAck, TaskOutcome, TaskSubmit, TaskWait
from engine.doors.session import Doorman
from engine.doors.socket import open_socket
from engine.home import make_home, socket_path
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from tests.support.waiting import until


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


async def test_a_call_that_is_cancelled_ends_in_the_engine_unless_its_effect_lasts(home: Path) -> None:
    make_home(home)
    table = RequestTable(_Quiet(), read_only=False)
    begun: list[str] = []
    ended: list[str] = []
    go_on = asyncio.Event()

    async def handle(name: str) -> None:
        begun.append(name)
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            ended.append(name)
            raise

    async def compare(_: TaskCompare, __: Caller) -> Comparison:
        await handle("compare")
        raise AssertionError

    async def wait(request: TaskWait, _: Caller) -> list[TaskOutcome]:
        await handle(request.ids[0])
        return []

    async def submit(_: TaskSubmit, __: Caller) -> TaskAck:
        await handle("submit")
        return TaskAck(id="t-10001", state="pending")

    table.register(TaskCompare, compare)
    table.register(TaskWait, wait)
    table.register(TaskSubmit, submit)
    welcome = Welcome(
        protocol=PROTOCOL_VERSION, version="1", home=str(home), pid=1, epoch=1, host="test", read_only=False
    )
    doorman = Doorman(table, lambda: welcome, lambda *_: None, lambda _: None)
    server = await open_socket(socket_path(home), doorman)
    async with await connect(home, spawn=False) as client:
        comparing = asyncio.ensure_future(client.call(TaskCompare(id="t-1", adapters=("base",))))
        kept = asyncio.ensure_future(client.call(TaskWait(ids=("kept",))))
        submitting = asyncio.ensure_future(client.call(TaskSubmit(queue="q")))
        await until(lambda: len(begun) == 3)
        comparing.cancel()
        submitting.cancel()
        with pytest.raises(AiwmError) as late:
            await client.call(TaskWait(ids=("late",)), timeout_s=0.01)
        assert late.value.code == "timeout"
        await until(lambda: len(ended) == 2)
        assert ended == ["compare", "late"]
        # Its request and its withdrawal come in one piece: both are read before either is looked at.
        hasty = asyncio.ensure_future(client.call(TaskWait(ids=("hasty",))))
        await asyncio.sleep(0)
        hasty.cancel()
        await until(lambda: ended[2:] == ["hasty"])
        go_on.set()
        assert await kept == []
    server.close()
