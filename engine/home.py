"""A home: the directory that holds one engine's whole life, and where each thing lies in it. Cheap to import."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MAX_SOCKET_BYTES = 100
"""Unix socket paths end at 108 bytes on Linux; a longer one moves to the runtime directory."""


def default_home() -> Path:
    """`AIWM_HOME`, else `aiwm` in the XDG data directory."""
    named = os.environ.get("AIWM_HOME")
    if named:
        return Path(named).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(data) / "aiwm"


def socket_path(home: Path) -> Path:
    """Where the engine of this home listens."""
    # Resolved, so that a home has one socket by whichever of its names it is called.
    path = home.resolve() / "engine.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_BYTES:
        return path
    import hashlib

    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/aiwm-{os.getuid()}"
    digest = hashlib.sha256(os.fsencode(path.parent)).hexdigest()[:16]
    return Path(runtime) / f"aiwm-{digest}.sock"


def database_path(home: Path) -> Path:
    return home / "aiwm.db"


def lock_path(home: Path) -> Path:
    return home / "engine.lock"


def log_path(home: Path, name: str) -> Path:
    """A log file of this home: `engine`, or the id of a model or kind process."""
    return home / "logs" / f"{name}.log"


def make_home(home: Path) -> None:
    """Create the home and its folders, readable by their owner only."""
    for folder in (home, *(home / name for name in ("files", "workers", "models", "adapters", "recordings", "logs"))):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_uid == os.getuid():
        home.chmod(0o700)
    runtime = socket_path(home).parent
    if runtime != home.resolve():
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        # In a folder that everyone may write to, another user may have made it first, to be given our requests.
        found = runtime.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PermissionError(errno.EPERM, "is not a directory of yours alone (0700)", str(runtime))
