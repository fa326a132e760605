"""The log cut at every write boundary of a 500-task run: what was acknowledged is there, whole, and in order.

The run goes through three engines on one log that is never checkpointed, so that every state in which a crash could have left the
files is a prefix of that log. Each prefix is opened and compared with what the journal had committed by then."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import struct
import tempfile
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.states import Durability, TaskState
from engine.store import ops, schema
from engine.store.store import Store
from tests.support.stored import T0, FakeClock, check, end, event, insert, start

TASKS, WORKERS, EPOCHS = 500, 12, 3
_HEADER, _FRAME_HEADER = 32, 24
States = dict[int, str]


class Recorded:
    """A run: the files' folder, and after which size of the log which tasks were in which state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.offsets: list[int] = []
        self.states: list[States] = []
        self.epochs: list[int] = []
        self.acknowledged = 0

    @property
    def log(self) -> Path:
        return self.folder / "aiwm.db-wal"

    def note(self, states: States, epoch: int) -> None:
        self.offsets.append(os.stat(self.log).st_size)
        self.states.append(states)
        self.epochs.append(epoch)

    def at(self, size: int) -> int:
        """The index of the last commit that a log of this size holds whole; -1 if it holds none."""
        return bisect_right(self.offsets, size) - 1


class Engine:
    """One engine's part of the run. The store is abandoned at the end, as a crash would leave it."""

    def __init__(self, recorded: Recorded, rng: random.Random) -> None:
        self.recorded = recorded
        self.rng = rng
        self.store = Store.open(recorded.folder / "aiwm.db", clock=FakeClock())
        rows = self.store.readers._connection.execute("SELECT seq, state FROM tasks").fetchall()
        recorded.note(dict(rows), self.store.epoch)
        commit = self.store._writer.commit

        def watched(*arguments: Any, **more: Any) -> Any:
            batch, outcomes = commit(*arguments, **more)
            states = {**recorded.states[-1], **{it.seq: it.after for it in batch.changed if it.after}}
            recorded.note(states, self.store.epoch)
            return batch, outcomes

        self.store._writer.commit = watched  # type: ignore[method-assign]

    async def write(self, state: str, *entry: ops.Op) -> None:
        receipt = await self.store.journal.write(entry, Durability.os)
        assert not receipt.fenced
        seq: int = entry[0].seq  # type: ignore[attr-defined]
        assert self.recorded.states[-1][seq] == state, "acknowledged before it was committed"
        self.recorded.acknowledged += 1

    async def attempt(self, seq: int, attempt: int) -> None:
        """Start the task, and end it in one way or another."""
        await self.write("processing", start(seq, attempt), event("task.started", seq))
        way = self.rng.random()
        if way < 0.1:
            retry = ops.RetryTask(seq=seq, attempt=attempt, due_ms=T0, at_ms=T0, error=b'{"code": "timeout"}')
            await self.write("retrying", retry, event("task.retry", seq))
            await self.attempt(seq, attempt + 1)
        elif way < 0.2:
            await self.write("failed", end(seq, attempt, TaskState.failed), event("task.ended", seq))
        else:
            await self.write("completed", end(seq, attempt, result=b'{"text": "%d"}' % seq), event("task.ended", seq))

    async def worker(self, until: int) -> None:
        journal = self.store.journal
        while journal._task_seq < until:
            seq = journal.next_seq()
            await self.write("pending", insert(seq, f"q{seq % 3}"), event("task.submitted", seq))
            await self.attempt(seq, 1)

    async def finish_old(self) -> None:
        """Tasks of the last engine that were taken back."""
        for queue in ("q0", "q1", "q2"):
            for seq in self.store.readers.seqs("pending", queue, 99):
                task = self.store.readers.task(seq)
                assert task is not None
                await self.attempt(seq, task.attempt + 1)

    async def live(self, until: int) -> None:
        await self.finish_old()
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self.worker(until))
        for seq in range(until - 3, until):
            # In the middle of something when the engine dies.
            again = self.store.journal.next_seq()
            await self.write("pending", insert(again, f"q{seq % 3}"), event("task.submitted", again))
            await self.write("processing", start(again), event("task.started", again))


def _run(folder: Path) -> Recorded:
    recorded = Recorded(folder / "epoch-1")
    recorded.folder.mkdir()
    rng = random.Random(11)
    with pytest.MonkeyPatch.context() as patch:
        use_wal = schema.use_wal

        def without_checkpoints(connection: sqlite3.Connection) -> None:
            use_wal(connection)
            connection.execute("PRAGMA wal_autocheckpoint = 0")

        patch.setattr(schema, "use_wal", without_checkpoints)
        for epoch in range(1, EPOCHS + 1):
            engine = Engine(recorded, rng)
            asyncio.run(engine.live(TASKS * epoch // EPOCHS))
            # A crash: the files as they are go on, the connections of this life keep their hands on the old ones.
            after = folder / f"epoch-{epoch + 1}"
            after.mkdir()
            for name in ("aiwm.db", "aiwm.db-wal"):
                shutil.copyfile(recorded.folder / name, after / name)
            recorded.folder = after
    return recorded


@pytest.fixture(scope="module")
def recorded() -> Iterator[Recorded]:
    with tempfile.TemporaryDirectory(prefix="aiwm-log-") as folder:
        yield _run(Path(folder))


def _frames(log: bytes) -> list[int]:
    """Where the log's frames end. The first number is the header's end."""
    size = struct.unpack(">I", log[8:12])[0] + _FRAME_HEADER
    assert (len(log) - _HEADER) % size == 0
    return list(range(_HEADER, len(log) + 1, size))


class Cutter:
    """A copy of the files whose log is made shorter and shorter. Opening it read-only leaves it as it is."""

    def __init__(self, recorded: Recorded, folder: Path) -> None:
        self.recorded = recorded
        self.path = folder / "aiwm.db"
        for name in ("aiwm.db", "aiwm.db-wal"):
            shutil.copyfile(recorded.folder / name, folder / name)
        self.log = Path(f"{self.path}-wal")

    def cut(self, size: int) -> None:
        os.truncate(self.log, size)
        Path(f"{self.path}-shm").unlink(missing_ok=True)

    def verify(self, size: int, *, deep: bool = True) -> None:
        """What the files hold now is what was committed when the log had this size. Unless `deep`, the costly questions are asked
        only where a transaction ends."""
        commit = self.recorded.at(size)
        connection = sqlite3.connect(schema.read_uri(self.path), uri=True)
        try:
            if commit < 0:
                tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
                assert (
                    tables == 0 or connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0] == 0
                )
                return
            whole = size == self.recorded.offsets[commit] or deep
            _verify(connection, self.recorded.states[commit], self.recorded.epochs[commit], deep=whole)
        finally:
            connection.close()


def _verify(connection: sqlite3.Connection, states: States, epoch: int, *, deep: bool) -> None:
    assert dict(connection.execute("SELECT seq, state FROM tasks")) == states
    assert connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0] == epoch
    if not deep:
        return
    check(connection)
    unstarted = connection.execute(
        "SELECT seq FROM events AS ended WHERE type IN ('task.ended', 'task.retry') AND NOT EXISTS"
        " (SELECT 1 FROM events AS begun WHERE begun.task = ended.task AND begun.type = 'task.started' AND begun.seq < ended.seq)"
    ).fetchall()
    assert unstarted == []
    without = connection.execute(
        "SELECT seq FROM tasks WHERE state IN ('completed', 'failed') AND NOT EXISTS"
        " (SELECT 1 FROM records WHERE records.task = tasks.seq AND records.attempt = tasks.attempt)"
    ).fetchall()
    assert without == []


def test_the_run_is_one(recorded: Recorded) -> None:
    assert len(recorded.states[-1]) >= TASKS
    assert recorded.epochs[-1] == EPOCHS
    assert recorded.epochs == sorted(recorded.epochs)
    assert recorded.offsets == sorted(set(recorded.offsets))
    assert recorded.acknowledged >= 3 * TASKS
    assert len(_frames(recorded.log.read_bytes())) > len(recorded.offsets) > 100


def test_cut_at_every_write_boundary(recorded: Recorded, tmp_path: Path) -> None:
    cutter = Cutter(recorded, tmp_path)
    for size in reversed(_frames(recorded.log.read_bytes())):
        cutter.cut(size)
        cutter.verify(size, deep=False)


def _middles(recorded: Recorded, count: int) -> list[int]:
    """Sizes in the middle of writes: inside frame headers and inside pages."""
    rng = random.Random(3)
    frames = _frames(recorded.log.read_bytes())
    chosen = range(len(frames) - 1) if count >= len(frames) else sorted(rng.sample(range(len(frames) - 1), count))
    page = frames[1] - frames[0]
    return [frames[index] + rng.choice([1, 8, 23, 24, 25, rng.randrange(page), page - 1]) for index in chosen]


def test_cut_in_the_middle_of_writes(recorded: Recorded, tmp_path: Path) -> None:
    cutter = Cutter(recorded, tmp_path)
    for size in reversed(_middles(recorded, 150)):
        cutter.cut(size)
        cutter.verify(size)


def _reopen(recorded: Recorded, size: int, folder: Path, tail: bytes = b"") -> None:
    """A new engine on the cut files: nothing is left running, nothing that was there is gone."""
    folder.mkdir()
    path = folder / "aiwm.db"
    shutil.copyfile(recorded.folder / "aiwm.db", path)
    with open(recorded.log, "rb") as log:
        Path(f"{path}-wal").write_bytes(log.read(size) + tail)
    commit = recorded.at(size)
    states = recorded.states[commit] if commit >= 0 else {}
    epoch = recorded.epochs[commit] if commit >= 0 else 0

    async def look() -> None:
        store = Store.open(path, clock=FakeClock())
        assert store.epoch == epoch + 1
        now = dict(store.readers._connection.execute("SELECT seq, state FROM tasks").fetchall())
        running = {seq for seq, state in states.items() if state == "processing"}
        assert {seq: state for seq, state in now.items() if seq not in running} == {
            seq: state for seq, state in states.items() if seq not in running
        }
        assert {now[seq] for seq in running} <= {"pending", "failed"}
        assert (store.recovered.requeued + store.recovered.dead_lettered, store.recovered.dropped) == (len(running), 0)
        seq = store.journal.next_seq()
        assert seq > max(states, default=0)
        await store.journal.write((insert(seq), event("task.submitted", seq)), Durability.disk)
        await store.close()

    asyncio.run(look())
    connection = sqlite3.connect(path)
    check(connection)
    connection.close()
    shutil.rmtree(folder)


def test_a_new_engine_starts_on_what_is_left(recorded: Recorded, tmp_path: Path) -> None:
    frames = _frames(recorded.log.read_bytes())
    for number, size in enumerate([*frames[:: len(frames) // 40], *_middles(recorded, 10)]):
        _reopen(recorded, size, tmp_path / str(number))


def test_garbage_after_the_last_whole_write_is_ignored(recorded: Recorded, tmp_path: Path) -> None:
    """A disk may have the file's new length but not yet its content."""
    rng = random.Random(5)
    log = recorded.log.read_bytes()
    frames = _frames(log)
    page = frames[1] - frames[0]
    for number in range(12):
        size = frames[rng.randrange(2, len(frames) - 1)]
        tail = rng.choice([b"\0" * page, rng.randbytes(page), log[size : size + page - 9] + b"\0" * 9])
        _reopen(recorded, size, tmp_path / str(number), tail)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_a_checkpoint_that_was_cut_short(recorded: Recorded, tmp_path: Path, share: float) -> None:
    """Some pages of the database are new already, the log is whole: it is replayed over both."""
    names = ("aiwm.db", "aiwm.db-wal")
    (tmp_path / "done").mkdir()
    for name in names:
        shutil.copyfile(recorded.folder / name, tmp_path / "done" / name)
    connection = sqlite3.connect(tmp_path / "done" / "aiwm.db")
    assert connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()[0] == 0
    new = (tmp_path / "done" / "aiwm.db").read_bytes()
    connection.close()
    old = (recorded.folder / "aiwm.db").read_bytes()
    rng = random.Random(share)
    mixed = bytearray(new)
    for at in range(0, len(old), 4096):
        if rng.random() >= share:
            mixed[at : at + 4096] = old[at : at + 4096]
    for at in range(len(old), len(new), 4096):
        if rng.random() >= share:
            mixed[at : at + 4096] = bytes(4096)
    if share < 0.5:
        del mixed[int(len(new) * share) // 4096 * 4096 or len(old) :]
    cutter = Cutter(recorded, tmp_path)
    (tmp_path / "aiwm.db").write_bytes(mixed)
    cutter.verify(recorded.offsets[-1])


@pytest.mark.slow
def test_cut_in_the_middle_of_every_write(recorded: Recorded, tmp_path: Path) -> None:
    cutter = Cutter(recorded, tmp_path)
    for size in reversed(_middles(recorded, 10**9)):
        cutter.cut(size)
        cutter.verify(size)


@pytest.mark.slow
def test_a_new_engine_starts_at_every_write_boundary(recorded: Recorded, tmp_path: Path) -> None:
    for number, size in enumerate(_frames(recorded.log.read_bytes())):
        _reopen(recorded, size, tmp_path / str(number))
