"""The command line against a real engine, as a shell would use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.client import connect_blocking
from engine.contract.errors import AiwmError
from engine.contract.requests.tasks import TaskList
from engine.home import socket_path
from tests.support.cli import Ran, Run, in_process

AIWM = [sys.executable, "-P", "-m", "aiwm_tui.main"]
TIMEOUT_S = 60.0


def _run(home: Path, *arguments: str) -> Ran:
    ran = subprocess.run(
        [*AIWM, *arguments, "--home", str(home)], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def _until(what: Callable[[], bool], said: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not what():
        assert time.monotonic() < deadline, f"never: {said}"
        time.sleep(0.02)


def _answers(home: Path) -> bool:
    """Whether an engine serves the home, without a process to ask."""
    try:
        with connect_blocking(home, spawn=False):
            return True
    except AiwmError:
        return False


def _states(home: Path, queue: str) -> list[str]:
    with connect_blocking(home, spawn=False) as client:
        return [row.state for row in client.call(TaskList(where=f"queue:{queue}")).rows]


def _serve(home: Path) -> subprocess.Popen[bytes]:
    """`aiwm engine run`, once it answers."""
    process = subprocess.Popen([*AIWM, "engine", "run", "--home", str(home)], stderr=subprocess.DEVNULL)
    _until(lambda: process.poll() is not None or _answers(home), "the engine answers")
    assert process.poll() is None
    return process


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with an engine that runs for all tests of this file; each uses queues of its own where it matters."""
    home = tmp_path_factory.mktemp("real") / "home"
    process = _serve(home)
    yield home
    process.terminate()
    process.wait(TIMEOUT_S)


@pytest.fixture
def aiwm(served: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Command lines in this process, which is quick; what needs a process of its own uses `_run`."""
    run = in_process(capsys)
    return lambda *arguments: run(*arguments, "--home", str(served))


@pytest.fixture
def stray(home: Path) -> Iterator[Path]:
    """A home of one test; whatever engine it leaves is killed."""
    yield home
    try:
        with connect_blocking(home, spawn=False) as client:
            assert client.welcome is not None
            os.kill(client.welcome.pid, signal.SIGKILL)
    except AiwmError:
        pass


def test_a_task_from_submit_to_its_end(aiwm: Run) -> None:
    done = aiwm("task", "submit", "echo", "--payload", '{"text": "héllo \\n two"}', "--wait", "--json")
    assert (done.code, done.err) == (0, "")
    data = done.json["data"]
    assert done.json["kind"] == "task"
    assert (data["state"], data["result"]["text"]) == ("completed", "héllo \n two")

    assert aiwm("task", "run", "echo", "--payload", '{"text": "again"}').out == "again\n"
    assert aiwm("task", "wait", data["id"]).code == 0
    shown = aiwm("task", "show", data["id"], "--json").json["data"]
    assert shown["payload"] == shown["result"] == {"text": "héllo \n two"}
    assert shown["row"]["state"] == "completed"
    assert len(shown["timeline"]) >= 2
    assert "héllo" in aiwm("task", "show", data["id"]).out

    listed = aiwm("task", "list", "state:completed", "queue:echo", "--json").json
    assert data["id"] in [row["id"] for row in listed["data"]]
    assert listed["total"] >= 2
    lines = aiwm("task", "list", "queue:echo", "--jsonl").out.splitlines()
    assert {json.loads(line)["kind"] for line in lines} == {"task"}
    assert aiwm("view", ":tasks", f"{data['id']}", "--json").json["data"][0]["id"] == data["id"]


def test_streaming_a_kind_without_text_of_its_own(aiwm: Run) -> None:
    ran = aiwm("task", "submit", "echo", "--payload", '{"text": "all at once"}', "--stream")
    assert (ran.code, ran.out) == (0, "all at once\n")
    objects = aiwm("task", "submit", "echo", "--payload", '{"text": "x"}', "--stream", "--json").out.splitlines()
    assert json.loads(objects[-1])["data"]["state"] == "completed"


def test_a_model_streams_what_it_answers(aiwm: Run) -> None:
    # Text comes in pieces of some tens of milliseconds, so a fast machine may put a short answer into one: ask until one is cut.
    for seed in range(40):
        payload = json.dumps({"prompt": "Tell me a long story.", "temperature": 3.0, "max_tokens": 450, "seed": seed})
        ran = aiwm("task", "submit", "demo", "--payload", payload, "--stream", "--json")
        *chunks, last = [json.loads(line) for line in ran.out.splitlines()]
        assert ran.code == 0
        assert {chunk["kind"] for chunk in chunks} <= {"chunk"}
        assert "".join(chunk["data"]["text"] for chunk in chunks) == last["data"]["result"]["text"]
        assert last["kind"] == "task"
        if len(chunks) > 1:
            return
    pytest.fail("no answer of forty came in pieces")


def test_a_task_that_waits(aiwm: Run) -> None:
    task = aiwm("task", "submit", "echo", "--payload", "{}", "--due", "1h", "--json").json["data"]["id"]
    assert aiwm("task", "wait", task, "--timeout", "0.2").code == 4
    why = aiwm("task", "explain", task, "--json")
    assert why.code == 0
    assert any(gate["closed"] for gate in why.json["data"]["gates"])
    early = aiwm("task", "submit", "echo", "--payload", "{}", "--due", "1h").out.strip()
    assert aiwm("task", "retry", early).code == 0, "it waits no longer"
    assert aiwm("task", "wait", early).code == 0
    assert aiwm("task", "retry", early).code == 1, "it has completed"
    cancelled = aiwm("task", "cancel", task, "--reason", "enough", "--json")
    assert cancelled.json["data"]["cancelled"] == [task]
    assert aiwm("task", "cancel", task).code == 1
    assert aiwm("task", "wait", task, "--json").code == 1
    assert aiwm("task", "show", task, "--json").json["data"]["row"]["state"] == "cancelled"


def test_a_set_of_tasks(aiwm: Run) -> None:
    ids = {
        aiwm("task", "submit", "echo", "--due", "2h", "--batch", "b-set", "--json").json["data"]["id"]
        for _ in range(20)
    }
    where = ("--where", ":tasks batch:b-set")
    assert aiwm("task", "cancel", *where).code == 5
    assert set(aiwm("task", "cancel", *where, "--dry-run", "--json").json["data"]["ids"]) == ids
    assert set(aiwm("task", "cancel", *where, "--yes", "--json").json["data"]["cancelled"]) == ids
    assert set(aiwm("task", "retry", *where, "--yes", "--json").json["data"]["retried"]) == ids
    assert aiwm("task", "wait", *ids).code == 0


def test_an_idempotency_key(aiwm: Run) -> None:
    first, second = (aiwm("task", "submit", "echo", "--key", "k-1", "--json").json["data"] for _ in range(2))
    assert first["id"] == second["id"]
    assert second["duplicate"] is True


def test_queues_and_pools(aiwm: Run) -> None:
    made = aiwm("queue", "create", "etl", "--pools", "echo", "--durability", "os", "--json")
    assert made.json["data"]["definition"]["durability"] == "os"
    assert aiwm("queue", "create", "etl", "--pools", "echo").code == 1
    assert aiwm("queue", "pause", "etl").code == 0
    task = aiwm("task", "submit", "etl", "--json").json["data"]["id"]
    assert aiwm("why", ":queues", "etl").code == 1
    assert "paused" in aiwm("queue", "explain", "etl").out
    assert aiwm("queue", "resume", "etl").code == 0
    assert aiwm("task", "wait", task).code == 0
    assert {row["id"] for row in aiwm("queue", "list", "--json").json["data"]} >= {"demo", "echo", "etl"}
    assert aiwm("queue", "show", "etl", "--json").json["data"]["row"]["completed"] == 1
    assert aiwm("pool", "create", "small", "echo", "--max-total", "2").code == 0
    assert aiwm("pool", "scale", "small", "--max-total", "3", "--json").json["data"]["definition"]["max_total"] == 3
    assert {"demo", "echo", "small"} <= {row["id"] for row in aiwm("pool", "list", "--json").json["data"]}
    assert aiwm("pool", "show", "small", "--json").json["data"]["definition"]["definition"] == "echo"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("instance list", "instances"),
        ("worker list", "workers"),
        ("worker show nano", "worker"),
        ("worker reload", "reloaded"),
        ("model ps", "models"),
        ("pool explain demo", "why"),
        ("queue explain demo", "why"),
        ("view :queues", "queues"),
        ("view :events sort:-id", "events"),
        ("view :needs", "needs"),
        ("view :machine", "machine"),
        ("events tail", "events"),
        ("events search type:engine.*", "events"),
        ("why", "why"),
        ("doctor", "findings"),
        ("config show --origin", "settings"),
        ("call queue.list", "queues"),
        ("engine status", "engine"),
    ],
)
def test_every_look(aiwm: Run, line: str, kind: str) -> None:
    whole = aiwm(*line.split(), "--json")
    assert whole.code in ((0, 1) if line == "why" else (0,)), whole.err
    assert whole.json["kind"] == kind
    people = aiwm(*line.split())
    assert people.code == whole.code
    assert people.out or people.err


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["task", "submit", "dmo", "--prompt", "x"], 2, "demo"),
        (["task", "submit", "demo", "--payload", "{]"], 2, "column 2"),
        (["task", "submit", "demo", "--payload", '{"prompt": 3}', "--wait"], 2, "prompt"),
        (["task", "submit", "echo", "--definition", "nno"], 2, "nano"),
        (["task", "show", "t-zzzzz"], 2, "t-zzzzz"),
        (["task", "show", "x"], 2, "aiwm task list"),
        (["task", "list", "stat:failed"], 2, "state"),
        (["view", ":taks"], 2, "tasks"),
        (["queue", "create", "q", "--pools", "nope"], 2, "nope"),
        (["call", "task.sumbit", "{}"], 2, "task.submit"),
        (["--read-only", "queue", "pause", "demo"], 5, "read-only"),
        (["engine", "run"], 1, "already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes(aiwm: Run, line: list[str], code: int, words: str) -> None:
    ran = aiwm(*line)
    assert ran.code == code, ran.err
    assert words in ran.err
    assert ran.err.startswith("aiwm: ")
    assert ran.err.count("\n") == 1
    assert ran.out == ""
    assert aiwm(*line, "--json").error["kind"] == "error"


def test_an_engine_started_by_a_command_works_only_for_those_who_wait(stray: Path) -> None:
    task = _run(stray, "task", "submit", "echo", "--payload", '{"text": "late"}')
    assert task.code == 0
    assert "aiwm engine run" in task.err
    identifier = task.out.strip()
    assert _run(stray, "task", "show", identifier, "--json").json["data"]["row"]["state"] == "pending"
    assert _run(stray, "task", "wait", identifier).code == 0
    # Looked for without a connection: a client who asks again and again would keep it.
    _until(lambda: not socket_path(stray).exists(), "the engine leaves after its last client")


def test_stop_means_gone(stray: Path) -> None:
    process = _serve(stray)
    stopped = _run(stray, "engine", "stop", "--mode", "now", "--json")
    assert stopped.json["kind"] == "stopping"
    assert process.wait(5) == 0
    assert _run(stray, "engine", "status").code == 3
    assert _run(stray, "engine", "stop").code == 3


def test_a_killed_engine_under_a_wait_loses_nothing(stray: Path) -> None:
    process = _serve(stray)
    assert _run(stray, "queue", "pause", "echo").code == 0
    waiting = subprocess.Popen(
        [*AIWM, "task", "run", "echo", "--payload", '{"text": "kept"}', "--home", str(stray)],
        stderr=subprocess.PIPE,
        text=True,
    )
    _until(lambda: bool(_states(stray, "echo")), "the task is stored")
    process.kill()
    process.wait()
    _, err = waiting.communicate(timeout=TIMEOUT_S)
    assert waiting.returncode == 3
    task = err.split("aiwm task wait ")[1].split(")")[0].strip()
    again = _serve(stray)
    assert _run(stray, "queue", "resume", "echo").code == 0
    assert _run(stray, "task", "wait", task, "--json").json["data"][0]["result"]["text"] == "kept"
    again.terminate()
    again.wait(TIMEOUT_S)


def test_ctrl_c_leaves_the_task(served: Path) -> None:
    assert _run(served, "queue", "create", "held", "--pools", "echo", "--paused").code == 0
    command = [*AIWM, "task", "run", "held", "--home", str(served)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    _until(lambda: bool(_states(served, "held")), "the task is stored")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert "is stored and goes on" in err
    assert _states(served, "held") == ["pending"]


def test_the_protocol_over_stdio(served: Path) -> None:
    process = subprocess.Popen(
        [*AIWM, "engine", "attach", "--stdio", "--home", str(served)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"engine.hello","params":{}}\n')
    process.stdin.write(b'{"jsonrpc":"2.0","id":2,"method":"queue.list","params":{}}\n')
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["result"]["home"] == str(served)
    assert json.loads(process.stdout.readline())["id"] == 2
    process.stdin.close()
    assert process.wait(TIMEOUT_S) == 0


def test_a_wrong_configuration_is_one_line(stray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[modls]\nslots = 2\n")
    monkeypatch.setenv("AIWM_CONFIG", str(config))
    ran = _run(stray, "queue", "list")
    assert ran.code == 2
    assert "models" in ran.err
    assert ran.err.count("\n") == 1
    assert _run(stray, "doctor", "--json").json["data"][0]["what"] == "engine"


def test_the_demo_without_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    ran = subprocess.run(
        [*AIWM, "demo", "--headless", "--tasks", "60", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    result = json.loads(ran.stdout)
    assert (result["v"], result["kind"]) == (1, "demo")
    data = result["data"]
    assert (data["submitted"], data["completed"], data["failed"]) == (60, 60, 0)
    assert data["tokens"] > 60
    assert data["seconds"] > 0
    assert data["correct"] + len(data["wrong"]) == 60
    assert sum(skill["submitted"] for skill in data["per_skill"].values()) == 60
    assert list(tmp_path.iterdir()) == [], "the demo's home is gone"
