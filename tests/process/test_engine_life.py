"""A real engine over a real socket: its life, its crashes' consequences, and what it says to bad company."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engine.client import connect_blocking
from engine.contract.errors import AiwmError
from engine.contract.requests.fleet import ModelList, QueuePause, QueueResume, QueueShow
from engine.contract.requests.instances import InstanceList
from engine.contract.requests.session import EngineStatus, EngineStop
from engine.contract.requests.tasks import TaskCancel, TaskExplain, TaskRetry, TaskRun, TaskShow, TaskSubmit, TaskWait
from engine.home import lock_path, socket_path
from tests.support.engines import engine, make_queue, wait_until
from tests.support.shell import AIWM, shell


def test_a_task_runs_and_its_end_is_remembered(home: Path) -> None:
    with engine(home) as running:
        with running.client() as client:
            outcome = client.call(TaskRun(queue="echo", payload={"x": [1, "ü"]}, timeout_ms=10_000))
            assert (outcome.state, outcome.result, outcome.attempt) == ("completed", {"x": [1, "ü"]}, 1)
        assert running.stop() == 0
    with engine(home) as running, running.client() as client:
        detail = client.call(TaskShow(id=outcome.id))
        assert [step.type for step in detail.timeline] == ["task.submitted", "task.started", "task.completed"]
        assert client.welcome is not None
        assert client.welcome.epoch == 2


def test_an_idempotent_task_costs_at_most_two_commits(home: Path) -> None:
    with engine(home) as running, running.client() as client:
        client.call(TaskRun(queue="echo", timeout_ms=10_000))  # its instance is up now
        for _ in range(5):
            before = client.call(EngineStatus()).commits
            client.call(TaskRun(queue="echo", timeout_ms=10_000))
            assert client.call(EngineStatus()).commits - before <= 2


def test_a_second_engine_on_a_home_says_who_holds_it_and_leaves(home: Path) -> None:
    with engine(home) as running:
        second = subprocess.run(
            [sys.executable, "-P", "-m", "engine", "run", "--home", str(home)],
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == os.EX_TEMPFAIL
        error = json.loads(second.stderr.splitlines()[-1])
        assert error["code"] == "engine_running"
        assert str(running.process.pid) in error["message"]
        with running.client() as client:
            assert client.call(TaskRun(queue="echo", timeout_ms=10_000)).state == "completed"


def test_an_engine_that_is_to_stay_waits_for_the_one_of_a_command_to_go(home: Path) -> None:
    shell(home, "queue", "list")
    first = read_pid(home)  # the engine of that command lingers still
    started = subprocess.Popen([*AIWM, "engine", "run", "--home", str(home)], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: read_pid(home) == started.pid, "that it has the home")
        wait_until(lambda: shell(home, "engine", "status", code=None).code == 0, "that it answers")
        assert first not in (0, started.pid)
        with connect_blocking(home, spawn=False) as client:
            assert client.welcome is not None
            assert (client.welcome.pid, client.welcome.brief) == (started.pid, False)
    finally:
        started.terminate()
        started.communicate(timeout=30)


def read_pid(home: Path) -> int:
    return int(lock_path(home).read_text().split()[0])


def test_bad_company_on_the_socket_is_answered_and_the_engine_lives(home: Path) -> None:
    with engine(home) as running:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(socket_path(home)))
            sock.sendall(b'{"jsonrpc": "2.0", "id": 1, "meth')  # half a line, then gone
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(socket_path(home)))
            chunk = b"x" * 2**20
            for _ in range(100):
                sock.sendall(chunk)
            sock.sendall(b'\n{"jsonrpc":"2.0","id":5,"method":"task.list"}\nnonsense\n')
            answers = sock.makefile("rb")
            codes = [json.loads(answers.readline())["error"]["data"]["code"] for _ in range(3)]
            assert sorted(codes) == ["bad_line", "bad_request", "line_too_long"]
        status = Path(f"/proc/{running.process.pid}/status").read_text()
        peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        assert peak < 250_000, f"a 100 MB line must not be kept: {peak} kB"
        with running.client() as client:
            assert client.call(TaskRun(queue="echo", timeout_ms=10_000)).state == "completed"


def test_a_read_only_connection_and_a_read_only_engine_change_nothing(home: Path) -> None:
    with engine(home) as running, running.client(read_only=True) as client:
        with pytest.raises(AiwmError) as caught:
            client.call(TaskSubmit(queue="echo"))
        assert caught.value.code == "read_only"
        running.stop()
    with engine(home, "--read-only") as running, running.client() as client:
        with pytest.raises(AiwmError) as caught:
            client.call(QueuePause(name="echo"))
        assert caught.value.code == "read_only"
        assert client.call(EngineStatus()).waiting == 0


def test_a_paused_queue_holds_its_tasks_and_says_so(home: Path) -> None:
    with engine(home) as running, running.client() as client:
        client.call(QueuePause(name="echo"))
        ack = client.call(TaskSubmit(queue="echo"))
        why = client.call(TaskExplain(id=ack.id))
        assert not why.moving
        closed = [gate for gate in why.gates if gate.closed]
        assert closed[0].name == "paused"
        assert closed[0].fix
        client.call(QueueResume(name="echo"))
        (outcome,) = client.call(TaskWait(ids=(ack.id,), timeout_ms=10_000))
        assert outcome.state == "completed"


def test_cancel_waiting_and_retry(home: Path) -> None:
    with engine(home) as running, running.client() as client:
        client.call(QueuePause(name="echo"))
        ack = client.call(TaskSubmit(queue="echo", payload={"n": 1}))
        assert client.call(TaskCancel(ids=(ack.id,))).cancelled == [ack.id]
        assert client.call(TaskCancel(ids=(ack.id,))).ended == [ack.id]
        client.call(QueueResume(name="echo"))
        assert client.call(TaskRetry(ids=(ack.id,))).retried == [ack.id]
        (outcome,) = client.call(TaskWait(ids=(ack.id,), timeout_ms=10_000))
        assert outcome.state == "completed"


def test_the_same_idempotency_key_is_one_task(home: Path) -> None:
    with engine(home) as running, running.client() as client:
        first = client.call(TaskSubmit(queue="echo", idempotency_key="k1"))
        second = client.call(TaskSubmit(queue="echo", idempotency_key="k1"))
        assert (second.id, second.duplicate) == (first.id, True)


def test_kill_of_the_model_process_loses_no_task_and_is_shown(home: Path) -> None:
    with engine(home) as running, running.client() as client:
        client.call(TaskRun(queue="demo", payload={"prompt": "What is 2+2?"}, timeout_ms=30_000))
        payload = {"prompt": "Repeat 'ba de fi go hu la me'.", "temperature": 1.5, "max_tokens": 120}
        ids = [client.call(TaskSubmit(queue="demo", payload=payload)).id for _ in range(60)]
        wait_until(lambda: client.call(ModelList())[0].running > 0, "the model to be busy")
        pid = client.call(ModelList())[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        outcomes = client.call(TaskWait(ids=tuple(ids), timeout_ms=60_000))
        assert {outcome.state for outcome in outcomes} == {"completed"}
        (model,) = client.call(ModelList())
        assert model.restarts >= 1
        assert model.pid != pid


def test_stop_now_gives_running_tasks_back_and_the_next_engine_finishes_them(home: Path) -> None:
    with engine(home) as running:
        with running.client() as client:
            payload = {"prompt": "Repeat 'ba de fi go'.", "temperature": 1.5, "max_tokens": 400}
            ids = [client.call(TaskSubmit(queue="demo", payload=payload)).id for _ in range(20)]
            wait_until(lambda: client.call(EngineStatus()).running > 0, "a task to run")
            client.call(EngineStop(mode="now"))
        assert running.process.wait(timeout=30) == 0
    with engine(home) as running, running.client() as client:
        outcomes = client.call(TaskWait(ids=tuple(ids), timeout_ms=60_000))
        assert {outcome.state for outcome in outcomes} == {"completed"}


def test_an_engine_that_a_command_starts_dispatches_only_for_it_and_leaves(home: Path) -> None:
    with connect_blocking(home, work=False) as client:
        ack = client.call(TaskSubmit(queue="echo"))
        status = client.call(EngineStatus())
        assert not status.dispatching
        why = client.call(TaskExplain(id=ack.id))
        assert not why.moving
    wait_until(lambda: not socket_path(home).exists(), "the engine to leave")
    with connect_blocking(home, work=True) as client:
        (outcome,) = client.call(TaskWait(ids=(ack.id,), timeout_ms=10_000))
        assert outcome.state == "completed"
        client.call(EngineStop(mode="now"))


# -- kinds of other packages run in processes of their own ---------------------------------------------------------------------

_KINDS = """
import os, signal
from engine.workers.template import TaskInput, TaskOutput, WorkerContext, WorkerTemplate

class Killer(WorkerTemplate):
    kind = "killer"
    async def process(self, task, context):
        print("a stray print must not harm the protocol")
        if task.payload.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        return TaskOutput(result={"pid": os.getpid()})
"""


@pytest.fixture
def killer_kind(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "killer_kind.py").write_text(_KINDS)
    info = tmp_path / "killer_kind-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: killer-kind\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aiwm.workers]\nkiller = killer_kind:Killer\n")
    return {"PYTHONPATH": str(tmp_path)}


def test_a_task_that_kills_its_process_every_time_is_given_up_and_harms_nobody(
    home: Path, killer_kind: dict[str, str]
) -> None:
    home.mkdir(parents=True)
    workers = [
        {"name": "killer", "kind": "killer"},
        {"name": "echo", "kind": "template"},
        {"name": "nano", "model": "aiwm-nano"},
    ]
    (home / "ai_worker_definitions.json").write_text(json.dumps({"workers": workers}))
    with engine(home, environment=killer_kind) as running, running.client() as client:
        make_queue(client, "killer", definition="killer", instances=2)
        bad = client.call(TaskSubmit(queue="killer", payload={"die": True}))
        good = [client.call(TaskSubmit(queue="killer", payload={})).id for _ in range(5)]
        outcomes = client.call(TaskWait(ids=(bad.id, *good), timeout_ms=60_000))
        assert outcomes[0].state == "failed"
        assert outcomes[0].error is not None
        assert outcomes[0].error.code == "worker_crashed"
        assert "SIGKILL" in outcomes[0].error.message
        assert [outcome.state for outcome in outcomes[1:]] == ["completed"] * 5
        pids = {(outcome.result or {}).get("pid") for outcome in outcomes[1:]}
        assert not pids & {None, running.process.pid}
        assert client.call(QueueShow(name="killer")).row.failed == 1
        assert any(row.failed for row in client.call(InstanceList()))


def test_a_model_that_is_not_there_fails_its_tasks_with_the_fix(home: Path) -> None:
    home.mkdir(parents=True)
    workers = [
        {"name": "lost", "model": "no-such-model"},
        {"name": "echo", "kind": "template"},
        {"name": "nano", "model": "aiwm-nano"},
    ]
    (home / "ai_worker_definitions.json").write_text(json.dumps({"workers": workers}))
    with engine(home) as running, running.client() as client:
        make_queue(client, "lost", definition="lost")
        outcome = client.call(TaskRun(queue="lost", payload={"prompt": "hello"}, timeout_ms=20_000))
        assert outcome.state == "failed"
        assert outcome.error is not None
        assert outcome.error.code == "model_not_found"
        assert outcome.error.fix
        assert client.call(TaskRun(queue="echo", timeout_ms=10_000)).state == "completed"


def test_broken_definitions_stop_a_new_home_and_leave_an_old_one_working(home: Path) -> None:
    home.mkdir(parents=True)
    file = home / "ai_worker_definitions.json"
    file.write_text('{"workers": [{"name": "echo", "knd": "template"}]}')
    command = [sys.executable, "-P", "-m", "engine", "run", "--home", str(home)]
    refused = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert refused.returncode == 2
    assert json.loads(refused.stderr.splitlines()[-1])["fix"] == 'did you mean "kind"?'
    file.unlink()
    with engine(home) as running:
        running.stop()
    file.write_text("not json")
    with engine(home) as running, running.client() as client:
        assert client.call(TaskRun(queue="echo", timeout_ms=10_000)).state == "completed"
