"""`aiwm metrics`: load, queues, latency and cache hits of the model processes, for people and for monitors."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from aiwm_tui.cli.command import Cli, command
from engine.contract.requests.metrics import Metrics, MetricsRead

_HELP = {
    "current_load": "share of a process's slots in use, in percent",
    "queue_depth": "requests that wait in front of a process",
    "average_latency_ms": "mean time of its last 100 requests",
    "layer_cache_hit_rate": "share of adapters that were there when they were needed",
    "total_requests": "requests served since the engine started",
    "tokens_per_second": "tokens made, over the last 10 s",
    "memory_bytes": "host memory that it holds",
    "restarts": "restarts after crashes",
}
_COUNTERS = frozenset({"total_requests", "restarts"})


def add(app: typer.Typer) -> None:
    command(app, "metrics", MetricsRead)(_metrics)


def _metrics(
    cli: Cli,
    request: MetricsRead,
    *,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="in Prometheus' text format", show_default=False)
    ] = False,
) -> None:
    """Load, queue, latency and adapter cache hits of every model process. JSON: kind metrics, with the seeds' names: processes[{processId,
    status, currentLoad, queueDepth, averageLatencyMs, layerCacheHitRate}], globalQueueDepth, totalRequestsProcessed."""
    metrics = cli.call(request)
    if prometheus:
        cli.output.one("metrics", metrics, lambda: prometheus_text(metrics), exact=True)
        return
    if not cli.output.for_people:
        cli.output.one("metrics", metrics)
    elif metrics.processes:
        cli.output.table("metrics", [msgspec.structs.asdict(it) for it in metrics.processes])
        cli.output.talk(f"{metrics.global_queue_depth:,} wait, {metrics.total_requests_processed:,} were served")
    else:
        cli.output.talk("no model processes: they start with the first task that needs one")


def prometheus_text(metrics: Metrics) -> str:
    """The metrics in Prometheus' exposition format (prometheus.io/docs/instrumenting/exposition_formats)."""
    lines = []
    for name, about in _HELP.items():
        kind = "counter" if name in _COUNTERS else "gauge"
        series = f"aiwm_model_{name}" + ("_total" if name == "restarts" else "")
        lines += [f"# HELP {series} {about}", f"# TYPE {series} {kind}"]
        for process in metrics.processes:
            value = getattr(process, name)
            if value is not None:
                labels = f'process="{_label(process.process_id)}",model="{_label(process.model)}"'
                lines.append(f"{series}{{{labels}}} {value}")
    for name, value in (
        ("queue_depth", metrics.global_queue_depth),
        ("requests_total", metrics.total_requests_processed),
    ):
        lines += [f"# TYPE aiwm_{name} {'counter' if name.endswith('total') else 'gauge'}", f"aiwm_{name} {value}"]
    return "\n".join(lines) + "\n"


def _label(text: Any) -> str:
    return str(text).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
