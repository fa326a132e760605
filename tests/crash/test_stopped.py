"""Processes that stand still (SIGSTOP, as swapping or a debugger does it) and go on later: what they say then comes too late."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.client import BlockingClient
from engine.contract.ids import task_id
from engine.contract.records import ModelRow
from engine.contract.requests.fleet import ModelList
from engine.contract.requests.session import EngineStatus
from engine.contract.requests.tasks import TaskRun, TaskShow, TaskSubmit, TaskWait
from engine.home import database_path, lock_path, socket_path
from tests.support.engines import ENGINE, Engine, engine, make_queue, wait_until

LONG = {"prompt": "Repeat 'ba de fi go hu la me'.", "temperature": 1.5, "max_tokens": 300}
SHORT = {"prompt": "What is 2+2?"}


@pytest.fixture
def stopped() -> Iterator[list[int]]:
    """Process ids that are let go on after the test, whatever became of it."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def _ends(home: Path) -> dict[str, int]:
    """How often each task ended, by id."""
    with sqlite3.connect(database_path(home)) as database:
        query = "SELECT about, count(*) FROM events WHERE type IN ('task.completed', 'task.failed') GROUP BY about"
        return dict(database.execute(query).fetchall())


def _model(client: BlockingClient) -> ModelRow:
    return client.call(ModelList())[0]


def test_a_stopped_model_process_is_replaced_and_its_tasks_end_once(home: Path, stopped: list[int]) -> None:
    with engine(home, environment={"AIWM_MODELS__HANG_TIMEOUT_MS": "700"}) as running, running.client() as client:
        client.call(TaskRun(queue="demo", payload=SHORT, timeout_ms=30_000))
        pid = _model(client).pid
        assert pid is not None
        stopped.append(pid)
        # Stopped before it gets them: a quick machine would be done with them before anybody could see it at work.
        os.kill(pid, signal.SIGSTOP)
        ids = tuple(client.call(TaskSubmit(queue="demo", payload=LONG)).id for _ in range(8))
        wait_until(lambda: client.call(EngineStatus()).running > 0, "the tasks to be on their way")
        wait_until(lambda: _model(client).pid != pid, "another process in its place")
        with pytest.raises(ProcessLookupError):  # who stood still too long is ended: nothing of it can come any more
            os.kill(pid, signal.SIGCONT)
        stopped.clear()
        outcomes = client.call(TaskWait(ids=ids, timeout_ms=60_000))
        assert {outcome.state for outcome in outcomes} == {"completed"}
        assert _model(client).restarts >= 1
        running.stop()
    assert {_ends(home)[task] for task in ids} == {1}


def test_a_model_that_goes_on_within_the_heartbeat_loses_nothing(home: Path, stopped: list[int]) -> None:
    with engine(home, environment={"AIWM_MODELS__HANG_TIMEOUT_MS": "20000"}) as running, running.client() as client:
        client.call(TaskRun(queue="demo", payload=SHORT, timeout_ms=30_000))
        pid = _model(client).pid
        assert pid is not None
        stopped.append(pid)
        # Stopped before it gets them: a quick machine would be done with them before anybody could see it at work.
        os.kill(pid, signal.SIGSTOP)
        ids = tuple(client.call(TaskSubmit(queue="demo", payload=LONG)).id for _ in range(8))
        wait_until(lambda: client.call(EngineStatus()).running > 0, "the tasks to be on their way")
        assert client.call(TaskRun(queue="echo", timeout_ms=10_000)).state == "completed"  # nobody else waits for it
        os.kill(pid, signal.SIGCONT)
        outcomes = client.call(TaskWait(ids=ids, timeout_ms=60_000))
        assert {(outcome.state, outcome.attempt) for outcome in outcomes} == {("completed", 1)}
        assert _model(client).pid == pid


def test_a_stopped_engine_keeps_its_home(home: Path, stopped: list[int]) -> None:
    """The lock ends with the process, not with its pulse: a second engine may not start, however long the first stands still."""
    with engine(home) as running, running.client() as client:
        client.call(TaskRun(queue="demo", payload=SHORT, timeout_ms=30_000))
        ids = tuple(client.call(TaskSubmit(queue="demo", payload=LONG)).id for _ in range(8))
        stopped.append(running.process.pid)
        os.kill(running.process.pid, signal.SIGSTOP)
        second = subprocess.run([*ENGINE, "run", "--home", str(home)], capture_output=True, timeout=30, check=False)
        assert second.returncode == os.EX_TEMPFAIL
        assert json.loads(second.stderr.splitlines()[-1])["code"] == "engine_running"
        os.kill(running.process.pid, signal.SIGCONT)
        outcomes = client.call(TaskWait(ids=ids, timeout_ms=60_000))
        assert {(outcome.state, outcome.attempt) for outcome in outcomes} == {("completed", 1)}
        assert client.call(EngineStatus()).fenced == 0


def _stop_between_commits(pid: int, home: Path) -> None:
    """SIGSTOP at a moment at which it does not hold the database's write lock: nobody else could open it."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        database = sqlite3.connect(database_path(home), timeout=0.1, isolation_level=None)
        try:
            database.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError:
            os.kill(pid, signal.SIGCONT)
        finally:
            database.close()


def test_the_late_answers_of_a_replaced_engine_are_fenced_off_and_counted(home: Path, stopped: list[int]) -> None:
    """The worst case: somebody removed lock and socket of an engine that stands still and started another on its home. When the first goes
    on, its model has long answered; its attempts have been taken away, so these answers are dropped, and both say the same."""
    with engine(home) as first, first.client() as old:
        old.call(TaskRun(queue="demo", payload=SHORT, timeout_ms=30_000))
        model = _model(old).pid
        assert model is not None
        # The model stands still as well, or it would be done before its engine is stopped.
        stopped += [model, first.process.pid]
        os.kill(model, signal.SIGSTOP)
        ids = tuple(old.call(TaskSubmit(queue="demo", payload=LONG)).id for _ in range(12))
        wait_until(lambda: old.call(EngineStatus()).running > 1, "some to run")
        _stop_between_commits(first.process.pid, home)
        with sqlite3.connect(database_path(home)) as database:
            query = "SELECT seq FROM tasks WHERE state = 'processing'"
            taken = {task_id(seq) for (seq,) in database.execute(query)}
        lock_path(home).unlink()
        socket_path(home).unlink()
        second = Engine(home)
        try:
            with second.client() as new:
                outcomes = new.call(TaskWait(ids=ids, timeout_ms=60_000))
                assert {outcome.state for outcome in outcomes} == {"completed"}
                assert {outcome.id for outcome in outcomes if outcome.attempt == 2} == taken != set()
                told = {outcome.id: outcome.result for outcome in outcomes}
                os.kill(model, signal.SIGCONT)
                os.kill(first.process.pid, signal.SIGCONT)
                wait_until(lambda: old.call(EngineStatus()).fenced >= len(taken), "the late answers to be fenced off")
                assert {task: new.call(TaskShow(id=task)).result for task in ids} == told
                assert new.call(EngineStatus()).fenced == 0
        finally:
            first.kill()
            assert second.stop() == 0
    assert {_ends(home)[task] for task in ids} == {1}


_DEAF = """
import os, time
from engine.workers.template import TaskInput, TaskOutput, WorkerContext, WorkerTemplate

class Deaf(WorkerTemplate):
    kind = "deaf"
    async def process(self, task, context):
        if "for" in task.payload:
            open(task.payload["for"], "w").write(str(os.getpid()))
            while os.path.exists(task.payload["for"]):
                time.sleep(0.01)
        return TaskOutput(result={"pid": os.getpid()})
"""


@pytest.fixture
def deaf_kind(tmp_path: Path, home: Path) -> dict[str, str]:
    """A third-party kind that hears nothing while it works: it waits until a file goes."""
    (tmp_path / "deaf_kind.py").write_text(_DEAF)
    info = tmp_path / "deaf_kind-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deaf-kind\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aiwm.workers]\ndeaf = deaf_kind:Deaf\n")
    home.mkdir(parents=True)
    workers = [
        {"name": "deaf", "kind": "deaf"},
        {"name": "echo", "kind": "template"},
        {"name": "nano", "model": "aiwm-nano"},
    ]
    (home / "ai_worker_definitions.json").write_text(json.dumps({"workers": workers}))
    return {"PYTHONPATH": str(tmp_path)}


def test_a_stopped_kind_process_is_ended_with_its_task(
    home: Path, tmp_path: Path, deaf_kind: dict[str, str], stopped: list[int]
) -> None:
    """What bounds a kind's work is the deadline: then its process is killed, stopped or not, and the instance goes on with another."""
    marker = tmp_path / "working"
    with engine(home, environment=deaf_kind) as running, running.client() as client:
        make_queue(client, "deaf", definition="deaf", instances=1)
        client.call(TaskRun(queue="deaf", timeout_ms=30_000))
        now_ms = time.time_ns() // 1_000_000
        task = client.call(TaskSubmit(queue="deaf", payload={"for": str(marker)}, deadline_ms=now_ms + 3_000)).id
        wait_until(lambda: marker.exists() and bool(marker.read_text()), "the kind to work")
        pid = int(marker.read_text())
        stopped.append(pid)
        os.kill(pid, signal.SIGSTOP)
        (outcome,) = client.call(TaskWait(ids=(task,), timeout_ms=30_000))
        assert outcome.state == "failed"
        assert outcome.error is not None
        assert outcome.error.code == "deadline_passed"
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        stopped.clear()
        again = client.call(TaskRun(queue="deaf", timeout_ms=30_000))
        assert again.state == "completed"
        assert (again.result or {})["pid"] != pid
        running.stop()
    assert _ends(home)[task] == 1
