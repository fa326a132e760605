"""kill -9 of the engine at random points: every acknowledged task is finished by the next start, and completed once."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.contract.errors import AiwmError
from engine.contract.ids import task_id
from engine.contract.requests.tasks import TaskSubmit, TaskWait
from engine.home import database_path
from tests.support.engines import Engine

SEED = int(os.environ.get("AIWM_KILL_SEED", "20261120"))


class Submitter(threading.Thread):
    """Submits until the engine dies under it; `acknowledged` are the ids it was promised."""

    def __init__(self, engine: Engine, queue: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._engine = engine
        self._queue = queue
        self._random = random.Random(seed)
        self.acknowledged: list[str] = []

    def run(self) -> None:
        try:
            with self._engine.client() as client:
                while True:
                    a, b = self._random.randrange(100), self._random.randrange(100)
                    payload = {"prompt": f"What is {a}+{b}?"}
                    self.acknowledged.append(client.call(TaskSubmit(queue=self._queue, payload=payload)).id)
                    if self._queue == "demo":
                        time.sleep(0.005)
        except (AiwmError, OSError):
            return


def _kill_and_recover(home: Path, points: int, seed: int, *, models: bool = True, at_start: bool = False) -> None:
    """Kill the engine at so many random points. `models`: tasks of the language model run too. `at_start`: every fourth kill comes
    while the engine starts and takes back what the last one left; a task may then go down with several engines."""
    draw = random.Random(seed)
    patient = {"AIWM_SCHEDULING__MAX_CRASHES": "1000"} if at_start else {}
    acknowledged: list[str] = []
    pending: list[str] = []
    for point in range(points + 1):
        if at_start and point % 4 == 3:
            _kill_while_it_starts(home, draw.uniform(0.05, 0.6), patient)
            continue
        engine = Engine(home, environment=patient)
        try:
            with engine.client() as client:
                outcomes = client.call(TaskWait(ids=tuple(pending), timeout_ms=60_000)) if pending else []
            # Being killed with the engine twice makes a task a suspect; unless `at_start`, each is caught once at most.
            unfinished = [outcome for outcome in outcomes if outcome.state != "completed"]
            assert not unfinished, f"seed {seed}, point {point}: {unfinished[:3]}"
            acknowledged += pending
            if point == points:
                break
            threads = [Submitter(engine, "echo", seed + point)]
            if models:
                threads.append(Submitter(engine, "demo", seed - point))
            for thread in threads:
                thread.start()
            time.sleep(draw.uniform(0.0, 0.25))
        finally:
            engine.kill()
        for thread in threads:
            thread.join(10)
        pending = [identifier for thread in threads for identifier in thread.acknowledged]
    assert len(acknowledged) > points, "the test submitted next to nothing"
    _check_database(home, acknowledged)


def _kill_while_it_starts(home: Path, after_s: float, environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "engine", "run", "--home", str(home)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    time.sleep(after_s)
    process.kill()
    process.wait()


def _check_database(home: Path, acknowledged: list[str]) -> None:
    with sqlite3.connect(database_path(home)) as database:
        rows = {task_id(seq): state for seq, state in database.execute("SELECT seq, state FROM tasks")}
        assert [identifier for identifier in acknowledged if rows.get(identifier) != "completed"] == []
        twice = database.execute(
            "SELECT about, count(*) FROM events WHERE type = 'task.completed' GROUP BY about HAVING count(*) > 1"
        ).fetchall()
        assert twice == []
        ends_without_start = database.execute(
            "SELECT about FROM events WHERE type = 'task.completed' AND about NOT IN (SELECT about FROM events WHERE type = 'task.started')"
        ).fetchall()
        assert ends_without_start == []
        counted = dict(database.execute("SELECT state, sum(n) FROM counters GROUP BY state HAVING sum(n)").fetchall())
        real = dict(database.execute("SELECT state, count(*) FROM tasks GROUP BY state").fetchall())
        assert counted == real


@pytest.mark.parametrize("part", range(2))
def test_no_acknowledged_task_is_lost(home: Path, part: int) -> None:
    _kill_and_recover(home, 16, SEED + part * 1000)


@pytest.mark.slow
def test_no_acknowledged_task_is_lost_at_a_thousand_points(home: Path) -> None:
    """Ten homes of 100 points each, as many at once as there are cores: five with the model's tasks, five without, which is quicker;
    every other one is also killed while it starts. `AIWM_KILL_SEED` repeats a run."""

    def one(part: int) -> None:
        base = home / str(part)
        base.mkdir(parents=True)
        seed = SEED + 10_000 + part * 1000
        _kill_and_recover(base / "home", 100, seed, models=part < 5, at_start=part % 2 == 1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(one, range(10)):
            pass
