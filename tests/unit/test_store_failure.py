"""When a commit fails: nothing of it is seen, everybody is told, and work goes on by itself when the storage does."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.contract.errors import AiwmError
from engine.contract.states import Durability
from engine.store.commit import CommittedBatch
from engine.store.ops import Receipt
from engine.store.store import Store
from tests.support.stored import check_file, end, event, insert, open_store, start, submit
from tests.support.waiting import until

DISK, OS, MEMORY = Durability.disk, Durability.os, Durability.memory


class Disk:
    """Stands before the writer's connection and can be full: at the first statement, or at the commit."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.full_at: str | None = None
        self.refused = 0
        self.hold: threading.Event | None = None

    def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
        if self.hold is not None and sql == "COMMIT":
            self.hold.wait(10)
        if self.full_at is not None and sql.startswith(self.full_at):
            self.refused += 1
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(sql, *parameters)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.disk = Disk(store._writer._connection)
        store._writer._connection = self.disk  # type: ignore[assignment]
        self.batches: list[CommittedBatch] = []
        self.failed: list[AiwmError] = []
        self.recovered = asyncio.Event()
        store.journal.on_commit(self.batches.append)
        store.journal.on_failed(self.failed.append)
        store.journal.on_recovered(self.recovered.set)

    async def wait_recovered(self) -> None:
        async with asyncio.timeout(10):
            await self.recovered.wait()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = open_store(tmp_path / "aiwm.db")
    found = World(store)
    yield found
    found.disk.full_at = None
    await store.close()
    check_file(tmp_path / "aiwm.db")


@pytest.mark.parametrize("at", ["BEGIN", "INSERT INTO tasks", "INSERT INTO events", "COMMIT"])
async def test_a_failed_commit_is_told_and_leaves_nothing(world: World, at: str) -> None:
    store = world.store
    kept = await submit(store)
    world.disk.full_at = at
    seq = store.journal.next_seq()
    with pytest.raises(AiwmError, match="database or disk is full") as caught:
        await store.journal.write((insert(seq), event("a", seq)), DISK)
    assert (caught.value.code, caught.value.info.retryable) == ("storage_failed", True)
    assert store.journal.state == "failed"
    assert [error.code for error in world.failed] == ["storage_failed"]
    assert store.readers.task(seq) is None
    assert store.counters() == {("q", "pending"): 1}
    assert len(world.batches) == 1
    with pytest.raises(AiwmError, match="cannot be written"):
        await store.journal.write((insert(store.journal.next_seq()),), OS)
    world.disk.full_at = None
    await world.wait_recovered()
    assert store.journal.state == "working"
    assert not (await store.journal.write((start(kept), end(kept)), DISK)).fenced
    assert len(world.failed) == 1


async def test_what_waits_behind_a_failed_commit_fails_with_it(world: World) -> None:
    store = world.store
    world.disk.hold = threading.Event()
    world.disk.full_at = "COMMIT"
    first = store.journal.write((insert(store.journal.next_seq()),), DISK)
    await asyncio.sleep(0)
    later = [store.journal.write((insert(store.journal.next_seq()),), DISK) for _ in range(20)]
    world.disk.hold.set()
    outcomes = await asyncio.gather(first, *later, return_exceptions=True)
    assert {outcome.code for outcome in outcomes if isinstance(outcome, AiwmError)} == {"storage_failed"}
    assert len([outcome for outcome in outcomes if isinstance(outcome, AiwmError)]) == 21
    world.disk.full_at = None
    await world.wait_recovered()
    assert store.counters() == {}


async def test_probes_go_on_until_the_disk_has_room(world: World) -> None:
    world.disk.full_at = "UPDATE meta"
    commit = world.store._writer.commit

    def fails_once(*_: object, **__: object) -> object:
        world.store._writer.commit = commit  # type: ignore[method-assign]
        return commit([], probe=True)

    world.store._writer.commit = fails_once  # type: ignore[method-assign, assignment]
    with pytest.raises(AiwmError):
        await world.store.journal.write((event("a"),), OS)
    await until(lambda: world.disk.refused >= 4)
    assert world.store.journal.state == "failed"
    assert not world.recovered.is_set()
    world.disk.full_at = None
    await world.wait_recovered()


async def test_memory_tasks_survive_a_failed_commit(world: World) -> None:
    store = world.store
    world.disk.full_at = "COMMIT"
    one, two = store.journal.next_seq(), store.journal.next_seq()
    store.journal.write((insert(one, durability=MEMORY),), MEMORY)
    with pytest.raises(AiwmError):
        await store.journal.write((event("a"),), OS)
    future = store.journal.write((insert(two, durability=MEMORY),), MEMORY)
    assert future.result() == Receipt(False)
    assert [task.seq for task in store.readers.page("q", "", "", None, 9)] == [one, two]
    world.disk.full_at = None
    await world.wait_recovered()
    await store.journal.write((event("b"),), OS)
    assert store.counters() == {("q", "pending"): 2}
    assert store.journal.event_counts() == {"info": 1}


async def test_fences_hold_after_a_failure(world: World) -> None:
    """What the journal remembered of tasks must not contain what was rolled back."""
    store = world.store
    seq = await submit(store)
    world.disk.full_at = "COMMIT"
    with pytest.raises(AiwmError):
        await store.journal.write((start(seq),), DISK)
    world.disk.full_at = None
    await world.wait_recovered()
    assert (await store.journal.write((end(seq),), DISK)).fenced
    assert not (await store.journal.write((start(seq),), DISK)).fenced


async def test_closing_a_failed_journal_ends(tmp_path: Path) -> None:
    store = open_store(tmp_path / "aiwm.db")
    world = World(store)
    world.disk.full_at = "BEGIN"
    with pytest.raises(AiwmError):
        await store.journal.write((event("a"),), OS)
    store.journal.write((event("lost"),), MEMORY)
    async with asyncio.timeout(10):
        await store.close()
    check_file(tmp_path / "aiwm.db")


async def test_nobody_waiting_for_a_failed_event_is_no_noise(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.disk.full_at = "BEGIN"
    world.store.journal.write((event("a"),), OS)
    await until(lambda: bool(world.failed))
    world.store.journal.write((event("b"),), OS)
    assert "never retrieved" not in caplog.text
