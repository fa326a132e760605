"""What a load would take and whether this backend should take it on, from file headers and /proc alone."""

from __future__ import annotations

from engine.inference.backends.base import LoadSpec, MemoryPlan
from engine.inference.backends.reference.cache import kv_bytes
from engine.inference.backends.reference.config import ModelConfig
from engine.inference.backends.reference.safetensors import TensorDirectory

MAX_PARAMETERS = 1_500_000_000
MAX_SHARE_OF_FREE = 0.6
ELEMENT_BYTES = 4  # everything is computed in float32


def available_bytes() -> int:
    """Memory that could be used now without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


def plan_memory(config: ModelConfig, tensors: TensorDirectory, spec: LoadSpec, prefill_tokens: int) -> MemoryPlan:
    """Estimate a load. `prefill_tokens` is the most tokens one step computes."""
    context = min(spec.context or config.context, config.context)
    parameters = sum(info.elements for info in tensors.infos())
    head_copy = config.vocabulary * config.hidden if config.tied_head else 0
    widest = max(config.query_size + 2 * config.key_size, 2 * config.intermediate, config.hidden)
    scores = config.heads * prefill_tokens * context
    free = available_bytes()
    weights = (parameters + head_copy) * ELEMENT_BYTES
    kv = kv_bytes(config, spec.slots, context)
    scratch = (prefill_tokens * widest * 4 + scores * 2) * ELEMENT_BYTES
    reason, advice = _verdict(parameters, weights + kv + scratch, kv, free)
    return MemoryPlan(parameters, weights, kv, scratch, free, reason is None, reason, advice)


def _verdict(parameters: int, total: int, kv: int, free: int) -> tuple[str | None, str | None]:
    """(why a load is refused, what to do instead); None twice if it fits."""
    if parameters > MAX_PARAMETERS:
        return (
            f"it has {parameters / 1e9:.1f} billion parameters, the reference backend runs at most {MAX_PARAMETERS / 1e9:.1f}",
            "use a GPU backend or a smaller model",
        )
    limit = free * MAX_SHARE_OF_FREE
    if total <= limit:
        return None, None
    reason = f"it needs {_size(total)} and may take {_size(limit)}, {MAX_SHARE_OF_FREE:.0%} of the free memory"
    if total - kv < limit:
        return reason, f"{_size(kv)} of it is the cache: lower models.slots or models.context"
    return reason, "free some memory or use a smaller model"


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
