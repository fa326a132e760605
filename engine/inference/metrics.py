"""The seeds' metrics of inference, made of the rows of its processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.contract.records import ModelRow
from engine.contract.requests.metrics import Metrics, ProcessMetrics


def metrics_of(rows: Sequence[ModelRow], figures: Mapping[str, tuple[int, float]]) -> Metrics:
    """`figures` are (requests served, mean ms of the last ones) by process."""
    processes = tuple(_process(row, *figures.get(row.id, (0, row.latency_ms))) for row in rows)
    return Metrics(
        processes=processes,
        global_queue_depth=sum(it.queue_depth for it in processes),
        total_requests_processed=sum(it.total_requests for it in processes),
    )


def _process(row: ModelRow, served: int, request_ms: float) -> ProcessMetrics:
    asked = row.hits + row.misses
    return ProcessMetrics(
        process_id=row.id,
        status=row.state,
        current_load=round(100 * min(row.running, row.slots) / row.slots, 1) if row.slots else 0.0,
        queue_depth=row.waiting,
        average_latency_ms=round(request_ms, 1),
        layer_cache_hit_rate=round(row.hits / asked, 4) if asked else None,
        model=row.model,
        total_requests=served,
        tokens_per_second=round(row.tokens_per_s, 1),
        memory_bytes=row.rss_bytes,
        restarts=row.restarts,
    )
