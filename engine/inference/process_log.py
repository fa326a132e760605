"""The log of a child process: bounded on disk, and its last lines for whoever asks why the process ended."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 1_000_000
TAIL_LINES = 20
TAIL_BYTES = 16_384


def open_log(path: Path) -> BinaryIO:
    """Open for appending; a log over the limit becomes `<name>.old`, replacing the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > MAX_BYTES:
        path.replace(path.with_name(path.name + ".old"))
    return path.open("ab")


def tail(path: Path) -> tuple[str, ...]:
    """The last lines, without control characters: what a process prints is not trusted."""
    try:
        with path.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ()
    lines = [line for line in text.splitlines() if line.strip()]
    return tuple("".join(c if c.isprintable() else " " for c in line) for line in lines[-TAIL_LINES:])
