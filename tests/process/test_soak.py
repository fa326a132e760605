"""Ten minutes of what a night brings: random adapters, cancels, killed model processes, chats that are left. Nothing is lost, nothing
leaks. `AIWM_SOAK_S` shortens it."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from engine.client import BlockingClient
from engine.contract.definitions import QueueDefinition
from engine.contract.requests.fleet import ModelList, QueueCreate
from engine.contract.requests.session import EngineStatus
from engine.contract.requests.tasks import TaskCancel, TaskList, TaskSubmit, TaskWait
from tests.support.adapters import many_adapters
from tests.support.engines import engine, wait_until

SOAK_S = float(os.environ.get("AIWM_SOAK_S", "600"))
IN_FLIGHT = 48
ADAPTERS = 25  # more than the 20 that a process holds
PROMPTS = ("What is 12+30?", "Extract the email: write to ana@aiwm.org", "Classify: the printer is broken", "hello")
ENDED = ("completed", "failed", "cancelled")


@dataclass
class Reading:
    """What the engine and its children hold at one moment; sizes in bytes."""

    engine_rss: int
    engine_fds: int
    children: int
    model_rss: int

    @classmethod
    def of(cls, pid: int) -> Reading:
        process = psutil.Process(pid)
        children = process.children(recursive=True)
        rss = [child.memory_info().rss for child in children if child.is_running()]
        return cls(process.memory_info().rss, process.num_fds(), len(children), max(rss, default=0))


@dataclass
class Soak:
    """The storm: keeps tasks in flight, cancels some, kills model processes, counts what was acknowledged."""

    client: BlockingClient
    pid: int
    names: list[str]
    draw: random.Random
    submitted: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    killed: int = 0

    def turn(self) -> None:
        while len(self.waiting) < IN_FLIGHT:
            self.waiting.append(self.submit())
        if self.draw.random() < 0.3:
            self.client.call(TaskCancel(ids=(self.draw.choice(self.waiting),), reason="soak"))
        if self.draw.random() < 0.02:
            self.kill()
        answers = self.client.call(TaskWait(ids=tuple(self.waiting), timeout_ms=100))
        self.waiting = [answer.id for answer in answers if answer.state not in ENDED]

    def submit(self) -> str:
        draw = self.draw
        used = draw.sample(self.names, draw.choice((0, 0, 1, 1, 1, 2)))
        payload = {
            "prompt": draw.choice(PROMPTS),
            "max_tokens": draw.choice((1, 8, 24, 64)),
            "adapters": [{"name": name, "weight": draw.choice((0.5, 1.0))} for name in used],
        }
        task = self.client.call(TaskSubmit(queue="soak", payload=payload, max_attempts=50)).id
        self.submitted.append(task)
        return task

    def kill(self) -> None:
        pids = [row.pid for row in self.client.call(ModelList()) if row.pid is not None]
        if pids:
            os.kill(self.draw.choice(pids), signal.SIGKILL)
            self.killed += 1

    def settle(self) -> None:
        """Wait until everything acknowledged has ended."""
        while self.waiting:
            answers = self.client.call(TaskWait(ids=tuple(self.waiting), timeout_ms=30_000))
            self.waiting = [answer.id for answer in answers if answer.state not in ENDED]


@pytest.mark.slow
def test_ten_minutes_of_random_adapters_cancels_and_kills_leave_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "adapters").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    names = many_adapters(home / "adapters", ADAPTERS)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    with engine(home) as running, running.client() as client:
        client.call(QueueCreate(definition=QueueDefinition(name="soak", pools=("demo",))))
        soak = Soak(client, running.process.pid, names, random.Random(seed))
        end = time.monotonic() + SOAK_S
        readings: list[Reading] = []
        next_reading = time.monotonic() + SOAK_S / 4  # the first quarter warms up
        while time.monotonic() < end:
            soak.turn()
            if time.monotonic() >= next_reading:
                soak.settle()
                _calm(client)
                readings.append(Reading.of(soak.pid))
                next_reading += SOAK_S / 8
        soak.settle()
        _calm(client)
        last = Reading.of(soak.pid)
        rows = client.call(TaskList(where="queue:soak", limit=1)).total
        ended = sum(client.call(TaskList(where=f"queue:soak state:{state}", limit=1)).total for state in ENDED)
        failed = client.call(TaskList(where="queue:soak state:failed", limit=5)).rows
        status = client.call(EngineStatus())
    print(f"{len(soak.submitted)} tasks, {soak.killed} kills; first {readings[0]}, last {last}, fenced {status.fenced}")
    assert rows == ended == len(soak.submitted)
    assert not failed, failed
    assert soak.killed > 0 or SOAK_S < 60
    first = readings[0]
    assert last.engine_fds <= first.engine_fds + 2
    assert last.children <= max(reading.children for reading in readings)
    assert last.engine_rss < first.engine_rss * 1.25 + 16e6
    assert last.model_rss < max(reading.model_rss for reading in readings) * 1.15 + 16e6


def _calm(client: BlockingClient) -> None:
    """With nothing to do, no request holds keys and values, a slot or an adapter."""

    def at_rest() -> bool:
        rows = client.call(ModelList())
        return all(not (row.running or row.waiting or row.kv_used_bytes) for row in rows)

    wait_until(at_rest, "the models are at rest", 60.0)
