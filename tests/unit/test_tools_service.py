"""Calls of tools on a real store: what an asker that is stopped leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.clock import SystemClock
from engine.contract.ids import task_id
from engine.contract.requests.tasks import TaskSubmit
from engine.events import JournalEvents
from engine.tools.gate import Lists
from engine.tools.service import Rights, ToolService
from tests.support.room import Room
from tests.support.waiting import until

RIGHTS = Rights(principal="operator", lists=(Lists(whose="worker w", allow=("*",)),), sources=(), area="tasks/t")


@pytest.fixture
async def room(home: Path) -> AsyncIterator[Room]:
    made = Room(home)
    await made.manager.start(dispatch=True)
    yield made
    await made.close()


def _service(room: Room) -> ToolService:
    nothing: Any = None
    events = JournalEvents(room.store.journal, SystemClock())
    return ToolService(nothing, room.table, nothing, events, max_chars=1_000, timeout_ms=60_000)


async def test_a_submit_whose_asker_is_stopped_is_stored_and_run(room: Room) -> None:
    service, before = _service(room), room.store.journal._task_seq
    call = asyncio.ensure_future(service.call(RIGHTS, "task_submit", {"queue": "q", "payload": {"n": 1}}))
    while room.store.journal._task_seq == before:  # noqa: ASYNC110 (its entry is given to the journal in one of the next steps)
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert call.cancelled()
    await until(lambda: not service._under_way)
    assert (await room.outcome(task_id(before + 1))).result == {"n": 1}


async def test_a_run_whose_asker_is_stopped_waits_for_nothing(room: Room) -> None:
    service = _service(room)
    call = asyncio.ensure_future(service.call(RIGHTS, "task_run", {"queue": "still", "payload": {}}))
    await until(lambda: bool(room.manager.waiters._waiting))
    call.cancel()
    await until(lambda: not service._under_way)
    assert not room.manager.waiters._waiting


async def test_a_look_ends_with_its_asker(room: Room) -> None:
    service = _service(room)
    waiting = (await room.call(TaskSubmit(queue="still"))).id
    call = asyncio.ensure_future(service.call(RIGHTS, "task_wait", {"ids": [waiting]}))
    await until(lambda: bool(room.manager.waiters._waiting))
    call.cancel()
    await until(lambda: not service._under_way)
    assert not room.manager.waiters._waiting
