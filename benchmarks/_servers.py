"""Servers that peers need: Redis and PostgreSQL from the system's packages, on ports and in folders of their own, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_START_S = 30.0


class Missing(Exception):
    """A program is not installed; its message names the package."""


def find(program: str, package: str) -> str:
    """Where a program is; PostgreSQL's own folder, which is in no PATH, included."""
    found = shutil.which(program)
    if found is None:
        candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
        if not candidates:
            raise Missing(f"{program} is not installed: apt install {package}")
        found = str(candidates[-1])
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    """Wait until it is up; RuntimeError if it ended instead or takes longer than 30 s."""
    deadline = time.monotonic() + _START_S
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.02)


class Redis:
    """Every write is fsynced before it is answered (`appendfsync always`): the durability of our `disk` queues."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        command = [
            find("redis-server", "redis-server"),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(folder),
        ]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for(lambda: _listens(self.port), self.process, "redis-server")
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Postgres:
    """fsync and synchronous_commit are on, as they are by default. It refuses to run as root, so as another user then."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        data = folder / "data"
        data.mkdir()
        user = self._user(data)
        if user is not None:
            for parent in (folder, *folder.parents[:-2]):
                os.chmod(parent, os.stat(parent).st_mode | 0o011)
        initdb = [find("initdb", "postgresql"), "-D", str(data), "-A", "trust", "-U", "bench", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, user=user, cwd="/")
        command = [find("postgres", "postgresql"), "-D", str(data), "-p", str(self.port), "-k", "", "-h", "127.0.0.1"]
        command += ["-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "max_connections=100"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user, cwd="/"
        )
        self.dsn = f"host=127.0.0.1 port={self.port} user=bench dbname=postgres"
        wait_for(lambda: _listens(self.port) and self._answers(), self.process, "postgres")

    @staticmethod
    def _user(data: Path) -> int | None:
        if os.getuid():
            return None
        for name in ("postgres", "nobody"):
            try:
                user = pwd.getpwnam(name).pw_uid
            except KeyError:
                continue
            os.chown(data, user, -1)
            return user
        raise Missing("postgres refuses to run as root and there is no other user")

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.dsn, connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)  # its "fast" mode: no waiting for clients
        self.process.wait()
