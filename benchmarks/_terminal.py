"""A program on a pseudo-terminal, measured from outside: when a word is on the screen, what it costs, what it writes.

What comes is stamped by a thread that does nothing else: what the emulation of a terminal in Python takes to understand it is no delay of
the program's."""

from __future__ import annotations

import fcntl
import os
import pty
import queue
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pyte

_SWITCH_S = 0.0002


class Terminal:
    """A program on a terminal of its own. Times are seconds since it was started."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 120,
        lines: int = 36,
        cwd: Path | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {**environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        environment.pop("NO_COLOR", None)
        self._started = time.monotonic()
        self._program = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=environment, cwd=cwd
        )
        os.close(slave)
        self.process = psutil.Process(self._program.pid)
        self.written = 0
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._read_at = self._started
        self._came: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        sys.setswitchinterval(_SWITCH_S)
        self._reader = threading.Thread(target=self._stamp, daemon=True)
        self._reader.start()

    def _stamp(self) -> None:
        while True:
            try:
                chunk = os.read(self._master, 1 << 16)
            except OSError:  # the program is gone
                return
            self._came.put((time.monotonic(), chunk))

    def _read(self, timeout_s: float) -> bytes:
        try:
            self._read_at, chunk = self._came.get(timeout=timeout_s)
        except queue.Empty:
            return b""
        self.written += len(chunk)
        self._stream.feed(chunk)
        return chunk

    def shows(self, word: str) -> bool:
        """Whether a word is on the screen: a program may have painted parts of it long ago."""
        return any(word in line for line in self._screen.display)

    def until(self, word: str, timeout_s: float = 60.0) -> float:
        """Read until a word is on the screen; when it was."""
        deadline = time.monotonic() + timeout_s
        while not self.shows(word):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{word!r} never came: {self._screen.display}")
            self._read(0.2)
        return self._read_at - self._started

    def until_gone(self, word: str, timeout_s: float = 5.0) -> None:
        """Read until a word is on the screen no more."""
        deadline = time.monotonic() + timeout_s
        while self.shows(word):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{word!r} stays: {self._screen.display}")
            self._read(0.2)

    def settle(self, seconds: float) -> int:
        """Read for that long; how many bytes came."""
        before, deadline = self.written, time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._read(left)
        return self.written - before

    def quiet(self, pause_s: float = 0.1) -> None:
        """Read until nothing has come for that long."""
        while self._read(pause_s):
            pass

    def paint_after(self, key: bytes, timeout_s: float = 5.0) -> float:
        """Type a key; seconds until the first bytes that follow."""
        started = time.monotonic()
        os.write(self._master, key)
        if not self._read(timeout_s):
            raise TimeoutError(f"nothing was painted after {key!r}")
        return self._read_at - started

    def paint_of(self, key: bytes, word: str, timeout_s: float = 5.0) -> float:
        """Type a key; seconds until a word that it brings has come, whatever else is painted meanwhile."""
        started = time.monotonic()
        os.write(self._master, key)
        while not self.shows(word):
            if time.monotonic() - started > timeout_s:
                raise TimeoutError(f"{word!r} was not painted after {key!r}")
            self._read(0.5)
        return self._read_at - started

    def cpu_s(self) -> float:
        """CPU seconds of the program alone, user and system."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def memory_mib(self) -> tuple[float, float]:
        """Resident set and proportional set."""
        full = self.process.memory_full_info()
        return full.rss / 2**20, full.pss / 2**20

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def close(self) -> None:
        self._program.kill()
        self._program.wait()
        self._reader.join()
        os.close(self._master)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
