"""The folder in which a recording is played: its database, the images of it, and the home that it is served from, unless that is given.

It goes when the playing ends. What a killed one leaves is as large as everything that it played, so the next one takes it away."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from engine.contract.errors import AiwmError
from engine.lock import HomeLock

_PREFIX: Final = "aiwm-replay-"
_LOCK: Final = "lock"
_UNLOCKED_S: Final = 86_400.0
"""A folder without a lock may be about to get one; it is nobody's after a day."""


@contextmanager
def playing_folder() -> Iterator[Path]:
    """A new folder in the temporary one, gone afterwards. This user's that were left behind go before."""
    clear(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        # Held until the process ends: nobody else clears away what is still being removed.
        HomeLock(folder / _LOCK)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear(temporary: Path) -> None:
    """Remove this user's folders that nobody plays in any more."""
    for folder in temporary.glob(f"{_PREFIX}*"):
        # What cannot be looked at or goes meanwhile is somebody else's business.
        with suppress(OSError, AiwmError):
            info = folder.lstat()
            if info.st_uid == os.geteuid() and folder.is_dir() and not folder.is_symlink():
                _remove(folder, info.st_mtime)


def _remove(folder: Path, changed_s: float) -> None:
    """Remove a folder whose lock was taken once (then it is not empty) and is held no more. Raises an error when it is held."""
    lock = folder / _LOCK
    if lock.exists() and lock.stat().st_size:
        held = HomeLock(lock)
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            held.release()
    elif time.time() - changed_s > _UNLOCKED_S:
        shutil.rmtree(folder, ignore_errors=True)
