"""The systems of `benchmarks.queue`: each starts what it needs, hands out submitters, and says how many tasks have ended.

A no-op task of a peer writes one byte to a file when it runs, so it counts as done a little before its end is on record; ours counts
when its end is. All of them fsync before a submit is acknowledged. Workers: what each system's manual advises for two cores."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import psutil

from benchmarks._servers import Postgres, Redis, wait_for

INSTANCES = 200
Submit = Callable[[], Any]


class System(Protocol):
    """`start` in an empty folder, then `submitter` once in each thread. `round_trip` submits one task and waits for its end."""

    def start(self, folder: Path) -> None: ...
    def submitter(self) -> Submit: ...
    def wait(self, count: int) -> None: ...
    def round_trip(self) -> None: ...
    def pids(self) -> list[int]: ...
    def stop(self) -> None: ...


class Ours:
    """An engine with one pool of 200 instances of the `template` kind; each submitter has a connection of its own."""

    def __init__(self, durability: str) -> None:
        self._durability = durability

    def start(self, folder: Path) -> None:
        from engine.contract.definitions import PoolDefinition, QueueDefinition
        from engine.contract.requests.fleet import PoolCreate, QueueCreate
        from engine.contract.states import Durability

        self._home = folder / "home"
        command = [sys.executable, "-P", "-m", "engine", "run", "--home", str(self._home)]
        self._engine = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for((self._home / "engine.sock").exists, self._engine, "the engine")
        self._client = self._connect()
        pool = PoolDefinition(name="bench", definition="echo", min_idle=INSTANCES, max_total=INSTANCES)
        self._client.call(PoolCreate(definition=pool))
        queue = QueueDefinition(name="bench", pools=("bench",), durability=Durability(self._durability))
        self._client.call(QueueCreate(definition=queue))
        self.round_trip()

    def _connect(self) -> Any:
        from engine.client import connect_blocking

        return connect_blocking(self._home, spawn=False, work=True, name="benchmark")

    def submitter(self) -> Submit:
        from engine.contract.requests.tasks import TaskSubmit

        client, request = self._connect(), TaskSubmit(queue="bench", payload={})
        return lambda: client.call(request)

    def wait(self, count: int) -> None:
        from engine.contract.requests.fleet import QueueShow

        while self._client.call(QueueShow(name="bench")).row.completed < count:
            time.sleep(0.002)

    def round_trip(self) -> None:
        from engine.contract.requests.tasks import TaskRun

        assert self._client.call(TaskRun(queue="bench", payload={})).state == "completed"

    def pids(self) -> list[int]:
        return [self._engine.pid]

    def stop(self) -> None:
        self._client.close()
        self._engine.terminate()
        self._engine.wait()


class Peer:
    """A peer whose tasks are in a module of their own, written into the folder; `BENCH_*` in the environment say where things are."""

    source = ""
    command: tuple[str, ...] = ()

    def start(self, folder: Path) -> None:
        os.environ |= {"BENCH_DONE": str(folder / "done"), "BENCH_FOLDER": str(folder)}
        (folder / "done").touch()
        (folder / "bench_tasks.py").write_text(PREAMBLE + self.source)
        sys.path.insert(0, str(folder))
        self._done = folder / "done"
        self._ended = 0
        self.server(folder)
        self.module: ModuleType = importlib.import_module("bench_tasks")
        self.prepare()
        self._worker = subprocess.Popen(
            [sys.executable, "-m", *self.command],
            cwd=folder,
            env={**os.environ, "BENCH_WORKER": "1", "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
            stdout=subprocess.DEVNULL,
            stderr=(folder / "worker.log").open("wb"),
        )
        self._server_pids = self.servers()
        self.submitter()()
        wait_for(lambda: self.count() >= 1, self._worker, self.command[0])

    def server(self, folder: Path) -> None:
        """Start the server it needs, if any."""

    def servers(self) -> list[int]:
        return []

    def prepare(self) -> None:
        """What is done once before the worker starts."""

    def submitter(self) -> Submit:
        submit: Submit = self.module.submit
        return submit

    def count(self) -> int:
        return self._done.stat().st_size

    def wait(self, count: int) -> None:
        while self.count() < count:
            time.sleep(0.0002)

    def round_trip(self) -> None:
        before = self.count()
        self.submitter()()
        self.wait(before + 1)

    def pids(self) -> list[int]:
        return [self._worker.pid, *self._server_pids]

    def stop(self) -> None:
        processes = [psutil.Process(self._worker.pid)]
        processes += processes[0].children(recursive=True)
        for process in processes:
            process.kill()
        self._worker.wait()


PREAMBLE = """
import os
_done = os.open(os.environ["BENCH_DONE"], os.O_WRONLY | os.O_APPEND)

def work():
    os.write(_done, b".")

"""


class Huey(Peer):
    """SqliteHuey with fsync=True (synchronous=FULL): 8 threads that poll every millisecond."""

    source = """
from huey import SqliteHuey
huey = SqliteHuey(filename=os.environ["BENCH_FOLDER"] + "/huey.db", fsync=True, results=False)
noop = huey.task()(work)
submit = lambda: noop()
"""
    command = ("huey.bin.huey_consumer", "bench_tasks.huey", "-w", "8", "-k", "thread", "-d", "0.001", "-n", "-q")


class OnRedis(Peer):
    def server(self, folder: Path) -> None:
        self._redis = Redis(folder)
        os.environ["BENCH_REDIS"] = self._redis.url

    def servers(self) -> list[int]:
        return [self._redis.process.pid]

    def stop(self) -> None:
        super().stop()
        self._redis.stop()


class Dramatiq(OnRedis):
    """Two processes of eight threads each, its default middleware, results off; an idle worker looks again within 10 ms."""

    source = """
import dramatiq, redis
from dramatiq.brokers.redis import RedisBroker
dramatiq.set_broker(RedisBroker(client=redis.Redis.from_url(os.environ["BENCH_REDIS"], max_connections=500)))
noop = dramatiq.actor(work)
submit = noop.send
"""
    command = ("dramatiq", "bench_tasks", "-p", "2", "-t", "8")

    def prepare(self) -> None:
        # The default, one second, is how long an idle worker sleeps: its idle latency would be that and nothing else.
        os.environ["dramatiq_worker_timeout"] = "10"  # noqa: SIM112 (its name)


class Rq(OnRedis):
    """A pool of two SimpleWorkers, which run jobs without a fork for each: RQ at its quickest."""

    source = """
import redis, rq
def submit_on(queue):
    return lambda: queue.enqueue(work, result_ttl=0)
connection = redis.Redis.from_url(os.environ["BENCH_REDIS"], max_connections=500)
submit = submit_on(rq.Queue(connection=connection))
"""
    command: tuple[str, ...] = ("rq.cli", "worker-pool", "-q", "-n", "2", "-w", "rq.worker.SimpleWorker")

    def prepare(self) -> None:
        self.command = (*Rq.command, "-u", os.environ["BENCH_REDIS"])


class Celery(OnRedis):
    """Two prefork processes, acknowledged late (as all others are), results ignored."""

    source = """
import celery
app = celery.Celery("bench_tasks", broker=os.environ["BENCH_REDIS"])
app.conf.update(task_acks_late=True, task_ignore_result=True, worker_enable_remote_control=False)
noop = app.task(work, name="noop")
submit = noop.delay
"""
    command = (
        "celery",
        "-A",
        "bench_tasks",
        "worker",
        "-c",
        "2",
        "--without-gossip",
        "--without-mingle",
        "-l",
        "error",
    )


class Procrastinate(Peer):
    """One worker of 16 concurrent tasks, woken by NOTIFY; submitters share a pool of 16 connections."""

    source = """
import procrastinate
dsn = os.environ["BENCH_DSN"]
if "BENCH_WORKER" in os.environ:
    connector = procrastinate.PsycopgConnector(conninfo=dsn, min_size=4, max_size=20)
else:
    connector = procrastinate.SyncPsycopgConnector(conninfo=dsn, min_size=16, max_size=16, timeout=120)
app = procrastinate.App(connector=connector)
@app.task(name="noop")
async def noop():
    work()
submit = noop.defer
"""
    command = ("procrastinate", "--app=bench_tasks.app", "worker", "--concurrency", "16")

    def server(self, folder: Path) -> None:
        self._postgres = Postgres(folder)
        os.environ["BENCH_DSN"] = self._postgres.dsn

    def servers(self) -> list[int]:
        return [self._postgres.process.pid]

    def prepare(self) -> None:
        self.module.app.open()
        self.module.app.schema_manager.apply_schema()

    def stop(self) -> None:
        super().stop()
        self._postgres.stop()


SYSTEMS: dict[str, Callable[[], System]] = {
    "aiwm disk": lambda: Ours("disk"),
    "aiwm os": lambda: Ours("os"),
    "huey": Huey,
    "dramatiq redis": Dramatiq,
    "rq": Rq,
    "celery redis": Celery,
    "procrastinate": Procrastinate,
}
