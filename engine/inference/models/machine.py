"""What this machine has to run models with: devices, backends, server programs. Looked at when asked; nothing is imported to find out."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import msgspec

from engine.inference.memory.gpus import Gpus
from engine.inference.memory.host import CPU, host_memory

_DRIVER = "/proc/driver/nvidia/version"


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU, or the host's memory (`CPU`). Sizes in bytes; `free` is what could be taken now."""

    id: str
    total: int
    free: int


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """`exllamav2` says why that backend cannot run here (empty: it can). `llama_server` and `vllm` are where these programs are (empty:
    they are not in PATH). `slots` and `context` are what a model gets that does not say."""

    devices: tuple[Device, ...]
    exllamav2: str = ""
    llama_server: str = ""
    vllm: str = ""
    slots: int = 8
    context: int = 512

    @property
    def gpus(self) -> tuple[Device, ...]:
        return tuple(device for device in self.devices if device.id != CPU)

    @property
    def host(self) -> Device:
        return next(device for device in self.devices if device.id == CPU)


def look_around(gpus: Gpus, slots: int, context: int) -> Machine:
    """This machine now."""
    total, free = host_memory()
    found = tuple(Device(id=gpu.id, total=gpu.total, free=gpu.free) for gpu in gpus.look())
    return Machine(
        devices=(*found, Device(id=CPU, total=total, free=free)),
        exllamav2=without_exllamav2(),
        llama_server=shutil.which("llama-server") or "",
        vllm=shutil.which("vllm") or "",
        slots=slots,
        context=context,
    )


def without_exllamav2() -> str:
    """Why exllamav2 cannot run here; empty if nothing speaks against it. That it can be built shows when it is loaded."""
    if not os.path.exists(_DRIVER) and not os.path.exists("/dev/nvidia0"):
        return "no NVIDIA GPU"
    missing = [name for name in ("exllamav2", "torch") if find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""
