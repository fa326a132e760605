"""What a recording costs the engine, and what playing it costs: CPU time of the engine's process per task, alternately with nobody
recording, with a recording and with a redacted one; then bytes a task, opening the file, going to its end, and one change back.

The peer is the same engine, same run, with nobody recording. No-op tasks in an `os` queue, 100 submitters in this process, so nearly all
that the engine does is what the recording has to repeat: with real work the share is smaller.

    python -m benchmarks.recording [--tasks 2000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks._report import middle, write
from engine.client import Client, connect, connect_through, replay_command
from engine.contract.definitions import QueueDefinition
from engine.contract.requests.fleet import QueueCreate
from engine.contract.requests.recordings import RecordStart, RecordStop, ReplaySeek, ReplayShow
from engine.contract.requests.tasks import TaskRun
from engine.contract.states import Durability

SUBMITTERS = 100


async def work(client: Client, engine: psutil.Process, tasks: int) -> float:
    """CPU µs of the engine per task."""
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
    write(
        "recording", rows, notes="CPU time of the engine's process; the peer is the same engine with nobody recording"
    )


if __name__ == "__main__":
    main()
