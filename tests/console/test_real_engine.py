"""The console on a real engine: in this process by pilot, and as the program on a terminal of its own."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from aiwm_tui.app import ConsoleApp
from aiwm_tui.dialling import Dialling
from engine.client import connect, connect_blocking
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.fleet import QueuePause, QueueResume
from engine.contract.requests.session import EngineStatus, EngineStop
from engine.contract.requests.tasks import TaskRun, TaskSubmit
from engine.home import socket_path
from tests.support import engines
from tests.support.screens import press, shows, text_of, wait_until


def _app(home: Path, location: str) -> ConsoleApp:
    async def dial() -> Any:
        return await connect(home, spawn=False, name="console")

    return ConsoleApp(dial, location=location)


async def test_an_engine_that_somebody_stopped_stays_so_until_one_is_started(home: Path) -> None:
    dial = Dialling(home, spawn=True, read_only=False)
    app = ConsoleApp(dial, location=":queues")
    async with app.run_test(size=(120, 36)):
        await shows(app, "live", "demo")
        async with await connect(home, spawn=False) as client:
            await client.call(EngineStop(mode="now"))
        await shows(app, "no engine serves", "aiwm engine run")
        with pytest.raises(AiwmError) as caught:
            await dial()
        assert caught.value.code == Code.engine_unreachable
        with engines.engine(home):
            await shows(app, "live", "demo")
            assert not dial.stopped


async def test_adapters_are_compared_set_current_and_taken_back(home: Path) -> None:
    """What base and an adapter make of one prompt, side by side; another version becomes current, and is not any more."""
    shipped = Path(__file__).parents[2] / "engine" / "inference" / "shipped" / "adapters"
    with engines.engine(home):
        for version, name in ((1, "house-words"), (2, "ticket-labels")):
            shutil.copytree(shipped / name, home / "adapters" / f"tone@v{version}")
        app = _app(home, ":adapters name:tone")
        async with app.run_test(size=(120, 36)):
            await shows(app, "tone@v1", "tone@v2", "cur", "CACHE aiwm-nano.0")
            await press(app, "home", "C", "T", *"House word for 'lamp'?", "enter")
            await shows(app, "the prompt of aiwm-nano", "lamp-ovi", "1 of 1 words differ")
            await press(app, "escape")
            await shows(app, "2 match of 4", "● resident")
            await wait_until(lambda: app.page.row is not None)
            await press(app, "down")
            await shows(app, "› ○ absent")
            await press(app, "V")
            await shows(app, "tone@v2 IS THE CURRENT ONE")
            await press(app, *"labels", "enter")
            await shows(app, "tone: tone@v1 → tone@v2", "Z takes it back")
            await press(app, "Z")
            await shows(app, "is undone")


async def test_a_task_is_submitted_watched_and_answered(home: Path) -> None:
    """From N to the model's words, through pipe, scheduler, journal and views, without leaving the console."""
    with engines.engine(home) as running:
        running.client().call(QueuePause(name="demo", reason="the test looks first"))
        app = _app(home, ":queues")
        async with app.run_test(size=(120, 36)):
            await shows(app, "‖ paused", "demo")
            await press(app, "N")
            await shows(app, "SUBMIT A TASK", "demo")
            await press(app, *"What is 17 + 25?", "ctrl+s")
            await shows(app, "N submitted t-10001 to demo")
            await shows(app, "what the 1 wait for", "aiwm queue resume demo")
            await press(app, "enter")
            await shows(app, ":tasks queue:demo", "◌ pending", "t-10001", "✗ ")
            await press(app, "enter")
            await shows(app, ":tasks/t-10001", "comes when the task runs", "What is 17 + 25?")
            await press(app, "[", "[")
            await shows(app, ":queues", "‖ paused")
            await wait_until(lambda: app.page is not None and app.page.row is not None)
            await press(app, "P")
            await shows(app, "demo goes on")
            await press(app, *":tasks/t-10001", "enter")
            await shows(app, "✓ completed", "42", "submitted", "started", "completed")


async def test_text_arrives_while_the_model_writes(home: Path) -> None:
    with engines.engine(home) as running:
        client = running.client()
        client.call(QueuePause(name="demo"))
        client.call(
            TaskSubmit(queue="demo", payload={"prompt": "Write something long about a river.", "max_tokens": 200})
        )
        app = _app(home, ":tasks/t-10001")
        texts: list[str] = []
        async with app.run_test(size=(120, 36)):
            await shows(app, "comes when the task runs")
            page: Any = app.page
            show = page.stream.show

            def watched(text: str, **how: Any) -> None:
                texts.append(text)
                show(text, **how)

            page.stream.show = watched
            client.call(QueueResume(name="demo"))
            await shows(app, "✓ completed")
            await wait_until(lambda: page.stream.text != "")
            grown = [text for text in dict.fromkeys(texts) if text]
            assert grown
            assert all(grown[-1].startswith(text) for text in grown), "text only ever grew"


async def test_an_engine_that_is_killed_is_found_again(home: Path) -> None:
    app = _app(home, ":queues")
    with engines.engine(home) as running:
        async with app.run_test(size=(120, 36)):
            await shows(app, "echo", "live")
            running.kill()
            await shows(app, "stale", "echo")
            with engines.engine(home):
                await shows(app, "connected again", "live", "echo")
                assert "stale" not in text_of(app).split("\n")[0]


async def test_definitions_are_made_by_form_and_what_is_wrong_stands_at_its_field(home: Path) -> None:
    with engines.engine(home):
        app = _app(home, ":queues")
        async with app.run_test(size=(120, 40)):
            await shows(app, "echo", "live")
            await press(app, "ctrl+n")
            await shows(app, "NEW QUEUE")
            await press(app, *"etl", "tab", *"nope", "ctrl+s")
            form: Any = app.screen
            rows = {row.field.key: row for row in form.query("FormRow")}
            await wait_until(lambda: rows["pools"].error is not None, "the engine's error at the field")
            await press(app, *["backspace"] * 4, *"demo", "ctrl+s")
            await shows(app, "made queue etl", "3 rows")
            await press(app, *":queues id:etl", "enter")
            await shows(app, "1 match of 3")
            await press(app, "P")
            await shows(app, "PAUSE QUEUE etl")
            await press(app, *"first look", "enter")
            await shows(app, "‖ paused", "paused etl")
            await press(app, "N")
            await shows(app, "SUBMIT A TASK")
            await press(app, *"12 + 30", "ctrl+s")
            await shows(app, "submitted t-10001 to etl")
            # Cancelled, and taken back before it is done.
            await press(app, *":tasks", "enter")
            await shows(app, "◌ pending  t-10001")
            await press(app, "X")
            await shows(app, "CANCEL 1 TASK")
            await press(app, "enter")
            await shows(app, "X cancels t-10001", "Z takes it back")
            await press(app, "Z")
            await shows(app, "Z taken back t-10001")
            await press(app, *":operations", "enter")
            await shows(app, "⊘ undone", "task.cancel")
            await press(app, *":queues id:etl", "enter")
            await shows(app, "‖ paused etl")
            await press(app, "P")
            await shows(app, "etl goes on")
            await press(app, *":tasks/t-10001", "enter")
            await shows(app, "✓ completed", "42")
            await press(app, *":queues id:etl", "enter")
            await shows(app, "● open")
            await press(app, "X")
            await shows(app, "DELETE QUEUE etl")
            await press(app, *"etl", "enter")
            await shows(app, "deleted queue etl")


async def test_an_instance_is_talked_to_and_the_engine_quieted(home: Path) -> None:
    with engines.engine(home):
        app = _app(home, ":workers id:nano")
        async with app.run_test(size=(120, 36)):
            await shows(app, "aiwm-nano", "live")
            await press(app, "T")
            await shows(app, ":instances/i-", "T talks to it")
            await press(app, "T", *"What is 3 + 4?", "enter")
            await shows(app, "› What is 3 + 4?\n 7", "of 512 tokens")
            await press(app, *":engine", "enter")
            await shows(app, "● tasks start")
            await press(app, "D")
            await shows(app, "DRAIN THE ENGINE")
            await press(app, *"driver", "enter")
            await shows(app, "the machine is quiet", "‖ maintenance: driver")
            await press(app, "P")
            await shows(app, "the engine goes on", "● tasks start")


class Terminal:
    """The program on a pseudo-terminal, as a person runs it."""

    def __init__(self, home: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.master, slave = pty.openpty()
        import fcntl
        import struct
        import termios

        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "aiwm_tui.main", "--home", str(home), *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
            env={**os.environ, "TERM": "xterm-256color", **(environment or {})},
        )
        os.close(slave)
        self.output = b""

    def read_until(self, holds: Callable[[bytes], bool], what: str, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds(self.output):
            assert time.monotonic() < deadline, f"gave up waiting for {what}: {self.output[-2000:]!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.output += os.read(self.master, 65536)
                except OSError:
                    break
        assert holds(self.output), f"{what} never came: {self.output[-2000:]!r}"

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        try:
            os.close(self.master)
        except OSError:
            pass


@pytest.fixture
def stopped(home: Path) -> Any:
    """Whatever engine a console started on this home is stopped after the test."""
    yield home
    if socket_path(home).exists():
        try:
            connect_blocking(home, spawn=False).call(EngineStop(mode="now"))
        except Exception:  # noqa: S110 - it may be gone already, which is what is wanted
            pass


def _engine_pid(home: Path) -> int:
    client = connect_blocking(home, spawn=False)
    try:
        return client.call(EngineStatus()).pid
    finally:
        client.close()


def _lives(pid: int) -> bool:
    """Whether a process runs; looking does not count as a client, which would keep an engine from leaving."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_the_program_starts_an_engine_and_an_idle_one_ends_with_it(stopped: Path) -> None:
    terminal = Terminal(stopped)
    try:
        terminal.read_until(lambda output: b"live" in output and b"START HERE" in output, "the start page")
        pid = _engine_pid(stopped)
        terminal.type("q")
        terminal.read_until(lambda output: b"\x1b[?1049l" in output, "the terminal to be restored")
        assert terminal.process.wait(timeout=10) == 0
        engines.wait_until(lambda: not _lives(pid), "the idle engine to leave")
    finally:
        terminal.close()


def test_a_lost_terminal_leaves_the_engine_running_with_its_work(stopped: Path) -> None:
    terminal = Terminal(stopped)
    try:
        terminal.read_until(lambda output: b"live" in output and b"START HERE" in output, "the start page")
        client = connect_blocking(stopped, spawn=False)
        client.call(QueuePause(name="demo"))
        client.call(TaskSubmit(queue="demo", payload={"prompt": "12 + 30"}))
        terminal.process.send_signal(signal.SIGHUP)
        terminal.process.wait(timeout=10)
        pid = client.call(EngineStatus()).pid
        client.close()
        time_of_death = time.monotonic()
        while time.monotonic() - time_of_death < 3.0:
            assert _lives(pid)
            time.sleep(0.05)
        assert connect_blocking(stopped, spawn=False).call(EngineStatus()).waiting == 1
    finally:
        terminal.close()


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_the_program_on_plain_terminals(stopped: Path, environment: dict[str, str]) -> None:
    import re

    terminal = Terminal(stopped, environment=environment)
    try:
        terminal.read_until(lambda output: b"live" in output and b"START HERE" in output, "the start page")
        terminal.type("6")
        terminal.read_until(lambda output: b":models" in output, "the models")
        colours = re.findall(rb"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7])(?:;\d+)*m", terminal.output)
        assert colours == []
        if environment.get("TERM") == "dumb":
            shown = re.sub(rb"\x1b\[[^A-Za-z]*[A-Za-z]|\x1b[\]P_][^\x07\x1b]*(?:\x07|\x1b\\\\)", b"", terminal.output)
            assert "●".encode() not in shown
    finally:
        terminal.close()


def _with(part: bytes) -> Callable[[bytes], bool]:
    return lambda output: part in output


def test_no_escape_of_a_task_reaches_the_terminal(stopped: Path) -> None:
    """Titles, clipboards, clearing: what a task says is drawn, never obeyed, in tables, pages, toasts and what is copied."""
    evil = "\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\x1b[2J\x1bPq#owned\x1b\\\x9b31m owned\x00\u202e"
    terminal = Terminal(stopped)
    try:
        terminal.read_until(lambda output: b"live" in output and b"START HERE" in output, "the start page")
        client = connect_blocking(stopped, spawn=False)
        client.call(TaskRun(queue="echo", payload={"text": evil}, timeout_ms=30_000))
        client.call(QueuePause(name="echo", reason=evil))
        client.call(TaskSubmit(queue="echo", payload={"text": evil}))
        client.close()
        pictures = "␛]0;owned".encode()
        for keys, shown in ((":tasks\r", pictures), ("\r", b"FACTS"), ("9", b"queue.pause")):
            terminal.output, before = b"", terminal.output
            terminal.type(keys)
            terminal.read_until(_with(shown), f"{shown!r} behind {keys!r}")
            terminal.output = before + terminal.output
        terminal.type("yyy")
        terminal.read_until(lambda output: b"\x1b]52;c;" in output, "what is copied")
        for sequence in (
            b"\x1b]0;",
            b"\x1b]52;c;b3duZWQ=",
            b"\x1b[2J",
            b"\x1bPq",
            b"\xc2\x9b",
            b"\x00",
            "\u202e".encode(),
        ):
            assert sequence not in terminal.output, sequence
    finally:
        terminal.close()
