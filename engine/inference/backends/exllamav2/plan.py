"""What a load would take of the GPUs, from file headers and the driver alone. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from engine.contract.definitions import KvPrecision
from engine.inference.backends.base import LoadSpec, MemoryPlan
from engine.inference.backends.exllamav2.files import ModelFacts, read_facts
from engine.inference.backends.reference.safetensors import TensorDirectory, TensorInfo
from engine.inference.memory.gpus import Gpus

PAGE = 256  # tokens of one page of the cache, exllamav2's own number
LARGEST_CHUNK = 2048  # prompt tokens that one step reads at most
CONTEXT_BYTES = 600 * 2**20  # CUDA's own: kernels and cuBLAS's workspace, outside every ledger
# Bytes that the cache keeps for a number: the quantised ones come with a 16-bit scale for 32 of them.
KV_BYTES = {
    KvPrecision.fp16: 2.0,
    KvPrecision.q8: 1 + 2 / 32,
    KvPrecision.q6: 0.75 + 2 / 32,
    KvPrecision.q4: 0.5 + 2 / 32,
}
_PLAIN = {"F16": 2, "BF16": 2, "F32": 2}  # all of them become 16 bits


def context_of(facts: ModelFacts, spec: LoadSpec) -> int:
    """Tokens that one request may have, prompt and answer."""
    wanted = min(spec.context or facts.context, facts.context)
    return min(wanted, pages_of(facts, spec) * PAGE)


def pages_of(facts: ModelFacts, spec: LoadSpec) -> int:
    """Pages of the cache: what `kv_bytes` pays for, else enough for every slot's whole context."""
    if spec.kv_bytes:
        return max(1, int(spec.kv_bytes // page_bytes(facts, spec.kv)))
    return spec.slots * -(-min(spec.context or facts.context, facts.context) // PAGE)


def page_bytes(facts: ModelFacts, precision: KvPrecision) -> int:
    return int(PAGE * facts.kv_numbers * KV_BYTES[precision])


def kv_bytes(facts: ModelFacts, spec: LoadSpec) -> int:
    """The cache; a quantised one also needs one layer of it in 16 bits, which attention reads."""
    pages = pages_of(facts, spec)
    wide = 0 if spec.kv is KvPrecision.fp16 else pages * page_bytes(facts, KvPrecision.fp16) // facts.layers
    return pages * page_bytes(facts, spec.kv) + wide


def plan(spec: LoadSpec) -> MemoryPlan:
    """Estimate a load. Raises model_not_found, model_invalid."""
    facts = read_facts(spec.model)
    tensors = {info.name: info for info in TensorDirectory(spec.model).infos()}
    separate = any(name.split(".")[-2] == "lm_head" for name in tensors if "." in name)
    # Without a head of its own it is the embeddings again, which themselves stay in the host's memory.
    head = 0 if separate else 2 * facts.vocabulary * facts.hidden
    weights = head + sum(_device_bytes(info) for name, info in tensors.items() if "embed_tokens" not in name)
    kv, scratch = kv_bytes(facts, spec), scratch_bytes(facts, spec)
    free = free_bytes(spec.devices)
    total = weights + kv + scratch
    reason = advice = None
    if not free:
        reason, advice = "there is no NVIDIA GPU here", "use the reference backend or a server"
    elif total > free:
        reason = f"it needs {total / 2**30:.1f} GiB and {free / 2**30:.1f} GiB of the GPUs are free"
        fits = weights + page_bytes(facts, spec.kv) + CONTEXT_BYTES < free
        advice = (
            "lower slots, context or the precision of kv" if fits else "free GPU memory, or use smaller weights (EXL2)"
        )
    parameters = sum(_parameters(name, tensors) for name in tensors)
    return MemoryPlan(parameters, weights, kv, scratch, free, reason is None, reason, advice)


def scratch_bytes(facts: ModelFacts, spec: LoadSpec) -> int:
    """What a step computes on its way, at the most: one chunk through one layer, and the keys and values that attention gathers."""
    chunk = min(LARGEST_CHUNK, pages_of(facts, spec) * PAGE)
    wide = 2 * facts.intermediate + 4 * facts.hidden + (facts.heads + 2 * facts.kv_heads) * facts.head_size
    gathered = spec.slots * context_of(facts, spec) * 2 * facts.kv_heads * facts.head_size
    logits = spec.slots * facts.vocabulary
    return 2 * (chunk * wide + gathered + logits) + CONTEXT_BYTES


def _device_bytes(info: TensorInfo) -> int:
    return info.elements * _PLAIN[info.dtype] if info.dtype in _PLAIN else info.end - info.begin


def _parameters(name: str, tensors: Mapping[str, TensorInfo]) -> int:
    """How many weights a tensor stands for. A quantised matrix is packed: EXL2 tells its inputs by their order, GPTQ has 8 weights of
    4 bits in a number; what belongs to it (scales, groups) are no weights."""
    info, (module, _, part) = tensors[name], name.rpartition(".")
    if part == "q_weight":
        order = tensors.get(f"{module}.q_invperm")
        return order.elements * info.shape[-1] if order is not None else 0
    if part == "qweight":
        return info.elements * 8
    quantised = f"{module}.q_weight" in tensors or f"{module}.qweight" in tensors
    return 0 if quantised and part != "bias" else info.elements


def free_bytes(devices: tuple[int, ...]) -> int:
    """Free memory of these GPUs together (none: of all); 0 without a driver."""
    return sum(gpu.free for gpu in Gpus().look() if not devices or gpu.index in devices)
