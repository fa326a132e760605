"""Who holds which device's memory: ours by process and by what for, others by pid and owner, and what one more process may take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from engine.contract.records import DeviceRow
from engine.inference.memory.estimate import Estimate
from engine.inference.memory.gpus import Gpu, Gpus
from engine.inference.memory.host import CPU, gpu_strangers, host_memory, host_strangers, resident
from engine.inference.memory.plan import Space, Stranger
from engine.inference.memory.words import size_text

_FRESH_S = 1.0
_STRANGERS_FRESH_S = 5.0
_GPU_RESERVE = 192_000_000  # left alone on each GPU: the display, the allocator's slack
_SHARE_OF_HOST = 0.75
_GONE_S = 10.0


@dataclass(frozen=True, slots=True)
class Use:
    """One of our processes, as its supervisor knows it. `devices` are where it is (`CPU`, `GPU0`); `estimate` is what was planned for it;
    `loaded` says that the parts were measured; `rss` is its host memory."""

    process: str
    pid: int | None
    devices: tuple[str, ...]
    estimate: Estimate
    loaded: bool = False
    weights: int = 0
    kv: int = 0
    adapters: int = 0
    scratch: int = 0
    rss: int = 0


class Ledger:
    """`limit` bounds what all model processes may take of the host's memory, in bytes (0: three quarters of it)."""

    def __init__(
        self,
        limit: int = 0,
        gpus: Gpus | None = None,
        *,
        host: Callable[[], tuple[int, int]] = host_memory,
        measure: Callable[[int], int] = resident,
    ) -> None:
        self._gpus = gpus or Gpus()
        self._host = host
        self._measure = measure
        self._limit = limit
        self._seen: tuple[Gpu, ...] = ()
        self._seen_at = float("-inf")
        self._strangers: list[Stranger] = []
        self._strangers_at = float("-inf")

    @property
    def limit(self) -> int:
        return self._limit or int(self._host()[0] * _SHARE_OF_HOST)

    @property
    def note(self) -> str:
        """Why there is no GPU; empty when there is one."""
        return self._gpus.note

    def gpus(self, *, fresh: bool = False) -> tuple[Gpu, ...]:
        """The GPUs, at most a second old."""
        now = time.monotonic()
        if fresh or now - self._seen_at > _FRESH_S:
            self._seen, self._seen_at = self._gpus.look(), now
        return self._seen

    def gpu_words(self) -> tuple[str, ...]:
        """How much of each GPU's memory is taken, by whomever: `GPU0 21.1/24.0G`."""
        return tuple(f"{gpu.id} {(gpu.total - gpu.free) / 2**30:.1f}/{gpu.total / 2**30:.1f}G" for gpu in self.gpus())

    def spaces(self, uses: Sequence[Use]) -> list[Space]:
        """What one more process may take of each device, what those that still load will take set aside."""
        total, available = self._host()
        held = self.held(uses)
        ours = sum(parts.get(CPU, 0) for parts in held.values())
        promised = sum(max(0, held[it.process].get(CPU, 0) - self._resident(it)) for it in uses)
        free = min(self.limit - ours, available - promised)
        spaces = [Space(CPU, "host memory", min(self.limit, total), max(0, free), max(0, self.limit - ours))]
        for gpu in self.gpus():
            promised = sum(self._promised(gpu, it, held) for it in uses)
            most = gpu.total - _GPU_RESERVE - sum(parts.get(gpu.id, 0) for parts in held.values())
            spaces.append(Space(gpu.id, gpu.name, gpu.total, max(0, gpu.free - promised - _GPU_RESERVE), max(0, most)))
        return spaces

    def held(self, uses: Sequence[Use]) -> dict[str, dict[str, int]]:
        """Bytes by process and device. The host gives memory when it is first written to, so there a process holds at least what was
        planned for it; a GPU's is taken at the load, so what the driver says is what it holds, and room for the adapters to come."""
        found: dict[str, dict[str, int]] = {}
        for use in uses:
            share = use.estimate.total // max(1, len(use.devices))
            found[use.process] = {
                device: max(share, self._resident(use)) if device == CPU else self._on_gpu(device, use, share)
                for device in use.devices
            }
        return found

    def measured(self, use: Use) -> int:
        """Bytes that a process holds now on its devices, as measured; 0 when nobody knows."""
        if use.devices == (CPU,):
            return self._resident(use)
        return sum(self._driver_says(device, use) or 0 for device in use.devices)

    def _on_gpu(self, device: str, use: Use, share: int) -> int:
        known = self._driver_says(device, use)
        if not use.loaded or known is None:
            return max(share, known or 0)
        return known + max(0, use.estimate.adapters - use.adapters) // max(1, len(use.devices))

    def _promised(self, gpu: Gpu, use: Use, held: dict[str, dict[str, int]]) -> int:
        planned = held[use.process].get(gpu.id, 0)
        return max(0, planned - (self._driver_says(gpu.id, use) or 0)) if planned else 0

    def _driver_says(self, device: str, use: Use) -> int | None:
        """NVML's bytes of a process; where it names no bytes, what the process counted itself."""
        gpu = next((it for it in self.gpus() if it.id == device), None)
        if gpu is None or use.pid is None:
            return None
        said = gpu.used_by(use.pid)
        if said is None and use.loaded:
            parts = use.weights + use.kv + use.adapters + use.scratch + use.estimate.process
            return parts // max(1, len(use.devices))
        return said

    def _resident(self, use: Use) -> int:
        if use.pid is None:
            return 0
        return use.rss or self._measure(use.pid)

    # -- others --------------------------------------------------------------------------------------------------------

    async def strangers(self, ours: frozenset[int]) -> list[Stranger]:
        """Who else holds memory, at most some seconds old."""
        if time.monotonic() - self._strangers_at > _STRANGERS_FRESH_S:
            gpus = self.gpus()
            self._strangers = await asyncio.to_thread(lambda: [*gpu_strangers(gpus, ours), *host_strangers(ours)])
            self._strangers_at = time.monotonic()
        return [it for it in self._strangers if it.pid not in ours]

    def known_strangers(self, device: str) -> list[Stranger]:
        """Those of a device that were found at the last look."""
        return [it for it in self._strangers if it.device == device and it.bytes]

    async def gone(self, pid: int) -> None:
        """Wait until no GPU knows of a process that has ended: the driver gives its memory back a moment later. Gives up after 10 s."""
        deadline = time.monotonic() + _GONE_S
        while any(it.pid == pid for gpu in self.gpus(fresh=True) for it in gpu.processes):
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.1)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def rows(self, uses: Sequence[Use]) -> list[DeviceRow]:
        """The devices for views: the host, then every GPU."""
        total, available = self._host()
        here = [it for it in uses if it.devices == (CPU,)]
        ours = sum(self._resident(it) for it in uses)
        limit = self.limit
        others = [it for it in self._strangers if it.device == CPU and it.bytes > total * 0.01]
        host = DeviceRow(
            id=CPU,
            name="host memory",
            total_bytes=total,
            free_bytes=next(it.free for it in self.spaces(uses) if it.id == CPU),
            others_bytes=max(0, total - available - ours),
            others=tuple(f"{size_text(it.bytes)} {it}" for it in others),
            note=f"models may take {size_text(limit)} of it" + (f"; {self.note}" if self.note else ""),
        )
        return [_with_parts(host, here, 1)] + [self._gpu_row(gpu, uses) for gpu in self.gpus()]

    def _gpu_row(self, gpu: Gpu, uses: Sequence[Use]) -> DeviceRow:
        here = [it for it in uses if gpu.id in it.devices]
        pids = {it.pid for it in uses}
        others = [it for it in self._strangers if it.device == gpu.id and it.pid not in pids]
        ours = sum(self._driver_says(gpu.id, it) or 0 for it in here)
        row = DeviceRow(
            id=gpu.id,
            name=gpu.name,
            total_bytes=gpu.total,
            free_bytes=gpu.free,
            others_bytes=max(0, gpu.total - gpu.free - ours),
            others=tuple(f"{size_text(it.bytes)} {it}" if it.bytes else str(it) for it in others),
            utilisation=gpu.utilisation,
            temperature_c=gpu.temperature_c,
            power_w=gpu.power_w,
            power_limit_w=gpu.power_limit_w,
            pcie_bytes_per_s=gpu.pcie_bytes_per_s,
        )
        return _with_parts(row, here, max((len(it.devices) for it in here), default=1))


def _with_parts(row: DeviceRow, uses: Sequence[Use], devices: int) -> DeviceRow:
    """The row with what our processes hold there, by what for; one that is spread counts its share."""
    return msgspec.structs.replace(
        row,
        weights_bytes=sum(it.weights for it in uses) // devices,
        kv_bytes=sum(it.kv for it in uses) // devices,
        adapters_bytes=sum(it.adapters for it in uses) // devices,
        scratch_bytes=sum(it.scratch for it in uses) // devices,
    )
