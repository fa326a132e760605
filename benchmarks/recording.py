"""What a recording costs the engine, and what playing it costs: CPU time of the engine's process per task, alternately with nobody
recording, with a recording and with a redacted one; then bytes a task, opening the file, going to its end, and one change back.

The peer is the same engine, same run, with nobody recording. No-op tasks in an `os` queue, 100 submitters in this process, so nearly all
that the engine does is what the recording has to repeat: with real work the share is smaller. The journal alone, in this process, shows
what the rest of the engine's work hides.

    python -m benchmarks.recording [--tasks 2000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks._report import middle, write
from engine.client import Client, connect, connect_through
from engine.clock import SystemClock
from engine.contract.definitions import QueueDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.fleet import QueueCreate
from engine.contract.requests.recordings import RecordStart, RecordStop, ReplaySeek, ReplayShow
from engine.contract.requests.tasks import TaskRun
from engine.contract.states import Durability, TaskState
from engine.recording.looking import LIVE, Looking
from engine.recording.recorder import Recorder
from engine.spawning import replay_command
from engine.store import ops
from engine.store.store import Store

SUBMITTERS = 100
REST_S = 2.0


async def work(client: Client, engine: psutil.Process, tasks: int) -> float:
    """CPU µs of the engine per task. It rests first: what the last round left (words to index) is not this one's."""
    await asyncio.sleep(REST_S)
    before = engine.cpu_times()
    left = iter(range(tasks))

    async def one() -> None:
        for number in left:
            await client.call(TaskRun(queue="bench", payload={"n": number}))

    await asyncio.gather(*(one() for _ in range(SUBMITTERS)))
    after = engine.cpu_times()
    return (after.user + after.system - before.user - before.system) / tasks * 1e6


async def measure(home: Path, tasks: int, rounds: int) -> list[dict[str, Any]]:
    client = await connect(home)
    assert client.welcome is not None
    engine = psutil.Process(client.welcome.pid)
    await client.call(QueueCreate(definition=QueueDefinition(name="bench", pools=("echo",), durability=Durability.os)))
    await work(client, engine, tasks)
    costs: dict[str, list[float]] = {"nobody records": [], "recording": [], "redacted recording": []}
    file, written = home.parent / "last.rec", 0
    for number in range(rounds):
        # Each has its turn at being first: an engine gets quicker in its first minute.
        names = list(costs)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            spent = costs[name]
            if name == "nobody records":
                spent.append(await work(client, engine, tasks))
                continue
            path = home.parent / f"{number}-{name[0]}{name[2]}.rec"
            made = await client.call(RecordStart(path=str(path), redact=name.startswith("redacted")))
            first = made.bytes
            spent.append(await work(client, engine, tasks))
            done = await client.call(RecordStop(id=made.id))
            if name == "recording":
                file, written = path, done.bytes - first
    await client.close()
    peer = middle(costs["nobody records"])
    rows: list[dict[str, Any]] = [
        {"what": name, "us_per_task": middle(spent), "ratio": middle(spent) / peer, "rounds": len(spent)}
        for name, spent in costs.items()
    ]
    return [*rows, {"what": "bytes a task", "bytes": written / tasks}, *await play(file)]


class _Silent:
    """Nobody hears of events here."""

    def emit(self, *_: object, **__: object) -> None:
        pass


async def journal(folder: Path, tasks: int, record: bool) -> float:
    """CPU µs a task of a journal alone, in this process: submitted, started, ended, each with its event."""
    os.makedirs(folder)
    clock = SystemClock()
    store = Store.open(folder / "aiwm.db", clock=clock)

    async def nobody(method: str, _: msgspec.Raw) -> bytes:
        raise AiwmError(Code.not_found, method)

    looking = Looking(dict.fromkeys(LIVE, list), nobody)
    recorder = Recorder(
        store.journal, folder / "aiwm.db", folder, looking, clock, _Silent(), {"host": "bench", "home": "bench"}
    )
    if record:
        await recorder.start(RecordStart(path=str(folder / "a.rec")), 1)
    before = time.process_time()
    left = iter(range(1, tasks + 1))

    async def one() -> None:
        for seq in left:
            for entry in way_of(seq, clock.wall_ms()):
                await store.journal.write(entry, Durability.os)

    await asyncio.gather(*(one() for _ in range(SUBMITTERS)))
    await recorder.close()
    spent = (time.process_time() - before) / tasks * 1e6
    await store.close()
    return spent


def way_of(seq: int, now: int) -> tuple[tuple[ops.Op, ...], ...]:
    """The entries of a task's way."""

    def event(kind: str) -> ops.Op:
        return ops.AppendEvent(
            at_ms=now, level="info", type=kind, who="bench", about=f"t-{seq}", text="as it goes", task_seq=seq
        )

    insert = ops.InsertTask(
        seq=seq,
        queue="q",
        state=TaskState.pending,
        priority=0,
        rank=seq,
        payload=b'{"n":1}',
        submitted_ms=now,
        by="bench",
    )
    end = ops.EndTask(seq=seq, attempt=1, state=TaskState.completed, at_ms=now, result=b'{"n":1}')
    start = ops.StartTask(seq, 1, "i-01", "p", "echo", now)
    return (insert, event("task.submitted")), (start, event("task.started")), (end, event("task.completed"))


async def journals(folder: Path, tasks: int, rounds: int) -> list[dict[str, Any]]:
    costs: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds):
        for record in (False, True) if number % 2 else (True, False):
            costs[record].append(await journal(folder / f"{number}-{record}", tasks, record))
    peer = middle(costs[False])
    return [
        {"what": f"journal alone, {word}", "us_per_task": middle(costs[record]), "ratio": middle(costs[record]) / peer}
        for record, word in ((False, "nobody records"), (True, "recording"))
    ]


async def play(file: Path) -> list[dict[str, Any]]:
    """Opening, going to the end, one change back."""
    began = time.perf_counter()
    client = await connect_through(replay_command([str(file)]), name="bench")
    opened = time.perf_counter() - began
    state = await client.call(ReplayShow())
    began = time.perf_counter()
    state = await client.call(ReplaySeek(at_ms=state.to_ms), timeout_s=None)
    there = time.perf_counter() - began
    began = time.perf_counter()
    await client.call(ReplaySeek(step=-1), timeout_s=None)
    back = time.perf_counter() - began
    await client.close()
    return [
        {
            "what": "playing",
            "changes": state.changes,
            "open_s": opened,
            "to_the_end_s": there,
            "one_change_back_s": back,
        }
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aiwm-") as folder:
        rows = asyncio.run(measure(Path(folder) / "home", parsed.tasks, parsed.rounds))
        rows += asyncio.run(journals(Path(folder) / "journals", parsed.tasks, parsed.rounds))
    write(
        "recording", rows, notes="CPU time of the engine's process; the peer is the same engine with nobody recording"
    )


if __name__ == "__main__":
    main()
