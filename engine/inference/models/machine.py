"""What this machine has to run models with: devices, backends, server programs. Looked at when asked; nothing is imported to find out."""

from __future__ import annotations

import shutil
from functools import cache

import msgspec

from engine.inference.backends.exllamav2.availability import Problem, problems
from engine.inference.memory.gpus import Gpus
from engine.inference.memory.host import CPU, host_memory


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU, or the host's memory (`CPU`). Sizes in bytes; `free` is what could be taken now."""

    id: str
    total: int
    free: int


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """`exllamav2` says why that backend cannot run here (empty: it can), `exllamav2_fix` what to do about it. `llama_server` and `vllm`
    are where these programs are (empty: they are not in PATH). `slots` is what a model gets that does not say."""

    devices: tuple[Device, ...]
    exllamav2: str = ""
    exllamav2_fix: str = ""
    llama_server: str = ""
    vllm: str = ""
    slots: int = 8

    @property
    def gpus(self) -> tuple[Device, ...]:
        return tuple(device for device in self.devices if device.id != CPU)


def look_around(gpus: Gpus, slots: int) -> Machine:
    """This machine now."""
    total, free = host_memory()
    lacks = without_exllamav2()
    found = tuple(Device(id=gpu.id, total=gpu.total, free=gpu.free) for gpu in gpus.look())
    return Machine(
        devices=(*found, Device(id=CPU, total=total, free=free)),
        exllamav2=lacks.reason if lacks else "",
        exllamav2_fix=lacks.fix if lacks else "",
        llama_server=shutil.which("llama-server") or "",
        vllm=shutil.which("vllm") or "",
        slots=slots,
    )


@cache
def without_exllamav2() -> Problem | None:
    """What keeps exllamav2 from running here, the lack of a GPU before all else; None if nothing does. Looked for once: a device or a
    package that comes later wants another engine."""
    found = problems()
    return next((it for it in found if "GPU" in it.reason), found[0] if found else None)
