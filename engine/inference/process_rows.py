"""A model process as a row of the models view."""

from __future__ import annotations

import msgspec

from engine.contract.definitions import ModelDefinition
from engine.contract.errors import AiwmError
from engine.contract.records import ModelRow
from engine.inference.served import Managed
from engine.inference.supervision import ProcessState
from engine.inference.supervisor import ModelProcess

_ALMOST = 0.99  # what a load that takes longer than the last time is said to have done


def state_of(model: Managed) -> str:
    """The state of a model that does not run because something holds it."""
    return "paused" if model.held else "limited" if model.waits else "refused"


def row_of(
    definition: ModelDefinition, process: ModelProcess, estimate: int, load_ms: int, keep_ms: int | None
) -> ModelRow:
    """`estimate` bytes were planned for it, `load_ms` is what its last load took (0: not known), `keep_ms` until when somebody keeps it."""
    status, loaded, settings = process.status, process.loaded, process.settings
    up, requests = process.up, process.requests
    running = min(status.active if status else requests, requests)
    cache = status.cache if up and status else None
    progress, eta_ms = _progress(process, load_ms)
    return ModelRow(
        id=process.id,
        model=definition.name,
        state=process.state,
        backend=loaded.backend if loaded else "",
        where=loaded.where if loaded else "CPU",
        running=running if up else 0,
        waiting=max(0, requests - running) + process.line.waiting,
        slots=process.slots,
        tokens_per_s=process.tokens_per_second(),
        steps_per_s=process.steps_per_second(),
        weights_bytes=loaded.weights_bytes if up and loaded else 0,
        kv_bytes=loaded.kv_bytes if up and loaded else 0,
        kv_used_bytes=status.kv_used_bytes if up and status else 0,
        rss_bytes=status.rss_bytes if up and status else 0,
        adapters=len(status.adapters) if up and status else 0,
        restarts=process.life.restarts,
        since_ms=process.since_ms,
        pid=process.pid,
        note=_note(process),
        path=definition.path,
        context=loaded.context if up and loaded else 0,
        adapter_bytes=cache.resident_bytes if cache else 0,
        estimate_bytes=estimate,
        latency_ms=process.figures.first_token_ms,
        hits=cache.hits if cache else 0,
        misses=cache.misses if cache else 0,
        prefetch_hits=cache.prefetch_hits if cache else 0,
        evictions=cache.evictions if cache else 0,
        idle_ms=-1 if settings.idle is None else int(settings.idle * 1000),
        keep_until_ms=keep_ms,
        progress=progress,
        eta_ms=eta_ms,
    )


def _progress(process: ModelProcess, load_ms: int) -> tuple[float | None, int | None]:
    """How far a load is, and when (Unix ms) it will be ready: by what the process says, else by what the last load took."""
    if process.state is not ProcessState.starting:
        return None, None
    spent_ms = process.loading_s * 1000
    said = process.progress.share if process.progress is not None else None
    eta_ms = process.since_ms + load_ms if load_ms else None
    if said is not None:
        if not load_ms and said > 0.05:
            eta_ms = process.since_ms + int(spent_ms / said)
        return min(said, _ALMOST), eta_ms
    return (min(spent_ms / load_ms, _ALMOST) if load_ms else None), eta_ms


def _note(process: ModelProcess) -> str:
    if process.state is ProcessState.starting and process.progress is not None:
        share = process.progress.share
        return process.progress.doing + (f", {share:.0%}" if share is not None else "")
    troubled = process.state in (ProcessState.backoff, ProcessState.failed, ProcessState.starting)
    return process.last_error.message if process.last_error and troubled else ""


def refused_row(name: str, error: AiwmError) -> ModelRow:
    """A model that lies in the home and cannot be run."""
    return msgspec.structs.replace(absent_row(ModelDefinition(name=name)), state="refused", backend="", note=str(error))


def absent_row(definition: ModelDefinition) -> ModelRow:
    """A model that is known and not loaded."""
    return ModelRow(
        id=definition.name,
        model=definition.name,
        state="absent",
        backend=definition.backend,
        where="",
        running=0,
        waiting=0,
        slots=0,
        tokens_per_s=0.0,
        steps_per_s=0.0,
        weights_bytes=0,
        kv_bytes=0,
        kv_used_bytes=0,
        rss_bytes=0,
        adapters=0,
        restarts=0,
        since_ms=0,
        pid=None,
        note="",
        path=definition.path,
        url=definition.url,
    )
