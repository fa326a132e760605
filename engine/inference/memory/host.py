"""The host's memory, and the processes that hold most of it or of a GPU."""

from __future__ import annotations

from collections.abc import Iterable

from engine.inference.memory.gpus import Gpu
from engine.inference.memory.plan import Stranger

CPU = "CPU"
_NAMED = 5  # strangers of the host that are named, the biggest


def host_memory() -> tuple[int, int]:
    """Bytes in all, and bytes that could be used now without swapping."""
    import psutil

    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def resident(pid: int) -> int:
    """Bytes of host memory that a process holds now; 0 when it is gone."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def host_strangers(ours: frozenset[int]) -> list[Stranger]:
    """The processes of others that hold most of the host's memory. Looks at every process: some 10 ms."""
    import psutil

    found: list[tuple[int, int, str, str]] = []
    for process in psutil.process_iter():
        if process.pid in ours:
            continue
        try:
            with process.oneshot():
                found.append((int(process.memory_info().rss), process.pid, process.name(), process.username()))
        except (psutil.Error, KeyError):
            continue  # it ended, or is not ours to look at
    biggest = sorted(found, reverse=True)[:_NAMED]
    return [Stranger(pid, _word(name), _word(owner), CPU, size) for size, pid, name, owner in biggest]


def gpu_strangers(gpus: Iterable[Gpu], ours: frozenset[int]) -> list[Stranger]:
    """The processes of others on each GPU."""
    return [
        Stranger(it.pid, *_who(it.pid), gpu.id, it.bytes or 0)
        for gpu in gpus
        for it in gpu.processes
        if it.pid not in ours
    ]


def _who(pid: int) -> tuple[str, str]:
    """Name and owner of a process, as far as one may know."""
    import psutil

    try:
        process = psutil.Process(pid)
        return _word(process.name()), _word(process.username())
    except (psutil.Error, KeyError):
        return "?", "another user or container"


def _word(text: str) -> str:
    """A process may call itself anything."""
    return "".join(c if c.isprintable() else "?" for c in text)[:40]
