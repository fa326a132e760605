"""NVML as nvidia-ml-py has it, with the GPUs that a test describes. Only tests use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

NVML_TEMPERATURE_GPU = 0
NVML_PCIE_UTIL_RX_BYTES = 1


class NVMLError(Exception):
    """As the driver's."""


@dataclass
class FakeGpu:
    """Bytes; `processes` are (pid, bytes or None)."""

    name: str = "Test GPU"
    total: int = 24_000_000_000
    used: int = 0
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    watts: float | None = 250.0


class FakeNvml:
    """The module: give `lambda: FakeNvml(...)` as `Gpus`' library. `broken` makes initialisation fail, as without a driver."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = NVML_TEMPERATURE_GPU
    NVML_PCIE_UTIL_RX_BYTES = NVML_PCIE_UTIL_RX_BYTES

    def __init__(self, *gpus: FakeGpu, broken: bool = False) -> None:
        self.gpus = list(gpus)
        self.broken = broken

    def nvmlInit(self) -> None:
        if self.broken:
            raise NVMLError("driver not loaded")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self.gpus[index]

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> Any:
        used = gpu.used + sum(size or 0 for _, size in gpu.processes)
        return SimpleNamespace(total=gpu.total, free=gpu.total - used, used=used)

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:
        return gpu.name

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in gpu.processes]

    def nvmlDeviceGetGraphicsRunningProcesses(self, _: FakeGpu) -> list[Any]:
        raise NVMLError("not supported")

    def nvmlDeviceGetUtilizationRates(self, _: FakeGpu) -> Any:
        return SimpleNamespace(gpu=97)

    def nvmlDeviceGetTemperature(self, _: FakeGpu, __: int) -> int:
        return 71

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:
        if gpu.watts is None:
            raise NVMLError("not supported")
        return int(gpu.watts * 1000)

    def nvmlDeviceGetEnforcedPowerLimit(self, _: FakeGpu) -> int:
        return 450_000

    def nvmlDeviceGetPcieThroughput(self, _: FakeGpu, __: int) -> int:
        return 1_100_000
