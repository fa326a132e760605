"""Model processes, the devices they run on, and adapters."""

from __future__ import annotations

from engine.contract.records.core import Record


class ModelRow(Record, frozen=True, kw_only=True):
    """One model process (a replica), or a model that is known and not loaded (`state` absent or refused). Sizes in bytes; rates
    over the last 10 s; `latency_ms` is the p95 of the time to the first token. `estimate_bytes` is what was planned before
    the load. Adapter counters count since the process started. `idle_ms` is how long it may be idle (-1: for ever),
    `keep_until_ms` until when somebody keeps it (-1: for ever)."""

    model: str
    state: str
    backend: str
    where: str
    running: int
    waiting: int
    slots: int
    tokens_per_s: float
    steps_per_s: float
    weights_bytes: int
    kv_bytes: int
    kv_used_bytes: int
    rss_bytes: int
    adapters: int
    restarts: int
    since_ms: int
    pid: int | None
    note: str
    path: str = ""
    url: str = ""
    context: int = 0
    adapter_bytes: int = 0
    scratch_bytes: int = 0
    estimate_bytes: int = 0
    latency_ms: float = 0.0
    hits: int = 0
    misses: int = 0
    prefetch_hits: int = 0
    evictions: int = 0
    idle_ms: int = -1
    keep_until_ms: int | None = None
    progress: float | None = None
    eta_ms: int | None = None


class DeviceRow(Record, frozen=True, kw_only=True):
    """A GPU, or the host's memory (`id` CPU). Sizes in bytes. `others_bytes` is held by processes that are not ours, which
    `others` names by pid and owner. None: the driver does not say."""

    name: str
    total_bytes: int
    free_bytes: int
    weights_bytes: int = 0
    kv_bytes: int = 0
    adapters_bytes: int = 0
    scratch_bytes: int = 0
    others_bytes: int = 0
    others: tuple[str, ...] = ()
    utilisation: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    pcie_bytes_per_s: float | None = None
    note: str = ""


class AdapterRow(Record, frozen=True, kw_only=True):
    """One version of an adapter; `id` is `name@vN`. `state` is pinned, resident, staged, absent or refused, the best of all
    processes, which `processes` names. Counts of the last hour; `load_ms` is the median of its cold loads; `ok` the share of
    tasks that succeeded with it in the last 24 h (None: there were none). `used_by` are pools, definitions and tasks that
    name it."""

    state: str
    name: str
    version: int
    current: bool
    base: str
    rank: int
    size_bytes: int
    digest: str
    path: str
    in_use: int = 0
    uses: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    load_ms: float | None = None
    tasks: int = 0
    ok: float | None = None
    tokens_out_p50: float | None = None
    pinned: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()
    since_ms: int = 0
    by: str = ""
    note: str = ""


ROWS: dict[str, type[Record]] = {"models": ModelRow, "devices": DeviceRow, "adapters": AdapterRow}
