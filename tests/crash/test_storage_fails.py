"""The disk is full, or broken, under a running engine: clear errors, nothing promised that is not kept, and it goes on by itself."""

from __future__ import annotations

import resource
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.client import BlockingClient
from engine.contract.errors import AiwmError
from engine.contract.requests.session import EngineStatus, EngineWhy, ViewRead
from engine.contract.requests.tasks import TaskRun, TaskShow, TaskSubmit, TaskWait
from engine.home import database_path
from tests.support.engines import FAULTY, engine, wait_until


def _limit_file_size(pid: int, size: int) -> None:
    """No file of that process grows beyond `size` bytes: to SQLite that is a full disk."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


def _submit_until_refused(client: BlockingClient, acknowledged: list[str]) -> AiwmError:
    for _ in range(50):
        try:
            acknowledged.append(client.call(TaskSubmit(queue="echo", payload={"x": "y" * 2000})).id)
        except AiwmError as error:
            return error
    raise AssertionError("a full disk took 50 tasks")


def test_a_full_disk_is_said_and_survived(home: Path) -> None:
    with engine(home) as running, running.client() as client:
        acknowledged = [client.call(TaskSubmit(queue="echo", payload={"n": n})).id for n in range(20)]
        client.call(TaskWait(ids=tuple(acknowledged), timeout_ms=10_000))
        _limit_file_size(running.process.pid, 4096)
        refused = _submit_until_refused(client, acknowledged)
        assert refused.code == "storage_failed"
        assert refused.info.retryable
        assert refused.info.fix
        assert client.call(EngineStatus()).storage == "failed"
        why = client.call(EngineWhy())
        assert [gate.name for gate in why.gates if gate.closed][:1] == ["storage"]
        needs = client.call(ViewRead(location=":needs")).rows
        assert any(row["id"] == "storage" for row in needs)

        _limit_file_size(running.process.pid, resource.RLIM_INFINITY)
        wait_until(lambda: client.call(EngineStatus()).storage == "working", "storage to work again")
        assert client.call(TaskRun(queue="echo", payload={"after": 1}, timeout_ms=20_000)).state == "completed"
        outcomes = client.call(TaskWait(ids=tuple(acknowledged), timeout_ms=20_000))
        assert {outcome.state for outcome in outcomes} == {"completed"}


def test_tasks_that_run_while_the_disk_fills_end_when_it_has_room(home: Path) -> None:
    with engine(home) as running, running.client() as client:
        payload = {"prompt": "Repeat 'ba de fi go hu'.", "temperature": 1.5, "max_tokens": 200}
        client.call(TaskRun(queue="demo", payload={"prompt": "What is 1+1?"}, timeout_ms=30_000))
        ids = tuple(_busy(client, payload, 12))
        _limit_file_size(running.process.pid, 4096)
        wait_until(lambda: client.call(EngineStatus()).storage == "failed", "an end that cannot be written")
        _limit_file_size(running.process.pid, resource.RLIM_INFINITY)
        outcomes = client.call(TaskWait(ids=ids, timeout_ms=60_000))
        assert {outcome.state for outcome in outcomes} == {"completed"}
        assert {outcome.attempt for outcome in outcomes} == {1}, "nothing was run again: its end was kept and written"


def _busy(client: BlockingClient, payload: dict[str, Any], count: int) -> list[str]:
    """Submit that many tasks, and more as long as none is seen running: they may be short. Their ids."""
    ids = [client.call(TaskSubmit(queue="demo", payload=payload)).id for _ in range(count)]

    def runs() -> bool:
        if client.call(EngineStatus()).running:
            return True
        ids.append(client.call(TaskSubmit(queue="demo", payload=payload)).id)
        return False

    wait_until(runs, "a task to run")
    return ids


@pytest.mark.skipif(sys.platform != "linux", reason="the EIO comes from /proc/self/mem")
def test_a_disk_that_gives_io_errors_is_said_and_survived(home: Path) -> None:
    """Reads and writes of the log fail with EIO, in the middle of running tasks and three times over. See faulty_engine.py for how."""
    with engine(home, program=FAULTY) as running, running.client() as client:
        acknowledged = [client.call(TaskSubmit(queue="echo", payload={"n": n})).id for n in range(20)]
        client.call(TaskRun(queue="demo", payload={"prompt": "What is 1+1?"}, timeout_ms=30_000))
        long = {"prompt": "Repeat 'ba de fi go hu'.", "temperature": 1.5, "max_tokens": 200}
        for _ in range(3):
            acknowledged += _busy(client, long, 6)
            running.process.send_signal(signal.SIGUSR1)
            refused = _submit_until_refused(client, acknowledged)
            assert refused.code == "storage_failed"
            assert "disk I/O error" in refused.info.message
            assert client.call(EngineStatus()).storage == "failed"
            # Looking may fail as well, but in words, and nothing else does.
            with pytest.raises(AiwmError):
                client.call(TaskShow(id=acknowledged[0]))
            running.process.send_signal(signal.SIGUSR2)
            wait_until(lambda: client.call(EngineStatus()).storage == "working", "storage to work again")
        outcomes = client.call(TaskWait(ids=tuple(acknowledged), timeout_ms=60_000))
        assert {outcome.state for outcome in outcomes} == {"completed"}
        assert running.stop() == 0
    with sqlite3.connect(database_path(home)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        query = "SELECT count(*), count(DISTINCT about) FROM events WHERE type = 'task.completed'"
        ends, tasks = database.execute(query).fetchone()
        assert ends == tasks >= len(acknowledged), "each ended once"
