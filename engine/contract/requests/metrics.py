"""What a monitor wants to know of inference, by the seeds' names (AIDaemonMetrics)."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.requests.base import Request
from engine.contract.states import Effect


class ProcessMetrics(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One model process. `currentLoad` is the share of its slots in use in percent, `queueDepth` what waits in front of it,
    `averageLatencyMs` the mean time of its last 100 requests, `layerCacheHitRate` from 0 to 1 (null: no adapter was asked for yet)."""

    process_id: str
    status: str
    current_load: float
    queue_depth: int
    average_latency_ms: float
    layer_cache_hit_rate: float | None
    model: str
    total_requests: int
    tokens_per_second: float
    memory_bytes: int
    restarts: int


class Metrics(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All model processes. `totalRequestsProcessed` counts since the engine started."""

    processes: tuple[ProcessMetrics, ...]
    global_queue_depth: int
    total_requests_processed: int


class MetricsRead(Request[Metrics], frozen=True, kw_only=True):
    """Load, queue, latency and cache hits of every model process."""

    method: ClassVar[str] = "metrics.read"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("ai-daemon/get-metrics", "metrics")
