"""One engine a home: an advisory lock that ends with the process that holds it, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from engine.contract.errors import AiwmError, Code

_LOOK_S = 0.05
_BRIEF = "brief"


class HomeLock:
    """Held from construction until `release` or the end of the process. A `brief` holder goes by itself when its clients have gone:
    whoever has `patience_s` waits so long for that. Raises `engine_running` when another holds it."""

    def __init__(self, path: Path, *, brief: bool = False, patience_s: float = 0.0) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + patience_s
        while not self._taken():
            holder, _, how = os.pread(self._fd, 32, 0).decode(errors="replace").strip().partition(" ")
            if how == _BRIEF and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
                continue
            os.close(self._fd)
            raise AiwmError(
                Code.engine_running,
                f"an engine (pid {holder or 'unknown'}) serves {path.parent} already",
                field="home",
                fix="aiwm engine status, or another --home",
            )
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}{f' {_BRIEF}' if brief else ''}\n".encode(), 0)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        os.close(self._fd)
