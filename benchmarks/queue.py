"""Durable no-op tasks per second and idle latency, ours against Huey on SQLite, the same driver in the same run.

The driver is another process with 200 concurrent submitters. A task counts as submitted when its submit was acknowledged as on disk,
as done when its end is on record. Both sides fsync every acknowledged submit (Huey: fsync=True, i.e. synchronous=FULL). Ours writes
its events and performance records too. Rounds alternate; figures are medians.

    python -m benchmarks.queue [--tasks 4000] [--huey-tasks 800] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks._report import middle, write

SUBMITTERS = 200
IDLE_TASKS = 100
INSTANCES = 200


def cpu_s(pid: int) -> float:
    """CPU seconds (user and system) that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fsync_ms(count: int = 100) -> float:
    """What one fdatasync of an overwritten 4 KiB block costs here and now: the floor under every durable figure."""
    with tempfile.TemporaryDirectory() as folder:
        fd = os.open(f"{folder}/probe", os.O_RDWR | os.O_CREAT)
        costs = []
        for _ in range(count):
            os.pwrite(fd, b"x" * 4096, 0)
            before = time.perf_counter()
            os.fdatasync(fd)
            costs.append((time.perf_counter() - before) * 1000)
        os.close(fd)
        return middle(costs)


# -- ours -------------------------------------------------------------------------------------------------------------------


async def drive_ours(home: Path, tasks: int, durability: str) -> dict[str, float]:
    from engine.client import connect
    from engine.contract.definitions import PoolDefinition, QueueDefinition
    from engine.contract.requests.fleet import PoolCreate, QueueCreate
    from engine.contract.requests.tasks import TaskRun, TaskSubmit, TaskWait
    from engine.contract.states import Durability

    async with await connect(home, spawn=False, name="benchmark") as client:
        pool = PoolDefinition(name="bench", definition="echo", min_idle=INSTANCES, max_total=INSTANCES)
        queue = QueueDefinition(name="bench", pools=("bench",), durability=Durability(durability))
        await client.call(PoolCreate(definition=pool))
        await client.call(QueueCreate(definition=queue))
        left = iter(range(tasks))
        ids: list[str] = []

        async def submitter() -> None:
            for _ in left:
                ids.append((await client.call(TaskSubmit(queue="bench", payload={}))).id)

        started = time.perf_counter()
        await asyncio.gather(*(submitter() for _ in range(SUBMITTERS)))
        submitted = time.perf_counter()
        outcomes = await client.call(TaskWait(ids=tuple(ids)))
        done = time.perf_counter()
        assert all(outcome.state == "completed" for outcome in outcomes)
        latencies = []
        for _ in range(IDLE_TASKS):
            before = time.perf_counter()
            await client.call(TaskRun(queue="bench", payload={}))
            latencies.append((time.perf_counter() - before) * 1000)
        return {"submit_s": submitted - started, "done_s": done - started, "idle_ms": middle(latencies)}


def run_ours(tasks: int, durability: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="aiwm-") as folder:
        home = Path(folder) / "home"
        engine = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine", "run", "--home", str(home)], stderr=subprocess.DEVNULL
        )
        try:
            while not (home / "engine.sock").exists():
                time.sleep(0.02)
            before = cpu_s(engine.pid)
            result = asyncio.run(drive_ours(home, tasks, durability))
            result["cpu_us"] = (cpu_s(engine.pid) - before) / (tasks + IDLE_TASKS) * 1e6
            return result
        finally:
            engine.send_signal(signal.SIGTERM)
            engine.wait()


# -- Huey -------------------------------------------------------------------------------------------------------------------

_HUEY = """
import os
from huey import SqliteHuey
huey = SqliteHuey(filename=os.environ["BENCH_DB"], fsync=True, results=False)
done = os.open(os.environ["BENCH_DONE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
@huey.task()
def noop():
    os.write(done, b".")
"""


def run_huey(tasks: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="huey-") as folder:
        os.environ["BENCH_DB"] = f"{folder}/huey.db"
        os.environ["BENCH_DONE"] = f"{folder}/done"
        Path(folder, "bench_huey.py").write_text(_HUEY)
        sys.path.insert(0, folder)
        sys.modules.pop("bench_huey", None)
        bench_huey = importlib.import_module("bench_huey")

        consumer = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "huey.bin.huey_consumer",
                "bench_huey.huey",
                "-w",
                "8",
                "-k",
                "thread",
                "-d",
                "0.001",
                "-n",
                "-q",
            ],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return _drive_huey(bench_huey, Path(folder, "done"), tasks, consumer.pid)
        finally:
            consumer.send_signal(signal.SIGINT)
            consumer.wait()
            sys.path.remove(folder)


def _drive_huey(module: Any, done: Path, tasks: int, pid: int) -> dict[str, float]:
    def finished(count: int) -> None:
        while not done.exists() or done.stat().st_size < count:
            time.sleep(0.0002)

    module.noop()
    finished(1)
    before = cpu_s(pid)
    left = iter(range(tasks))
    lock = threading.Lock()

    def submitter() -> None:
        while True:
            with lock:
                if next(left, None) is None:
                    return
            module.noop()

    threads = [threading.Thread(target=submitter) for _ in range(SUBMITTERS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    submitted = time.perf_counter()
    finished(1 + tasks)
    ended = time.perf_counter()
    cpu_us = (cpu_s(pid) - before) / tasks * 1e6
    latencies = []
    for index in range(IDLE_TASKS):
        before_s = time.perf_counter()
        module.noop()
        finished(2 + tasks + index)
        latencies.append((time.perf_counter() - before_s) * 1000)
    return {"submit_s": submitted - started, "done_s": ended - started, "idle_ms": middle(latencies), "cpu_us": cpu_us}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--huey-tasks", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {"aiwm disk": [], "aiwm os": [], "huey FULL": []}
    probes = []
    for _ in range(arguments.rounds):
        probes.append(fsync_ms())
        runs["aiwm disk"].append(run_ours(arguments.tasks, "disk"))
        runs["huey FULL"].append(run_huey(arguments.huey_tasks))
        runs["aiwm os"].append(run_ours(arguments.tasks, "os"))
    tasks = {"aiwm disk": arguments.tasks, "aiwm os": arguments.tasks, "huey FULL": arguments.huey_tasks}
    rows: list[dict[str, Any]] = []
    for name, results in runs.items():
        rows.append(
            {
                "system": name,
                "rounds": len(results),
                "tasks": tasks[name],
                "tasks_per_s": middle([tasks[name] / result["done_s"] for result in results]),
                "submits_per_s": middle([tasks[name] / result["submit_s"] for result in results]),
                "cpu_us_per_task": middle([result["cpu_us"] for result in results]),
                "idle_submit_to_done_ms": middle([result["idle_ms"] for result in results]),
            }
        )
    peer = rows[-1]
    for row in rows:
        row["x_huey_tasks_per_s"] = row["tasks_per_s"] / peer["tasks_per_s"]
        row["x_huey_idle"] = row["idle_submit_to_done_ms"] / peer["idle_submit_to_done_ms"]
    write(
        "queue",
        rows,
        ("huey",),
        f"{SUBMITTERS} concurrent submitters in another process; Huey: 8 threads, polls every 1 ms",
    )


if __name__ == "__main__":
    main()
