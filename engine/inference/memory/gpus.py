"""GPUs as the driver sees them (NVML): memory, who holds it, temperature, power. Without one the answer says so.

Through nvidia-ml-py, imported when first asked. In containers the driver may not tell processes apart: then their bytes are None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec


class GpuProcess(msgspec.Struct, frozen=True):
    """`bytes` is None where the driver does not say."""

    pid: int
    bytes: int | None


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One device now. None: the driver does not say."""

    index: int
    name: str
    total: int
    free: int
    processes: tuple[GpuProcess, ...] = ()
    utilisation: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    pcie_bytes_per_s: float | None = None

    @property
    def id(self) -> str:
        return f"GPU{self.index}"

    def used_by(self, pid: int) -> int | None:
        """Bytes that a process holds; None when it holds none, or the driver does not say."""
        return next((it.bytes for it in self.processes if it.pid == pid), None)


def _library() -> Any:
    import pynvml

    return pynvml


class Gpus:
    """`library` gives the NVML module (a fake in tests). `note` says why there are none."""

    def __init__(self, library: Callable[[], Any] = _library) -> None:
        self._open = library
        self._nvml: Any = None
        self._tried = False
        self.note = ""

    def look(self) -> tuple[Gpu, ...]:
        """Every GPU as it is now. Takes about a millisecond each; the first call loads the driver's library."""
        if not self._tried:
            self._tried = True
            self._start()
        if self._nvml is None:
            return ()
        nvml = self._nvml
        try:
            return tuple(self._one(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
        except nvml.NVMLError as error:
            self.note = f"the GPU driver fails: {error}"
            return ()

    def _start(self) -> None:
        try:
            nvml = self._open()
        except ImportError:
            self.note = "no GPU can be looked for: nvidia-ml-py is not installed"
            return
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            self.note = f"no GPU: {error}"
            return
        self._nvml = nvml
        self.note = "" if nvml.nvmlDeviceGetCount() else "no GPU: the driver is there and has no device"

    def _one(self, nvml: Any, index: int) -> Gpu:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        name = nvml.nvmlDeviceGetName(handle)

        def ask(question: str, *words: Any, scale: float = 1.0) -> float | None:
            try:
                return float(getattr(nvml, question)(handle, *words)) * scale
            except nvml.NVMLError:
                return None  # many boards and all containers leave something out

        def percent() -> float | None:
            try:
                return float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
            except nvml.NVMLError:
                return None

        return Gpu(
            index=index,
            name=name.decode() if isinstance(name, bytes) else str(name),
            total=int(memory.total),
            free=int(memory.free),
            processes=self._processes(nvml, handle),
            utilisation=percent(),
            temperature_c=ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            power_w=ask("nvmlDeviceGetPowerUsage", scale=0.001),
            power_limit_w=ask("nvmlDeviceGetEnforcedPowerLimit", scale=0.001),
            pcie_bytes_per_s=ask("nvmlDeviceGetPcieThroughput", nvml.NVML_PCIE_UTIL_RX_BYTES, scale=1000.0),
        )

    def _processes(self, nvml: Any, handle: Any) -> tuple[GpuProcess, ...]:
        found: dict[int, int | None] = {}
        for question in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
            try:
                for it in question(handle):
                    found[int(it.pid)] = None if it.usedGpuMemory is None else int(it.usedGpuMemory)
            except nvml.NVMLError:
                continue  # a container sees devices and not who uses them
        return tuple(GpuProcess(pid, size) for pid, size in sorted(found.items()))
