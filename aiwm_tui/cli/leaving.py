"""Waiting for an engine to be gone, not only to have said goodbye."""

from __future__ import annotations

import os
import time

from engine.client import BlockingClient
from engine.contract.errors import AiwmError, Code


def wait_until_gone(client: BlockingClient, timeout_s: float) -> bool:
    """Wait until the engine behind a connection has ended; False when it has not in time.

    It closes the connection before it closes its files: only the end of its process means that its home may be moved or removed."""
    deadline = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline:
            for _ in client.notifications(deadline - time.monotonic()):
                pass
    except AiwmError as error:
        if error.code != Code.connection_lost:
            raise
    else:
        return False
    while client.welcome is not None and _alive(client.welcome.pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _alive(pid: int) -> bool:
    try:
        # It may be our own child, which stays as a zombie until it is asked for.
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _zombie(pid)


def _zombie(pid: int) -> bool:
    """Whether a process has ended and only waits for its parent to notice."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (OSError, IndexError):
        return False
