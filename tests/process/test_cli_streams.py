"""The command as a process: closed and full outputs, pipes that end early, terminals, Ctrl-C, and the protocol over stdio."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from engine.contract.records import TaskRow
from engine.contract.requests.tasks import Cancelled, TaskAck, TaskPage
from tests.support.fake_engine import FakeEngine

AIWM = [sys.executable, "-P", "-m", "aiwm_tui.main"]
ROWS = [
    TaskRow(
        id=f"t-1{number:04d}",
        queue="demo",
        state="failed",
        priority=0,
        attempt=1,
        max_attempts=1,
        by="operator",
        submitted_ms=1,
        reason="\x1b[31mred" + "x" * 200,
    )
    for number in range(2000)
]


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    monkeypatch.setenv("AIWM_HOME", str(home))
    fake = FakeEngine(home, {"task.list": TaskPage(rows=ROWS, total=len(ROWS))})
    yield fake
    fake.close()


def _shell(line: str) -> subprocess.CompletedProcess[str]:
    command = " ".join(AIWM)
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("aiwm", command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "line", ["aiwm --version >&-", "aiwm --help >&-", "aiwm task list >&-", "aiwm task list --json >&- <&-"]
)
def test_a_closed_stdout_is_quiet(engine: FakeEngine, line: str) -> None:
    ran = _shell(line)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("line", ["aiwm --help", "aiwm task list", "aiwm task list --json", "aiwm task list --jsonl"])
def test_a_reader_that_leaves_early_is_no_failure(engine: FakeEngine, line: str) -> None:
    ran = _shell(f"{line} | head -c 1")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(ran.stdout) == 1


def test_a_closed_stderr_changes_nothing(engine: FakeEngine) -> None:
    assert _shell("aiwm tsk 2>&-").returncode == 2
    assert _shell("aiwm task list 2>&- | wc -l").stdout.strip() == "2001"


@pytest.mark.parametrize("line", ["aiwm --version", "aiwm --help", "aiwm task list", "aiwm task list --json"])
def test_a_full_disk_is_said_in_one_line(engine: FakeEngine, line: str) -> None:
    ran = _shell(f"{line} > /dev/full")
    assert ran.returncode == 1
    assert ran.stderr.startswith(("aiwm: ", "{"))
    assert ran.stderr.count("\n") == 1


def _on_terminal(arguments: list[str], typed: str = "", **environment: str) -> tuple[int, str]:
    """Run a command on a terminal of its own; its exit code and what it drew."""
    master, slave = pty.openpty()
    os.set_inheritable(slave, True)
    environ = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    process = subprocess.Popen(
        [*AIWM, *arguments], stdin=slave, stdout=slave, stderr=slave, env={**environ, "TERM": "xterm", **environment}
    )
    os.close(slave)
    os.write(master, typed.encode())
    seen = b""
    try:
        while part := os.read(master, 65536):
            seen += part
    except OSError:
        pass
    os.close(master)
    return process.wait(30), seen.decode()


def test_colour_on_a_terminal_and_none_under_no_color(engine: FakeEngine) -> None:
    engine.answers["task.list"] = TaskPage(rows=ROWS[:2], total=2)
    code, seen = _on_terminal(["task", "list"])
    assert code == 0
    assert "\x1b[1m" in seen
    assert "✗ failed" in seen
    assert "\x1b[31mred" not in seen
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in _on_terminal(["task", "list"], **environment)[1]
    assert "\x1b[1m" in _on_terminal(["task", "list"], NO_COLOR="")[1]


@pytest.mark.parametrize(("told", "columns"), [("40", 40), ("", 80)])
def test_a_table_fits_its_terminal_and_stderr_names_what_is_hidden(engine: FakeEngine, told: str, columns: int) -> None:
    """A terminal that says no size is taken for one of 80 columns."""
    engine.answers["task.list"] = TaskPage(rows=ROWS[:2], total=2)
    code, seen = _on_terminal(["task", "list"], NO_COLOR="1", COLUMNS=told)
    assert code == 0
    lines = seen.splitlines()
    assert max(cell_len(line) for line in lines) <= columns
    assert "less -S" in lines[-1]
    assert [line.split()[0] for line in lines[:-1]] == ["ID", *(row.id for row in ROWS[:2])]


def test_a_person_is_asked_before_a_large_set_is_changed(engine: FakeEngine) -> None:
    ids = [f"t-{number}" for number in range(10001, 10021)]
    engine.answers["task.cancel"] = Cancelled(cancelled=ids, stopping=[], ended=[])
    line = ["task", "cancel", *ids]
    code, seen = _on_terminal(line, typed="n\n")
    assert code == 5
    assert "Cancel 20 tasks: t-10001, " in seen
    assert "[y/N]" in seen
    assert "task.cancel" not in [method for method, _ in engine.asked]
    assert _on_terminal(line, typed="\n")[0] == 5
    assert _on_terminal(line, typed="y\n")[0] == 0
    assert engine.params("task.cancel")["ids"] == ids
    engine.asked.clear()
    assert _on_terminal(line[:-1])[0] == 0
    assert engine.params("task.cancel")["ids"] == ids[:-1]


def test_a_pipe_gets_plain_whole_lines(engine: FakeEngine) -> None:
    ran = _shell("aiwm task list")
    assert "\x1b" not in ran.stdout
    assert "✗" not in ran.stdout
    assert "x" * 200 in ran.stdout


def test_latin_terminals_are_no_reason_to_fail(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    ran = subprocess.run([*AIWM, "task", "list"], capture_output=True, check=False, timeout=60)
    assert ran.returncode == 0
    assert b"t-10000" in ran.stdout


def test_ctrl_c_exits_130_and_says_what_goes_on(engine: FakeEngine) -> None:
    waiting = threading.Event()
    over = threading.Event()

    def wait(_: Any) -> list[Any]:
        waiting.set()
        over.wait(30)
        return []

    engine.answers |= {"task.submit": TaskAck(id="t-10001", state="pending"), "task.wait": wait}
    process = subprocess.Popen([*AIWM, "task", "run", "demo", "--prompt", "x"], stderr=subprocess.PIPE, text=True)
    assert waiting.wait(30)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    over.set()
    assert process.returncode == 130
    assert "t-10001 is stored and goes on" in err
    assert "Traceback" not in err


def test_the_protocol_over_stdio(engine: FakeEngine) -> None:
    process = subprocess.Popen([*AIWM, "engine", "attach", "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b'{"jsonrpc":"2.0","id":7,"method":"task.list","params":{}}\n')
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    assert answer["id"] == 7
    assert len(answer["result"]["rows"]) == 2000
    process.stdin.close()
    assert process.wait(30) == 0


def test_prompts_come_from_stdin(engine: FakeEngine) -> None:
    engine.answers |= {"task.submit": TaskAck(id="t-10001", state="pending")}
    line = [*AIWM, "task", "submit", "demo", "--json"]
    for option, text in (("--prompt", "two\nlines"), ("--payload", '{"prompt": "two\\nlines"}')):
        ran = subprocess.run([*line, option, "-"], input=text, capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
        assert engine.params("task.submit")["payload"] == {"prompt": "two\nlines"}
    ran = subprocess.run(
        [*line, "--payload", "-"], input='{"prompt":\n3', capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 2
    assert "line 2" in ran.stderr


def test_bytes_that_are_no_text(engine: FakeEngine) -> None:
    command = [os.fsencode(part) for part in AIWM]
    ran = subprocess.run(
        [*command, b"task", b"submit", b"demo", b"--prompt", b"\xff"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("aiwm: ")
    assert ran.stderr.count("\n") == 1
