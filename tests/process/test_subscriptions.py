"""What a client subscribed to ends when it says so: after that it hears of nothing more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.client import connect
from engine.contract.errors import AiwmError
from engine.contract.notifications import LogMore, StreamChunk, ViewChanged
from engine.contract.requests.fleet import QueuePause, QueueResume
from engine.contract.requests.logs import LogFollow, LogUnfollow
from engine.contract.requests.session import ViewClose, ViewMove, ViewOpen
from engine.contract.requests.tasks import TaskFollow, TaskRun, TaskSubmit, TaskUnfollow, TaskWait
from tests.support.engines import engine
from tests.support.waiting import until


async def test_a_closed_window_is_silent(home: Path) -> None:
    with engine(home):
        async with await connect(home, spawn=False) as client:
            heard: list[str] = []
            client.on(ViewChanged, lambda note: heard.append(note.view))
            closed = await client.call(ViewOpen(location=":tasks"))
            open_ = await client.call(ViewOpen(location=":tasks"))
            await client.call(TaskRun(queue="echo", timeout_ms=10_000))
            await until(lambda: {closed.view, open_.view} <= set(heard))
            await client.call(ViewClose(view=closed.view))
            heard.clear()
            await client.call(TaskRun(queue="echo", timeout_ms=10_000))
            await until(lambda: open_.view in heard)
            assert closed.view not in heard
            with pytest.raises(AiwmError) as caught:
                await client.call(ViewMove(view=closed.view, top=0))
            assert caught.value.code == "not_found"


async def test_an_unfollowed_task_is_silent(home: Path) -> None:
    with engine(home):
        async with await connect(home, spawn=False) as client:
            heard: list[StreamChunk] = []
            client.on(StreamChunk, heard.append)
            await client.call(QueuePause(name="demo"))
            payload = {"prompt": "What is 2+2?"}
            dropped, kept = [(await client.call(TaskSubmit(queue="demo", payload=payload))).id for _ in range(2)]
            streams = [(await client.call(TaskFollow(id=task))).stream for task in (dropped, kept)]
            await client.call(TaskUnfollow(stream=streams[0]))
            await client.call(QueueResume(name="demo"))
            await client.call(TaskWait(ids=(dropped, kept), timeout_ms=60_000))
            await until(lambda: any(chunk.ended for chunk in heard))
            await asyncio.sleep(0)
            assert {chunk.task for chunk in heard} == {kept}


async def test_a_log_that_is_not_followed_any_more_is_silent(home: Path) -> None:
    log = home / "logs" / "aiwm-nano.0.log"
    with engine(home):
        async with await connect(home, spawn=False) as client:
            heard: list[str] = []
            client.on(LogMore, lambda note: heard.append(note.stream))
            await until(log.exists)
            dropped, kept = [(await client.call(LogFollow(name="aiwm-nano.0"))).stream for _ in range(2)]
            with log.open("a") as file:
                file.write("one\n")
            await until(lambda: {dropped, kept} <= set(heard))
            await client.call(LogUnfollow(stream=dropped))
            heard.clear()
            with log.open("a") as file:
                file.write("two\n")
            await until(lambda: kept in heard)
            assert dropped not in heard
