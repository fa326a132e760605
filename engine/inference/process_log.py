"""The logs of child processes: one file a life, the last few kept, each bounded on disk; and their last lines for whoever asks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 1_000_000
LIVES = 3
"""Lives before the current one whose logs are kept: `<name>.1` is the one before."""

TAIL_LINES = 20
CRASH_LINES = 60
"""Last lines that an error brings along, and that the record of a crash keeps: enough for a traceback of every thread."""
TAIL_BYTES = 16_384


def open_log(path: Path) -> BinaryIO:
    """A new log for a new life; what the lives before wrote moves back by one, and the oldest goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        for life in range(LIVES - 1, 0, -1):
            older = life_path(path, life)
            if older.exists():
                older.replace(life_path(path, life + 1))
        path.replace(life_path(path, 1))
    return path.open("ab")


def life_path(path: Path, life: int) -> Path:
    """The log of the current life (0) or of one before."""
    return path if life == 0 else path.with_name(f"{path.name}.{life}")


def bound(path: Path) -> None:
    """Keep a log that a living process writes to below its limit: the last quarter stays. The process appends, so it goes on at the end."""
    try:
        if path.stat().st_size <= MAX_BYTES:
            return
        with path.open("r+b") as log:
            log.seek(-MAX_BYTES // 4, os.SEEK_END)
            kept = log.read()
            log.truncate(0)
        with path.open("ab") as log:
            log.write(b"[what was here before is cut]\n" + kept[kept.find(b"\n") + 1 :])
    except OSError:
        pass  # it is looked at again


def tail(path: Path, lines: int = TAIL_LINES) -> tuple[str, ...]:
    """The last lines, without control characters: what a process prints is not trusted."""
    try:
        with path.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ()
    found = [line for line in text.splitlines() if line.strip()]
    return tuple("".join(c if c.isprintable() else " " for c in line) for line in found[-lines:])
