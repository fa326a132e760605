"""A database and a recorder over it, and what plays its recordings, without an engine around them."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.records import Record
from engine.contract.requests.recordings import RecordStart
from engine.contract.states import Durability, TaskState
from engine.recording.looking import LIVE, Looking
from engine.recording.recorder import Recorder
from engine.replaying.player import Player
from engine.replaying.tape import Tape
from engine.store import image, ops
from engine.store.rerun import RerunStore
from engine.store.store import Store
from tests.support.stored import T0, FakeClock, end, event, insert, open_store, start

OS = Durability.os
COMPARED = ("tasks", "payloads", "results", "dependencies", "events", "records", "definitions", "documents", "samples")


class _Events:
    def __init__(self) -> None:
        self.said: list[str] = []

    def emit(self, level: str, type: str, about: str, text: str, **details: Any) -> None:
        self.said.append(text)


class House:
    """A store, a clock that goes a second a time, and a recorder over one table in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "aiwm.db"
        self.clock = FakeClock(T0)
        self.store: Store = open_store(self.path)
        self.queues: list[Record] = []
        tables = {name: self._table(name) for name in LIVE}
        self.events = _Events()
        (folder / "recordings").mkdir()
        self.recorder = Recorder(
            self.store.journal,
            self.path,
            folder / "recordings",
            Looking(tables, self._ask),
            self.clock,
            self.events,
            {"host": "anvil", "home": "home"},
        )

    def _table(self, name: str) -> Any:
        return lambda: self.queues if name == "queues" else []

    async def _ask(self, method: str, params: msgspec.Raw) -> bytes:
        if method == "queue.explain":
            return msgspec.json.encode({"asked": self.clock.now_ms})
        raise AiwmError(Code.not_found, "nobody answers")

    async def write(self, *entry: ops.Op, at: int | None = None) -> None:
        self.clock.now_ms = self.clock.now_ms + 1000 if at is None else at
        await self.store.journal.write(entry, OS)

    def rows(self) -> dict[str, list[Any]]:
        return rows_of(self.path)


def rows_of(path: Path) -> dict[str, list[Any]]:
    connection = sqlite3.connect(path)
    try:
        found: dict[str, list[Any]] = {}
        for table in (*COMPARED, "counters", "event_counters", "record_counters"):
            columns = ", ".join(f'"{name}"' for name in image.columns_of(connection, table))
            zero = " WHERE n <> 0" if table.endswith("counters") else ""
            found[table] = sorted(connection.execute(f"SELECT {columns} FROM {table}{zero}").fetchall(), key=repr)
        return found
    finally:
        connection.close()


class Played:
    def __init__(self, tape: Tape, store: RerunStore, player: Player, path: Path) -> None:
        self.tape, self.store, self.player, self.path = tape, store, player, path

    def rows(self) -> dict[str, list[Any]]:
        return rows_of(self.path)

    async def close(self) -> None:
        await self.player.close()
        await self.store.close()


async def played(files: Sequence[str | Path], folder: Path) -> Played:
    found = _laid_out(files, folder)
    await found.player.start()
    return found


def _laid_out(files: Sequence[str | Path], folder: Path) -> Played:
    folder.mkdir()
    tape = Tape([Path(file) for file in files])
    path = folder / "replay.db"
    image.build(path, tape.parts(), epoch=tape.header.epoch, task_high=tape.header.task_high)
    store = RerunStore(path)
    return Played(tape, store, Player(tape, store, folder), path)


async def a_day(house: House, rng: random.Random, steps: int) -> None:
    """Everything that can be written, in an order that a seed decides."""
    waiting: list[int] = []
    running: list[int] = []
    ended: list[int] = []
    journal = house.store.journal
    for _ in range(steps):
        match rng.randrange(12):
            case 0 | 1 | 2:
                seq = journal.next_seq()
                more: dict[str, Any] = {"template": "t", "metadata": b'{"index":1}'} if rng.random() < 0.3 else {}
                await house.write(insert(seq, payload=b'{"n":%d}' % seq, **more), event("task.submitted", seq))
                waiting.append(seq)
            case 3 | 4 if waiting:
                seq = waiting.pop(rng.randrange(len(waiting)))
                await house.write(start(seq), event("task.started", seq))
                running.append(seq)
            case 5 | 6 if running:
                seq = running.pop(0)
                state = TaskState.failed if rng.random() < 0.3 else TaskState.completed
                error = b'{"code":"task_failed","message":"no"}' if state is TaskState.failed else None
                done = end(
                    seq, state=state, result=b'{"text":"ho"}', error=error, tokens_in=3, tokens_out=4, prompt="p"
                )
                await house.write(done, event("task.completed", seq))
                ended.append(seq)
            case 7:
                await house.write(ops.PutDocument("scale", f"p/{rng.randrange(3)}", "p", T0, b'{"x":1}'))
            case 8:
                await house.write(ops.PutSamples((("running", 1000, T0 + rng.randrange(9) * 1000, rng.random()),)))
            case 9:
                await house.write(ops.PutDefinition("queue", "q", b'{"name":"q"}', f"{rng.random()}", T0))
            case 10 if waiting:
                await house.write(ops.SetPriority(waiting[0], rng.randrange(9), rng.randrange(9)))
            case 11 if ended:
                await house.write(ops.DeleteTasks((ended.pop(0),)))
            case _:
                # A zombie's answer: it has no effect, and is not recorded.
                await house.write(end(1, attempt=99))


async def recorded(house: House, folder: Path, tasks: int = 5) -> Path:
    path = folder / "a.rec"
    made = await house.recorder.start(RecordStart(path=str(path)), 1)
    for _ in range(tasks):
        seq = house.store.journal.next_seq()
        await house.write(insert(seq), event("task.submitted", seq))
    await house.recorder.stop(made.id, 1)
    return path
