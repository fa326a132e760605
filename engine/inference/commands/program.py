"""A running server program and its keeper: starting, ending, its exit code."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.inference.process_log import open_log

GRACE = 5.0  # seconds between asking a server to end and killing it
_KEEPER = Path(__file__).with_name("keeper.py")


class Program:
    """`pid` is the program's own, not its keeper's."""

    def __init__(self, keeper: asyncio.subprocess.Process, pid: int) -> None:
        self._keeper = keeper
        self.pid = pid

    @classmethod
    async def start(
        cls, words: Sequence[str], log: Path, environment: Mapping[str, str], grace: float = GRACE
    ) -> Program:
        """Start it, logging to `log`. Raises OSError. A program that does not exist ends at once with code 127."""
        with open_log(log) as file:
            file.write(f"--- {' '.join(words)}\n".encode())
            file.flush()
            keeper = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(_KEEPER),
                str(grace),
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                start_new_session=True,
                env=environment,
            )
        assert keeper.stdout is not None
        word, _, pid = (await keeper.stdout.readline()).decode().partition(" ")
        if word != "pid":
            await keeper.wait()
            raise OSError("its keeper did not start")
        return cls(keeper, int(pid))

    async def ended(self) -> int:
        """Wait for its end: the exit code, negative for a signal."""
        assert self._keeper.stdout is not None
        line = (await self._keeper.stdout.readline()).decode()
        await self._keeper.wait()
        word, _, code = line.partition(" ")
        return int(code) if word == "exit" else -9

    def end(self) -> None:
        """Tell it to end; its keeper sees to the rest."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()


def memory_held(pid: int) -> int:
    """Bytes that a program and what it started hold for themselves; files that are mapped do not count, they go when room is wanted."""
    import psutil

    held = 0
    try:
        program = psutil.Process(pid)
        for process in (program, *program.children(recursive=True)):
            memory = process.memory_info()
            held += memory.rss - getattr(memory, "shared", 0)
    except psutil.Error:
        pass  # it ended, or one of its children did
    return held


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
