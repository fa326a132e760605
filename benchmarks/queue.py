"""Durable no-op tasks per second and idle latency, ours against five peers, the same driver in the same run.

The driver is a process of its own with 200 threads that submit, each waiting for its acknowledgement. A task counts as submitted when
that says it is on disk, as done when it has run (peers) or its end is on record (ours; our events and performance records are on).
Durability is equal: SQLite synchronous=FULL, Redis appendonly with appendfsync always, PostgreSQL with fsync and synchronous_commit.
Systems take turns; figures are medians over the rounds. `redis-server` and `postgresql` come from the system's packages; the script
starts them on free ports in folders of their own. A peer that is not installed is left out, and said.

    python -m benchmarks.queue [--rounds 3] [--scale 1.0] [--only "aiwm disk,huey"]
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from benchmarks._report import middle, write
from benchmarks._servers import Missing
from benchmarks._systems import SYSTEMS

SUBMITTERS = 200
IDLE_TASKS = 100
TASKS = {
    "aiwm disk": 6000,
    "aiwm os": 6000,
    "huey": 1000,
    "dramatiq redis": 2000,
    "rq": 1000,
    "celery redis": 1000,
    "procrastinate": 600,
}
"""Enough for a second or more of each; more tasks change no rate."""
REFERENCES = {"huey": "x_huey", "dramatiq redis": "x_dramatiq", "procrastinate": "x_procrastinate"}


def cpu_s(pids: list[int]) -> float:
    """CPU seconds (user and system) that processes and all their children have used."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            times = each.cpu_times()
            total += times.user + times.system
    return total


def fsync_ms(count: int = 100) -> float:
    """What one fdatasync of an overwritten 4 KiB block costs here and now: the floor under every durable figure."""
    with tempfile.TemporaryDirectory() as folder:
        fd = os.open(f"{folder}/probe", os.O_RDWR | os.O_CREAT)
        marks = [time.perf_counter()]
        for _ in range(count):
            os.pwrite(fd, b"x" * 4096, 0)
            os.fdatasync(fd)
            marks.append(time.perf_counter())
        os.close(fd)
        return middle([(after - before) * 1000 for before, after in pairwise(marks)])


def drive(name: str, tasks: int) -> dict[str, float] | str:
    """One round of one system in this process; what is missing for it as text."""
    system = SYSTEMS[name]()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            system.start(Path(folder))
        except (Missing, ImportError) as error:
            return str(error)
        try:
            return _drive(system, tasks)
        finally:
            system.stop()


def _drive(system: Any, tasks: int) -> dict[str, float]:
    submitters = [system.submitter() for _ in range(SUBMITTERS)]
    gc.collect()
    gc.disable()
    share, rest = divmod(tasks, SUBMITTERS)
    begin = threading.Barrier(SUBMITTERS + 1)
    errors: list[Exception] = []

    def submitter(number: int) -> None:
        submit = submitters[number]
        begin.wait()
        try:
            for _ in range(share + (number < rest)):
                submit()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=submitter, args=(number,)) for number in range(SUBMITTERS)]
    for thread in threads:
        thread.start()
    before = cpu_s(system.pids())
    begin.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    submitted = time.perf_counter()
    if errors:
        raise errors[0]
    system.wait(1 + tasks)  # one was done at the start, to see that it works
    ended = time.perf_counter()
    cpu = cpu_s(system.pids()) - before
    latencies = []
    for _ in range(IDLE_TASKS):
        before_s = time.perf_counter()
        system.round_trip()
        latencies.append((time.perf_counter() - before_s) * 1000)
    return {
        "tasks_per_s": tasks / (ended - started),
        "submits_per_s": tasks / (submitted - started),
        "cpu_us_per_task": cpu / tasks * 1e6,
        "idle_submit_to_done_ms": middle(latencies),
    }


def measure(names: list[str], rounds: int, scale: float) -> list[dict[str, Any]]:
    """Rounds of all systems in turns, each in a fresh process; one row a system."""
    context = multiprocessing.get_context("spawn")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    missing: dict[str, str] = {}
    for _ in range(rounds):
        for name in names:
            if name in missing:
                continue
            with context.Pool(1) as pool:
                result = pool.apply(drive, (name, max(SUBMITTERS, int(TASKS[name] * scale))))
            if isinstance(result, str):
                missing[name] = result
            else:
                runs[name].append(result)
                print(name, {key: round(value, 3) for key, value in result.items()}, flush=True)
    rows: list[dict[str, Any]] = []
    for name, results in runs.items():
        row: dict[str, Any] = {"system": name}
        if name in missing:
            row["missing"] = missing[name]
        else:
            row |= {"rounds": len(results), "tasks": max(SUBMITTERS, int(TASKS[name] * scale))}
            row |= {key: middle([result[key] for result in results]) for key in results[0]}
        rows.append(row)
    return rows


def compare(rows: list[dict[str, Any]]) -> None:
    """Our rows get the ratios that the design asks for, and the quickest peer's idle time."""
    peers = {row["system"]: row for row in rows if "tasks_per_s" in row and not row["system"].startswith("aiwm")}
    for row in rows:
        if not row["system"].startswith("aiwm") or not peers:
            continue
        for name, key in REFERENCES.items():
            if name in peers:
                row[key] = row["tasks_per_s"] / peers[name]["tasks_per_s"]
        quickest = min(peer["idle_submit_to_done_ms"] for peer in peers.values())
        row["x_quickest_peer_idle"] = row["idle_submit_to_done_ms"] / quickest


def main() -> None:
    parser = argparse.ArgumentParser(description="durable no-op tasks against peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual numbers of tasks")
    parser.add_argument("--only", default=",".join(SYSTEMS), help="systems, separated by commas")
    parser.add_argument("--dry", action="store_true", help="print only, write no results")
    options = parser.parse_args()
    probes = [fsync_ms()]
    rows = measure(options.only.split(","), options.rounds, options.scale)
    probes.append(fsync_ms())
    compare(rows)
    notes = (
        f"{SUBMITTERS} submitting threads in another process; one fdatasync of 4 KiB takes {middle(probes):.2f} ms here"
    )
    if not options.dry:
        write("queue", rows, ("huey", "dramatiq", "rq", "celery", "procrastinate", "redis", "psycopg"), notes)
    else:
        print(notes, *rows, sep="\n")


if __name__ == "__main__":
    main()
