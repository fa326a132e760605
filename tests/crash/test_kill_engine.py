"""kill -9 of the engine at random points: every acknowledged task is finished by the next start, and completed once."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
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


def _kill_and_recover(home: Path, points: int, seed: int) -> None:
    draw = random.Random(seed)
    acknowledged: list[str] = []
    pending: list[str] = []
    for point in range(points + 1):
        engine = Engine(home)
        try:
            with engine.client() as client:
                outcomes = client.call(TaskWait(ids=tuple(pending), timeout_ms=60_000)) if pending else []
            # Being killed with the engine twice makes a task a suspect; here each is caught once at most.
            unfinished = [outcome for outcome in outcomes if outcome.state != "completed"]
            assert not unfinished, f"seed {seed}, point {point}: {unfinished[:3]}"
            acknowledged += pending
            if point == points:
                break
            threads = [Submitter(engine, "echo", seed + point), Submitter(engine, "demo", seed - point)]
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
@pytest.mark.parametrize("part", range(10))
def test_no_acknowledged_task_is_lost_at_three_hundred_points(home: Path, part: int) -> None:
    _kill_and_recover(home, 30, SEED + 10_000 + part * 1000)
