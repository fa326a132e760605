"""Approvals on a real store: at most once, whatever ends in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.clock import SystemClock
from engine.contract.errors import AiwmError, Code
from engine.contract.records.approvals import ApprovalRow, ApprovalState
from engine.contract.requests.approvals import ApprovalApprove, ApprovalList, ApprovalShow
from engine.contract.requests.sources import SourceRead
from engine.contract.requests.tasks import TaskCancel
from engine.events import JournalEvents
from engine.home import database_path, make_home
from engine.requests.approvals import Approvals
from engine.requests.caller import Caller
from engine.requests.grants import Grant, check_grant
from engine.requests.table import RequestTable
from engine.store.store import Store
from tests.support.waiting import until

OPERATOR = Caller(id=1, principal="operator", client="test", read_only=False, send=lambda _: True)


class Room:
    """A table in which cancelling is only counted, and the approvals of it."""

    def __init__(self, home: Path, wait_ms: int = 60_000) -> None:
        clock = SystemClock()
        self.store = Store.open(database_path(home), clock=clock)
        self.table = RequestTable(JournalEvents(self.store.journal, clock), read_only=False)
        self.made: list[tuple[TaskCancel, Caller]] = []
        self.hold: asyncio.Event | None = None
        self.failing = False
        self.table.register(TaskCancel, self._cancel)
        self.approvals = Approvals(self.table, self.store.journal, self.store.readers, clock, wait_ms, lambda: None)
        self.approvals.register()

    async def _cancel(self, request: TaskCancel, caller: Caller) -> Any:
        self.made.append((request, caller))
        if self.failing:
            raise AiwmError(Code.not_found, "it is gone")
        if self.hold is not None:
            await self.hold.wait()
        return {"cancelled": list(request.ids)}

    async def park(self) -> ApprovalRow:
        return await self.approvals.park(
            "task.cancel", {"ids": ["t-10001"]}, "task:t-10002", ("docs",), "why", "t-10002"
        )

    async def show(self, identifier: str) -> ApprovalRow:
        return await self.approvals.show(ApprovalShow(id=identifier), OPERATOR)

    async def close(self) -> None:
        self.approvals.close()
        await self.store.close()


@pytest.fixture
async def room(home: Path) -> AsyncIterator[Room]:
    make_home(home)
    made = Room(home)
    await made.approvals.start()
    yield made
    await made.close()


async def test_it_is_made_once_with_the_rights_of_the_asker_and_this_leave(room: Room) -> None:
    row = await room.park()
    assert room.made == []
    done = await room.approvals.approve(ApprovalApprove(id=row.id), OPERATOR)
    assert (done.state, done.result) == ("done", {"cancelled": ["t-10001"]})
    ((request, caller),) = room.made
    assert request.ids == ("t-10001",)
    assert caller.principal == "task:t-10002"
    assert caller.grant == Grant(sources=frozenset({"docs"}), approval=row.id)
    with pytest.raises(AiwmError, match="decided once"):
        await room.approvals.approve(ApprovalApprove(id=row.id), OPERATOR)
    assert len(room.made) == 1


async def test_two_who_approve_at_once_make_it_once(room: Room) -> None:
    row = await room.park()
    request = ApprovalApprove(id=row.id)
    answers = await asyncio.gather(
        *(room.approvals.approve(request, OPERATOR) for _ in range(5)), return_exceptions=True
    )
    assert len(room.made) == 1
    assert sum(isinstance(answer, AiwmError) for answer in answers) == 4


async def test_a_failure_is_kept_with_it(room: Room) -> None:
    room.failing = True
    row = await room.park()
    done = await room.approvals.approve(ApprovalApprove(id=row.id), OPERATOR)
    assert done.state == "failed"
    assert done.error is not None
    assert (await room.show(row.id)).error == done.error


async def test_an_engine_that_ends_while_it_is_made_does_not_make_it_again(home: Path) -> None:
    make_home(home)
    room = Room(home)
    await room.approvals.start()
    row = await room.park()
    room.hold = asyncio.Event()
    making = asyncio.ensure_future(room.approvals.approve(ApprovalApprove(id=row.id), OPERATOR))
    await until(lambda: bool(room.made))
    assert (await room.show(row.id)).state == ApprovalState.approved, "that it is allowed is on disk before it is made"
    making.cancel()
    await room.close()
    after = Room(home)
    await after.approvals.start()
    assert (await after.show(row.id)).state == ApprovalState.unknown
    assert await after.approvals.all(ApprovalList(), OPERATOR) == []
    with pytest.raises(AiwmError, match="decided once"):
        await after.approvals.approve(ApprovalApprove(id=row.id), OPERATOR)
    assert after.made == []
    assert (await after.park()).id == "ap-2", "numbers go on"
    await after.close()


async def test_what_waited_too_long_expires_by_itself(home: Path) -> None:
    make_home(home)
    room = Room(home, wait_ms=30)
    await room.approvals.start()
    row = await room.park()
    await until(lambda: room.approvals._find(row.id).state == "expired")
    assert room.approvals.needs() == []
    await room.close()


async def test_all_that_was_asked_stays_to_be_seen(room: Room) -> None:
    first, second = await room.park(), await room.park()
    await room.approvals.approve(ApprovalApprove(id=first.id), OPERATOR)
    assert [row.id for row in await room.approvals.all(ApprovalList(), OPERATOR)] == [second.id]
    # By when they last changed, which may be the same millisecond.
    assert {row.id for row in await room.approvals.all(ApprovalList(all=True), OPERATOR)} == {first.id, second.id}
    (need,) = room.approvals.needs()
    assert (need.id, need.state, need.what) == ("ap-2", "asks", "task:t-10002 asks for task.cancel")


async def test_a_principal_that_is_no_person_cannot_ask_past_its_bounds(room: Room) -> None:
    task = msgspec.structs.replace(OPERATOR, principal="task:t-10002", grant=Grant(sources=frozenset({"docs"})))
    for method, params in (("task.cancel", {"ids": ["t-10001"]}), ("approval.approve", {"id": "ap-1"})):
        with pytest.raises(AiwmError) as refused:
            await room.table.handle(method, msgspec.Raw(msgspec.json.encode(params)), task)
        assert refused.value.code == Code.denied
    assert room.made == []
    check_grant(SourceRead(name="docs", path="x"), Grant(sources=frozenset({"docs"})))
    with pytest.raises(AiwmError, match="not among those"):
        check_grant(SourceRead(name="vault", path="x"), Grant(sources=frozenset({"docs"})))
    with pytest.raises(AiwmError, match="it has no sources"):
        check_grant(SourceRead(name="docs", path="x"), Grant())
