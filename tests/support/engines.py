"""Real engines for tests: started as users start them, killed as machines kill them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.client import BlockingClient, connect_blocking
from engine.contract.definitions import PoolDefinition, QueueDefinition
from engine.contract.requests.fleet import PoolCreate, QueueCreate
from engine.home import socket_path


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Wait for a condition; AssertionError naming it when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"gave up waiting: {what}"
        time.sleep(0.01)


ENGINE = (sys.executable, "-P", "-m", "engine")
FAULTY = (sys.executable, "-P", str(Path(__file__).with_name("faulty_engine.py")))
"""An engine whose disk and clock fail on signals; see its docstring."""


class Engine:
    """A headless engine process on a home."""

    def __init__(
        self,
        home: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        program: Sequence[str] = ENGINE,
    ) -> None:
        self.home = home
        self.log = home.parent / "engine-test.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*program, "run", "--home", str(home), *arguments],
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
            )
        wait_until(self._up, f"the engine's socket; log: {self.log}")

    def _up(self) -> bool:
        assert self.process.poll() is None, f"the engine ended: {self.log.read_text()[-2000:]}"
        return socket_path(self.home).exists() and self._answers()

    def _answers(self) -> bool:
        import socket

        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(str(socket_path(self.home))) == 0

    def client(self, *, read_only: bool = False) -> BlockingClient:
        return connect_blocking(self.home, spawn=False, work=True, read_only=read_only)

    def kill(self) -> None:
        """As the power or the OOM killer does it."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@contextmanager
def engine(
    home: Path, *arguments: str, environment: dict[str, str] | None = None, program: Sequence[str] = ENGINE
) -> Iterator[Engine]:
    """An engine that is gone when the test is."""
    running = Engine(home, *arguments, environment=environment, program=program)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def make_queue(
    client: BlockingClient, name: str, *, definition: str = "echo", instances: int = 4, **options: object
) -> None:
    """A queue with a pool of its own."""
    client.call(PoolCreate(definition=PoolDefinition(name=name, definition=definition, max_total=instances)))
    client.call(QueueCreate(definition=QueueDefinition(name=name, pools=(name,), **options)))  # type: ignore[arg-type]
