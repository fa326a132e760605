"""Loading a model with exllamav2: its settings, its cache, its place on the GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from exllamav2 import ExLlamaV2, ExLlamaV2Config, ExLlamaV2Tokenizer
from exllamav2.architecture import RopeStyle

from engine.contract.errors import AiwmError, Code
from engine.inference.backends.base import LoadSpec, Progress
from engine.inference.backends.exllamav2.attention import choose
from engine.inference.backends.exllamav2.failures import give_back
from engine.inference.backends.exllamav2.files import ModelFacts, normalised, readable
from engine.inference.backends.exllamav2.pages import CACHES, Store
from engine.inference.backends.exllamav2.plan import LARGEST_CHUNK, PAGE, context_of, pages_of
from engine.inference.backends.exllamav2.rotary import Rotation, rotation
from engine.inference.backends.reference.config import read_json

RESERVED = 192 * 2**20  # bytes of each GPU that a load leaves for steps, besides the room for adapters
_NO_ROOM = ("Insufficient VRAM", "Insufficient space in device allocation", "out of memory")


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model. `chunk` prompt tokens go through it at once at most, `devices` are where its layers are, `attention` how it attends
    there. `weights_bytes` are those on the devices: the embeddings stay in the host's memory."""

    model: Any
    tokenizer: Any
    store: Store
    context: int
    chunk: int
    devices: tuple[str, ...]
    attention: str
    weights_bytes: int


def load_model(spec: LoadSpec, facts: ModelFacts, progress: Progress) -> Model:
    """Raises model_invalid, model_refused, model_too_big."""
    pages, context = pages_of(facts, spec), context_of(facts, spec)
    chunk = min(LARGEST_CHUNK, _whole(context))
    _bound(spec)
    try:
        with readable(spec.model) as directory:
            config = _config(str(directory), context, chunk)
            tokenizer = ExLlamaV2Tokenizer(config)
            model = ExLlamaV2(config)
            cache = _fill(model, spec, pages, progress)
    except torch.OutOfMemoryError as error:
        raise _too_big(spec, str(error)) from error
    except (RuntimeError, AssertionError, ValueError, KeyError, FileNotFoundError) as error:
        if any(words in str(error) for words in _NO_ROOM):
            raise _too_big(spec, str(error)) from error
        if "CUDA error" in str(error):
            raise AiwmError(
                Code.backend_unavailable,
                f"the GPU failed: {str(error).splitlines()[0]}",
                field="backend",
                retryable=True,
            ) from error
        raise AiwmError(
            Code.model_invalid,
            f"exllamav2 cannot load {spec.model.name}: {str(error).strip(' #') or type(error).__name__}",
            field="model",
            fix="check the directory against where it came from, or use another backend",
        ) from error
    _turn(
        model, rotation(normalised(read_json(spec.model / "config.json", Code.model_invalid)), facts.head_size, context)
    )
    tokenizer.get_id_to_piece_list(False)  # a second or two with a large vocabulary: not in somebody's first token
    devices = tuple(sorted(set(model.cache_map.values())))
    ways = {choose(device, facts.heads, facts.kv_heads, facts.head_size) for device in devices}
    return Model(
        model,
        tokenizer,
        Store(cache, pages),
        context,
        chunk,
        devices,
        attention="/".join(sorted(ways)),
        weights_bytes=_weights_bytes(model),
    )


def _turn(model: Any, wanted: Rotation | None) -> None:
    """Replace the tables of sines and cosines by what the model was trained with, where exllamav2's own are not that."""
    if wanted is None or model.archparams.rope_style != RopeStyle.NEOX:
        return
    angles = torch.outer(torch.arange(model.config.max_seq_len).float(), torch.tensor(wanted.frequencies))
    angles = torch.cat((angles, angles), dim=-1)[None, None]
    for context in model.device_context:
        if context is not None:
            ready = model.get_device_context(context.device_idx, scratch=model.is_quant())
            device = ready.sin[0].device
            ready.sin[0] = (angles.sin() * wanted.factor).half().to(device)
            ready.cos[0] = (angles.cos() * wanted.factor).half().to(device)


def _weights_bytes(model: Any) -> int:
    """Of all tensors that the layers keep, except what they compute in."""
    found: dict[int, int] = {}
    for module in model.modules_dict.values():
        for name, value in vars(module).items() if module is not model.modules[0] else ():
            if not name.startswith(("temp", "lora")):
                found |= {tensor.data_ptr(): tensor.nbytes for tensor in _tensors(value)}
    return sum(found.values())


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, torch.nn.Module):
        yield from value.parameters()
    elif isinstance(value, dict):
        yield from (part for part in value.values() if isinstance(part, torch.Tensor))


def _whole(tokens: int) -> int:
    """The tokens of as many pages as hold these."""
    return -(-tokens // PAGE) * PAGE


def _config(directory: str, context: int, chunk: int) -> Any:
    config = ExLlamaV2Config(directory)
    config.max_seq_len = _whole(context)
    config.max_input_len = chunk
    config.max_batch_size = 1  # counts rows of `max_input_len` tokens; a step of many short rows fits in one
    config.max_attention_size = chunk * config.max_seq_len
    config.no_xformers = config.no_sdpa = True
    config.arch_compat_overrides(quiet=True)
    if config.no_flash_attn:
        raise AiwmError(
            Code.model_refused,
            f"exllamav2 runs architecture {config.architecture} only one request at a time, which is not offered",
            field="model",
            fix="use another backend for it",
        )
    return config


def _fill(model: Any, spec: LoadSpec, pages: int, progress: Progress) -> Any:
    """Load the weights and make the cache: over `split` GB of each GPU, or as they fit with the cache."""

    def told(done: int, of: int) -> None:
        progress("loading weights", done / of)

    make = CACHES[spec.kv]
    if spec.split:
        model.load(list(spec.split), callback=told)
        return make(model, batch_size=1, max_seq_len=pages * PAGE)
    cache = make(model, batch_size=1, max_seq_len=pages * PAGE, lazy=True)
    count = max(1, torch.cuda.device_count())
    model.load_autosplit(cache, [RESERVED + spec.adapter_bytes // count] * count, callback=told)
    return cache


def _bound(spec: LoadSpec) -> None:
    """Take no more than `memory_bytes` of each GPU."""
    for device in range(torch.cuda.device_count()) if spec.memory_bytes else ():
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, spec.memory_bytes / total), device)


def _too_big(spec: LoadSpec, why: str) -> AiwmError:
    give_back()
    return AiwmError(
        Code.model_too_big,
        f"{spec.model.name} does not fit on its GPUs: {why.splitlines()[0]}",
        field="model",
        fix="lower slots, context or the precision of kv, or unload another model (aiwm model ps)",
    )
