"""How model processes ended that were not asked to: what it was, in words, and the history of it."""

from __future__ import annotations

import signal
from pathlib import Path

from engine.contract.requests.memory import Crash
from engine.inference.shelf import Shelf

KEPT = 20
"""Crashes of one process that are remembered."""

_KIND = "crash"
_KILLED_EXIT = 137  # how a shell or a container's runtime says SIGKILL
_NATIVE = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)


def exit_text(code: int) -> str:
    """`killed by SIGKILL`, `exit code 3`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory: of this control group and of the machine, whichever is known."""
    count = 0
    for path, word in (("/proc/vmstat", "oom_kill"), ("/sys/fs/cgroup/memory.events", "oom_kill")):
        try:
            lines = Path(path).read_text("ascii", "replace").splitlines()
        except OSError:
            continue
        count += sum(int(parts[1]) for parts in map(str.split, lines) if parts[:1] == [word] and parts[1].isdigit())
    return count


def verdict(code: int, *, oom_rose: bool, hung: bool, over_limit: bool) -> str:
    """What an end means, in a sentence. `oom_rose`: the kernel's count of killings for want of memory rose in this life."""
    if over_limit:
        return "killed by the engine: it passed its memory_bytes"
    if hung:
        return "killed by the engine: it made no step"
    killed = code == -signal.SIGKILL or code == _KILLED_EXIT
    if killed and oom_rose:
        return "killed by the kernel: the machine or its control group ran out of memory"
    if killed:
        return "killed from outside; the kernel did not count it as a want of memory"
    if -code in _NATIVE:
        return "crashed in native code: the log ends with where"
    return _TYPED.get(code) or ("ended by a signal" if code < 0 else "ended by itself" if code == 0 else "failed")


_TYPED = {
    70: "ended itself after a bug in a step: the log ends with the traceback",
    71: "ended itself: the device's memory ran out twice in a row",
    72: "ended itself: the device failed, its state is unknown",
}
"""Exit codes by which the stepper and the backends say why they gave up."""


class CrashBook:
    """The last crashes of each process, stored."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def note(self, crash: Crash) -> None:
        """Remember one."""
        self._shelf.put(_KIND, f"{crash.process}/{crash.ended_ms:013d}", crash.model, crash)
        known = self._shelf.of(_KIND, crash.model, Crash)
        mine = [key for key, it in known if it.process == crash.process]
        for key in sorted(mine)[:-KEPT]:
            self._shelf.drop(_KIND, key)

    def of(self, name: str, limit: int) -> list[Crash]:
        """The crashes of a model's processes, or of one process by its id, the latest first."""
        found = [crash for _, crash in self._shelf.of(_KIND, None, Crash) if name in (crash.model, crash.process)]
        return sorted(found, key=lambda it: -it.ended_ms)[:limit]
