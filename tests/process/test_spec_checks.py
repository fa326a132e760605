"""What a stranger could check by hand (spec §6), as far as no other test does it: the mixed day of check 2 in one go, and the countdown
of check 3. docs/checks.md says which test does which check."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.home import database_path
from tests.support.cli import Run, in_process
from tests.support.engines import engine, wait_until
from tests.support.shell import AIWM

# A kind of another package: it notes each run with its process, and works until it is let go on.
_KIND = """
import asyncio, os
from pathlib import Path
from engine.workers.template import TaskOutput, WorkerTemplate

class Noting(WorkerTemplate):
    kind = "noting"
    async def process(self, task, context):
        folder = Path(os.environ["NOTES"])
        with (folder / "runs").open("a") as notes:
            notes.write(f"{task.id} {task.attempt} {os.getpid()}\\n")
        while not (folder / "go").exists() and not (folder / task.id).exists():
            await asyncio.sleep(0.01)
        return TaskOutput(result={"n": task.payload["n"]})
"""
PRIORITIES = (1, 9, 5, 0, 7, 3, 9, 2, 5, 4)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    (tmp_path / "noting_kind.py").write_text(_KIND)
    info = tmp_path / "noting_kind-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noting-kind\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aiwm.workers]\nnoting = noting_kind:Noting\n")
    return {"PYTHONPATH": str(tmp_path), "NOTES": str(tmp_path)}


def _define(home: Path, *workers: dict[str, Any]) -> None:
    home.mkdir(parents=True)
    everything = [{"name": "echo", "kind": "template"}, {"name": "nano", "model": "aiwm-nano"}, *workers]
    (home / "ai_worker_definitions.json").write_text(json.dumps({"workers": everything}))


def _here(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    run = in_process(capsys)
    return lambda *arguments: run(*arguments, "--home", str(home))


@contextmanager
def _console(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The console on a terminal of its own, once it has drawn something."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*AIWM, "--home", str(home)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    try:
        drawn = b""
        while b"QUEUES" not in drawn:
            assert select.select([ours], [], [], 30)[0], drawn[-2000:]
            drawn += os.read(ours, 65_536)
        yield process
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_check_2_a_day_of_kills_loses_nothing_and_hides_no_second_run(
    home: Path, tmp_path: Path, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    _define(home, {"name": "noting", "kind": "noting"})
    aiwm = _here(home, capsys)

    def runs() -> list[tuple[str, int, int]]:
        """Task, attempt and process of each run, in order."""
        if not (tmp_path / "runs").exists():
            return []
        lines = [line.split() for line in (tmp_path / "runs").read_text().splitlines()]
        return [(task, int(attempt), int(pid)) for task, attempt, pid in lines]

    with engine(home, environment=environment) as first:
        assert aiwm("pool", "create", "one", "noting", "--max-total", "1").code == 0
        assert aiwm("queue", "create", "one", "--pools", "one", "--paused").code == 0
        tasks = {}
        for number, priority in enumerate(PRIORITIES):
            ran = aiwm("task", "submit", "one", "--priority", str(priority), "--payload", json.dumps({"n": number}))
            tasks[ran.out.strip()] = priority
        cancelled = [task for task, priority in tasks.items() if priority == 4]
        assert aiwm("task", "cancel", *cancelled).code == 0
        order = [task for task in sorted(tasks, key=lambda task: -tasks[task]) if task not in cancelled]
        waiting = subprocess.Popen([*AIWM, "task", "wait", *order, "--home", str(home)], stderr=subprocess.DEVNULL)
        with _console(home) as console:
            assert aiwm("queue", "resume", "one").code == 0
            wait_until(lambda: len(runs()) == 1, "the first task runs")
            os.kill(runs()[0][2], signal.SIGKILL)
            wait_until(lambda: len(runs()) == 2, "it runs again, in a new process")
            (tmp_path / order[0]).touch()
            wait_until(lambda: len(runs()) == 3, "the second task runs")
            console.kill()
            waiting.kill()
            assert (console.wait(), waiting.wait()) == (-signal.SIGKILL, -signal.SIGKILL)
        assert aiwm("engine", "status", "--json").json["data"]["running"] == 1
        first.kill()
    with engine(home, environment=environment):
        (tmp_path / "go").touch()
        assert aiwm("task", "wait", *order, "--timeout", "60s").code == 0
        shown = {task: aiwm("task", "show", task, "--json").json["data"] for task in tasks}
        states = {task: detail["row"]["state"] for task, detail in shown.items()}
        assert states == {task: "cancelled" if task in cancelled else "completed" for task in tasks}

        began = list(dict.fromkeys(task for task, _, _ in runs()))
        assert began == order
        # Each second run is one that the task's own page tells of, with what befell the first.
        for task in order:
            count = sum(run[0] == task for run in runs())
            told = [step["type"] for step in shown[task]["timeline"]]
            assert told.count("task.started") == count, told
            assert count == 1 or told.count("task.requeued") == count - 1, told
        assert len(runs()) > len(order), "nobody was run twice: the kills came to nothing"
    with sqlite3.connect(database_path(home)) as database:
        ended = database.execute(
            "SELECT count(*), count(DISTINCT about) FROM events WHERE type = 'task.completed'"
        ).fetchone()
    assert ended == (len(order), len(order))


def test_what_waits_is_counted_whole_after_a_restart(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The scheduler takes only the first tasks of a queue from disk; the answer has the others too."""
    aiwm = _here(home, capsys)
    with engine(home):
        assert aiwm("queue", "create", "held", "--pools", "echo", "--paused").code == 0
        for _ in range(5):
            assert aiwm("task", "submit", "held", "--payload", "{}").code == 0
    with engine(home):
        for line in (("why",), ("why", ":queues held")):
            gates = aiwm(*line, "--json").json["data"]["gates"]
            assert sum(gate.get("count", 0) for gate in gates) == 5, gates


def test_check_3_two_a_minute_counts_down_everywhere(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That the third goes on when the minute is over is tested by a clock that jumps: tests/unit/test_budget_calls.py."""
    _define(home, {"name": "slow", "model": "aiwm-nano", "limits": {"requests_per_minute": 2}})
    aiwm = _here(home, capsys)
    with engine(home):
        assert aiwm("pool", "create", "slow", "slow", "--max-total", "1").code == 0
        assert aiwm("queue", "create", "slow", "--pools", "slow").code == 0
        for _ in range(2):
            assert aiwm("task", "run", "slow", "--prompt", "What is 1+1?").out.strip() == "2"
        third = aiwm("task", "submit", "slow", "--prompt", "What is 2+2?").out.strip()
        now = time.time() * 1000
        opens = []
        for line in (("why",), ("why", ":queues slow"), ("task", "explain", third)):
            ran = aiwm(*line, "--json")
            (gate,) = [gate for gate in ran.json["data"]["gates"] if gate["closed"] and gate["name"] == "rate"]
            opens.append(gate["opens_ms"])
            assert "2 requests per minute" in aiwm(*line).out
        (limits,) = aiwm("limits", "list", "--json").json["data"]
        opens.append(limits["opens_ms"])
        assert (limits["state"], limits["requests_per_minute"]["used"]) == ("limited", 2)
        assert all(now < at <= now + 61_000 for at in opens), opens

        talks = aiwm("instance", "spawn", "slow", "--json").json["data"]["row"]["id"]
        chat = subprocess.Popen(
            [*AIWM, "instance", "chat", talks, "hello", "--home", str(home)], stderr=subprocess.DEVNULL
        )

        def row() -> Any:
            return next(row for row in aiwm("instance", "list", "--json").json["data"] if row["id"] == talks)

        try:
            wait_until(lambda: row()["state"] == "limited", "the instance's row says that it is limited")
            assert now < row()["until_ms"] <= now + 61_000
            assert "2 requests per minute" in row()["note"]
        finally:
            chat.kill()
            chat.wait()
