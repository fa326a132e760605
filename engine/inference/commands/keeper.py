"""Runs one server program and sees to it that nothing of it outlives the engine.

A program of its own, started with `-I -S`: it imports nothing of ours. The engine holds its stdin; when that ends, by intent or because the
engine died, the program and everything it started are told to end, and killed after a grace. On stdout it says `pid N` and `exit CODE`
(negative: a signal); what the program prints goes to stderr, the log.

    keeper.py GRACE_S PROGRAM [WORD …]"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1


def _begin(words: list[str]) -> None:
    """In the child: a session of its own, and then the program."""
    os.setsid()
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.execvp(words[0], words)


def _kill(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended already


def _ended(pid: int) -> int | None:
    """The exit code of the program, None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def main(arguments: list[str]) -> int:
    grace, words = float(arguments[0]), arguments[1:]
    wakes, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    begun, begins = os.pipe()  # closed by the program's start: from then on it hears signals
    pid = os.fork()
    if pid == 0:
        try:
            _begin(words)
        except OSError as error:
            os.write(2, f"{words[0]} cannot be started: {error.strerror}\n".encode())
        os._exit(127)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.close(begins)
    os.read(begun, 1)
    os.write(1, f"pid {pid}\n".encode())
    watched, deadline = [0, wakes], None
    while (code := _ended(pid)) is None:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select(watched, [], [], left)
        if wakes in ready:
            os.read(wakes, 4096)
        if 0 in ready and not os.read(0, 4096):
            watched, deadline = [wakes], time.monotonic() + grace
            _kill(pid, signal.SIGTERM)
        elif deadline is not None and not ready:
            _kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + grace
    _kill(pid, signal.SIGKILL)  # what it started, and left behind
    try:
        os.write(1, f"exit {code}\n".encode())
    except BrokenPipeError:
        pass  # the engine is gone
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
