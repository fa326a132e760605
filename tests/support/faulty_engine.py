"""An engine whose disk and clock fail when it is told to: `python -P faulty_engine.py run --home …`, then signals.

SIGUSR1: every write to and read from the log of the database fails with a real EIO of the kernel; SIGUSR2: the disk is well again.
SIGRTMIN: the wall clock jumps one day ahead; SIGRTMIN+1: one day back. The monotonic clock goes on as it does.

How an EIO is had without a broken disk: the log's file descriptors are replaced by /proc/self/mem, where nothing is mapped at the low
addresses that a short log's offsets are. SQLite's own code meets the error, at its own system calls; nothing in the engine is replaced.
Only the log's descriptors can be treated so: SQLite's locks are on the other two files and would be lost. The clock's jump replaces
`time.time_ns`, from which all of the engine's wall time comes; SQLite and the kernel keep theirs."""

from __future__ import annotations

import os
import signal
import sys
import time

_DAY_NS = 86_400 * 10**9


class BrokenLog:
    """The descriptors of this process's database logs, exchanged for ones that give EIO, and given back."""

    def __init__(self) -> None:
        self._kept: dict[int, int] = {}

    def break_it(self) -> None:
        logs = [fd for fd in map(int, os.listdir("/proc/self/fd")) if _target(fd).endswith("-wal")]
        with open("/proc/self/maps") as maps:
            lowest = min(int(line.split("-")[0], 16) for line in maps)
        # An offset that is an address of ours would be written to: no test may come near.
        assert logs
        assert all(os.fstat(fd).st_size < lowest // 2 for fd in logs), "the log is too long for this trick"
        nowhere = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
        for fd in logs:
            self._kept[fd] = os.dup(fd)
            os.dup2(nowhere, fd, inheritable=False)
        os.close(nowhere)

    def mend(self) -> None:
        for fd, real in self._kept.items():
            os.dup2(real, fd, inheritable=False)
            os.close(real)
        self._kept.clear()


def _target(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def _install() -> None:
    log = BrokenLog()
    real_ns = time.time_ns
    offset = 0

    def jump(by: int) -> None:
        nonlocal offset
        offset += by

    def now() -> int:
        return real_ns() + offset

    time.time_ns = now
    signal.signal(signal.SIGUSR1, lambda *_: log.break_it())
    signal.signal(signal.SIGUSR2, lambda *_: log.mend())
    signal.signal(signal.SIGRTMIN, lambda *_: jump(_DAY_NS))
    signal.signal(signal.SIGRTMIN + 1, lambda *_: jump(-_DAY_NS))


if __name__ == "__main__":
    _install()
    from engine.__main__ import main

    sys.exit(main(sys.argv[1:]))
