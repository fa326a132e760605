"""One engine a home: an advisory lock that ends with the process that holds it, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from engine.contract.errors import AiwmError, Code


class HomeLock:
    """Held from construction until `release` or the end of the process. Raises `engine_running` when another holds it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._fd, 32).decode(errors="replace").strip()
            os.close(self._fd)
            raise AiwmError(
                Code.engine_running,
                f"an engine (pid {holder or 'unknown'}) serves {path.parent} already",
                field="home",
                fix="aiwm engine status, or another --home",
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._fd)
