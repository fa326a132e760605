"""The first thing every child process does: save the protocol's pipe from stray prints, and die with its parent."""

from __future__ import annotations

import io
import os
import sys
from typing import BinaryIO

_PR_SET_PDEATHSIG = 1


def protect_stdio(log_fd: int | None = None) -> tuple[BinaryIO, BinaryIO]:
    """Take fd 0 and fd 1 for the protocol and point fd 1 at `log_fd` (default: stderr), so that a print cannot corrupt it.

    Returns (reading, writing). fd 0 becomes /dev/null: nothing else may read the protocol either."""
    reading, writing = os.dup(0), os.dup(1)
    os.dup2(2 if log_fd is None else log_fd, 1)
    if log_fd is not None:
        os.dup2(log_fd, 2)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for fd in (reading, writing):
        os.set_inheritable(fd, False)
    # A stray print is worth reading only if it is in the log before the process is gone.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    return os.fdopen(reading, "rb", buffering=0), os.fdopen(writing, "wb", buffering=0)


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent's spawning thread ends, and exit if the parent is gone already."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)
