"""`aiwm demo` on a terminal: the console opens on a home of the demo's own, and leaves nothing when it is left."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.client import connect_blocking
from engine.contract.errors import AiwmError
from engine.contract.requests.tasks import TaskList

TIMEOUT_S = 60.0


class Terminal:
    """A process on a terminal of 120 by 36 that nobody looks at; what it draws is kept."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.seen = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while part := os.read(self._master, 65536):
                self.seen += part
        except OSError:
            pass

    def press(self, key: str) -> None:
        os.write(self._master, key.encode())


def _until(what: Callable[[], bool], said: str, terminal: Terminal) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not what():
        assert time.monotonic() < deadline, f"never: {said}\n{terminal.seen[-2000:].decode(errors='replace')}"
        time.sleep(0.05)


def _completed(home: Path) -> int:
    try:
        with connect_blocking(home, spawn=False) as client:
            return client.call(TaskList(where="state:completed")).total
    except AiwmError:
        return 0


def test_the_console_opens_on_the_demo_and_leaves_nothing(tmp_path: Path) -> None:
    # Short, because the home's socket lies in it.
    folder = tmp_path / "d"
    folder.mkdir()
    environment = {**os.environ, "TERM": "xterm-256color", "TMPDIR": str(folder)}
    terminal = Terminal([sys.executable, "-P", "-m", "aiwm_tui.main", "demo", "--tasks", "3"], environment)
    try:
        _until(lambda: b"overview" in terminal.seen, "the console draws", terminal)
        _until(lambda: any(_completed(home) == 3 for home in folder.iterdir()), "the messages are answered", terminal)
        terminal.press("q")
        _until(lambda: terminal.process.poll() is not None or b"LEAVE" in terminal.seen, "q is heard", terminal)
        if terminal.process.poll() is None:
            # It had not yet seen the last task end, and asks: 3 is "stop now".
            terminal.press("3")
            terminal.press("\r")
        _until(lambda: terminal.process.poll() is not None, "it ends", terminal)
    finally:
        terminal.process.kill()
    assert terminal.process.returncode == 0, terminal.seen[-2000:].decode(errors="replace")
    assert list(folder.iterdir()) == []


def test_a_terminal_alone_is_not_enough(tmp_path: Path) -> None:
    """With stdin closed nobody can press a key: the demo runs headless even though stdout is a terminal."""
    environment = {**os.environ, "TERM": "xterm-256color", "TMPDIR": str(tmp_path)}
    command = f"{sys.executable} -P -m aiwm_tui.main demo --tasks 2 < /dev/null"
    terminal = Terminal(["sh", "-c", command], environment)
    assert terminal.process.wait(TIMEOUT_S) == 0
    _until(lambda: b"completed 2" in terminal.seen, "the result", terminal)


def test_a_demo_that_is_ended_from_outside_cleans_up(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-P", "-m", "aiwm_tui.main", "demo", "--headless", "--tasks", "100000"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "100000 messages" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", ["0", "-1", "x"])
def test_a_demo_of_nothing_is_a_mistake(count: str, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "aiwm_tui.main", "demo", "--tasks", count]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("aiwm: ")
    assert list(tmp_path.iterdir()) == []
