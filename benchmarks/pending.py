"""What a pending task costs in memory and on disk: ours at 1 M pending, and three peers whose pending tasks live in Redis.

Ours: the tasks are written by the store itself (rows, payloads, counters, events), then an engine starts on them, runs a task of another
queue, and its resident memory is compared with that of one without them. Peers: Redis's `used_memory` before and after submits with no
worker running. Every task has an empty payload.

    python -m benchmarks.pending [--tasks 1000000] [--peer-tasks 20000]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks._report import write
from benchmarks._servers import Missing, Redis, wait_for
from benchmarks._systems import PREAMBLE, Celery, Dramatiq, Rq

BATCH = 2000


class _Engine:
    def __init__(self, home: Path) -> None:
        from engine.client import connect_blocking

        command = [sys.executable, "-P", "-m", "engine", "run", "--home", str(home)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for((home / "engine.sock").exists, self.process, "the engine")
        self.client = connect_blocking(home, spawn=False, work=True)

    def rss_after_work(self) -> int:
        """Resident bytes once it has run tasks and looked at what waits."""
        from engine.contract.requests.session import ViewRead
        from engine.contract.requests.tasks import TaskRun

        for _ in range(20):
            self.client.call(TaskRun(queue="echo", payload={}))
            self.client.call(ViewRead(location=":tasks queue:bench"))
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()


async def _fill(path: Path, count: int) -> None:
    from engine.clock import SystemClock
    from engine.contract.ids import task_id
    from engine.contract.states import Durability, TaskState
    from engine.store import ops
    from engine.store.store import Store

    store = Store.open(path, clock=SystemClock())
    now = time.time_ns() // 1_000_000
    for first in range(0, count, BATCH):
        entries: list[tuple[ops.Op, ...]] = []
        for _ in range(min(BATCH, count - first)):
            seq = store.journal.next_seq()
            task = ops.InsertTask(
                seq=seq,
                queue="bench",
                state=TaskState.pending,
                priority=0,
                rank=seq,
                payload=b"{}",
                submitted_ms=now,
                by="bench",
                max_attempts=3,
            )
            event = ops.AppendEvent(
                at_ms=now, level="info", type="task.submitted", who="bench", about=task_id(seq), text="", task_seq=seq
            )
            entries.append((task, event))
        await asyncio.gather(*(store.journal.write(entry, Durability.os) for entry in entries))
    await store.close()


def ours(count: int) -> dict[str, Any]:
    from engine.contract.definitions import QueueDefinition
    from engine.contract.requests.fleet import QueueCreate
    from engine.home import database_path

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        home = Path(folder) / "home"
        engine = _Engine(home)
        engine.client.call(QueueCreate(definition=QueueDefinition(name="bench", pools=("echo",), paused=True)))
        empty = engine.rss_after_work()
        engine.stop()
        size = database_path(home).stat().st_size
        asyncio.run(_fill(database_path(home), count))
        started = time.perf_counter()
        engine = _Engine(home)
        start_s = time.perf_counter() - started
        full = engine.rss_after_work()
        engine.stop()
        return {
            "system": "aiwm",
            "pending": count,
            "bytes_each_in_memory": (full - empty) / count,
            "bytes_each_on_disk": (database_path(home).stat().st_size - size) / count,
            "rss_mib": full / 2**20,
            "rss_mib_without": empty / 2**20,
            "start_s": start_s,
        }


def peer(kind: type[Dramatiq | Rq | Celery], count: int) -> dict[str, Any]:
    """One peer, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            server = Redis(Path(folder))
            import redis
        except (Missing, ImportError) as error:
            return {"system": kind.__name__.lower(), "missing": str(error)}
        try:
            (Path(folder) / "done").touch()
            os.environ |= {"BENCH_DONE": f"{folder}/done", "BENCH_FOLDER": folder, "BENCH_REDIS": server.url}
            (Path(folder) / "bench_tasks.py").write_text(PREAMBLE + kind.source)
            sys.path.insert(0, folder)
            module = importlib.import_module("bench_tasks")
            client = redis.Redis.from_url(server.url)
            client.config_set("appendfsync", "no")  # memory is what is measured here
            module.submit()
            before = client.info("memory")["used_memory"]
            for _ in range(count):
                module.submit()
            taken = (client.info("memory")["used_memory"] - before) / count
        finally:
            server.stop()
    return {"system": kind.__name__.lower(), "pending": count, "bytes_each_in_memory": taken}


def main() -> None:
    parser = argparse.ArgumentParser(description="memory of pending tasks")
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--peer-tasks", type=int, default=20_000)
    parser.add_argument("--dry", action="store_true", help="print only, write no results")
    options = parser.parse_args()
    rows = [ours(options.tasks)]
    context = multiprocessing.get_context("spawn")
    for kind in (Dramatiq, Rq, Celery):
        with context.Pool(1) as pool:
            rows.append(pool.apply(peer, (kind, options.peer_tasks)))
    if options.dry:
        print(*rows, sep="\n")
    else:
        write("pending", rows, ("dramatiq", "rq", "celery", "redis"), "empty payloads; peers: Redis's used_memory")


if __name__ == "__main__":
    main()
