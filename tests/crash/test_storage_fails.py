"""The disk is full under a running engine: clear errors, nothing promised that is not kept, and it goes on by itself."""

from __future__ import annotations

import resource
from pathlib import Path

from engine.client import BlockingClient
from engine.contract.errors import AiwmError
from engine.contract.requests.session import EngineStatus, EngineWhy, ViewRead
from engine.contract.requests.tasks import TaskRun, TaskSubmit, TaskWait
from tests.support.engines import engine, wait_until


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
        ids = tuple(client.call(TaskSubmit(queue="demo", payload=payload)).id for _ in range(12))
        wait_until(lambda: client.call(EngineStatus()).running > 0, "a task to run")
        _limit_file_size(running.process.pid, 4096)
        wait_until(lambda: client.call(EngineStatus()).storage == "failed", "an end that cannot be written")
        _limit_file_size(running.process.pid, resource.RLIM_INFINITY)
        outcomes = client.call(TaskWait(ids=ids, timeout_ms=60_000))
        assert {outcome.state for outcome in outcomes} == {"completed"}
        assert {outcome.attempt for outcome in outcomes} == {1}, "nothing was run again: its end was kept and written"
