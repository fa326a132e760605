"""exllamav2's own Python on a machine without a GPU: what its compiled part does for models of 16 bits, written with torch.

Only the extension is replaced, and the few places where exllamav2 or torch insist on a CUDA device. Everything else, its generator, its
pages, its jobs, its sampler's Python, its layers, is the installed package. On a machine with a GPU and the real extension `install` does
nothing, and the same tests run unfaked."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch

from engine.inference.backends.exllamav2 import availability


def real() -> bool:
    """Whether the real extension can be used here."""
    return torch.cuda.is_available() and not availability.problems()


# -- the extension ---------------------------------------------------------------------------------------------------------------


def rms_norm(x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, epsilon: float) -> None:
    wide = x.float()
    out.copy_((wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon) * weight.float()).to(out.dtype))


def rope_(
    x: torch.Tensor,
    sin: torch.Tensor,
    cos: torch.Tensor,
    past: int,
    heads: int,
    size: int,
    offsets: torch.Tensor,
    neox: bool,
) -> None:
    assert neox
    rows, count = x.shape[:2]
    position = torch.arange(count)[None].expand(rows, count) + past
    if not offsets.is_meta:
        position = position + offsets.view(rows, 1).long()
    sines, cosines = (table[0, 0][position.clamp(min=0)][:, :, None].float() for table in (sin, cos))
    wide, half = x.float(), size // 2
    turned = torch.cat((-wide[..., half:], wide[..., :half]), -1)
    x.copy_((wide * cosines + turned * sines).to(x.dtype))


def stloader_read(name: str, offset: int, size: int, out: torch.Tensor) -> None:
    raw = np.fromfile(name, dtype=np.uint8, count=size, offset=offset)
    out.view(-1).view(torch.uint8).copy_(torch.from_numpy(raw))


def count_match(one: torch.Tensor, other: torch.Tensor, most: int) -> int:
    first, second = one.flatten().tolist(), other.flatten().tolist()
    length = 0
    while length < min(len(first), len(second), most) and first[length] == second[length]:
        length += 1
    return length


def sample_basic(logits: torch.Tensor, temperature: float, top_k: int, top_p: float, *rest: Any) -> list[float]:
    """Greedy, temperature and top-p, as csrc/sampling does them; the other settings are never used by aiwm."""
    draw, token, chance = rest[4], rest[5], rest[6]
    for row in range(logits.shape[0]):
        flat = logits[row].flatten().double()
        if top_k == 1:
            token[row, 0], chance[row, 0] = int(flat.argmax()), 1.0
            continue
        chances = (flat / temperature).softmax(-1)
        ordered, order = chances.sort(descending=True, stable=True)
        kept = len(ordered)
        if 0.0 < top_p < 1.0:
            kept = min(kept, int((ordered.cumsum(0) < top_p).sum()) + 1)
        reached = (ordered[:kept] / ordered[:kept].sum()).cumsum(0)
        index = min(kept - 1, int((reached <= draw).sum()))
        token[row, 0], chance[row, 0] = int(order[index]), float(ordered[index])
    return []


def _nothing() -> Callable[..., None]:
    """A function of its own that does nothing: torch looks its functions up by what they are."""
    return lambda *_, **__: None


def _extension() -> ModuleType:
    module = ModuleType(availability.EXTENSION)
    for function in (rms_norm, rope_, stloader_read, count_match, sample_basic, fp16_to_q_kv, q_to_fp16_kv):
        setattr(module, function.__name__, function)
    for name in ("apply_rep_penalty", "fast_fill_cpu_ones_bool", "logit_filter_exclusive", "fast_fadd_cpu"):
        setattr(module, name, _refuse)
    return module


def _refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("aiwm does not use this")


# -- the cache of fewer bits -----------------------------------------------------------------------------------------------------

GROUP = 32  # numbers that share a scale


def _spots(lengths: torch.Tensor, table: torch.Tensor, page: int, row: int, begin: int, end: int) -> torch.Tensor:
    """Where tokens begin to end of a row are in the cache."""
    position = torch.arange(begin, end)
    return table[row].long()[position // page] * page + position % page


def _squeeze(wide: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    groups = wide.float().unflatten(-1, (-1, GROUP))
    top = 2 ** (bits - 1) - 1
    scale = (groups.abs().amax(-1, keepdim=True) / top).half().float().clamp(min=1e-6)
    numbers = ((groups / scale).round().clamp(-top, top) + top).to(torch.uint8).flatten(-2)
    if bits == 4:
        numbers = numbers[..., ::2] | (numbers[..., 1::2] << 4)
    return numbers, scale.squeeze(-1).half()


def _widen(numbers: torch.Tensor, scale: torch.Tensor, bits: int) -> torch.Tensor:
    if bits == 4:
        numbers = torch.stack((numbers & 15, numbers >> 4), -1).flatten(-2)
    top = 2 ** (bits - 1) - 1
    return ((numbers.float() - top).unflatten(-1, (-1, GROUP)) * scale.float()[..., None]).flatten(-2).half()


def fp16_to_q_kv(*given: Any) -> None:
    """Squeeze the tokens that a step added."""
    keys, narrow_keys, key_scales, values, narrow_values, value_scales, rows, _, width, page, lengths, table, bits = (
        given
    )
    for row in range(rows if page else 0):
        begin = int(lengths[row])
        where = _spots(lengths, table, page, row, begin, begin + width)
        narrow_keys[0, where], key_scales[0, where] = _squeeze(keys[0, where], 4 if bits == 4 else 8)
        narrow_values[0, where], value_scales[0, where] = _squeeze(values[0, where], 8 if bits == 8 else 4)


def q_to_fp16_kv(*given: Any) -> None:
    """Widen the tokens that a step reads."""
    narrow_keys, keys, key_scales, narrow_values, values, value_scales, rows, _, _, page, lengths, table, bits = given
    for row in range(rows if page else 0):
        where = _spots(lengths, table, page, row, 0, int(lengths[row]))
        keys[0, where] = _widen(narrow_keys[0, where], key_scales[0, where], 4 if bits == 4 else 8)
        values[0, where] = _widen(narrow_values[0, where], value_scales[0, where], 8 if bits == 8 else 4)


# -- the device ------------------------------------------------------------------------------------------------------------------


class _Stream:
    def __init__(self, *_: Any, **__: Any) -> None:
        """torch.cuda.Stream without a GPU."""


def install() -> Callable[[], None]:
    """Make the backend loadable in this process. Calling the result gives torch back as it was."""
    if real():
        return lambda: None
    cuda, here = cast("Any", torch.cuda), cast("Any", availability)
    put = {
        **{(cuda, name): _nothing() for name in ("synchronize", "set_stream", "set_device", "empty_cache")},
        (cuda, "device_count"): lambda: 1,
        (cuda, "Stream"): _Stream,
        (cuda, "device"): lambda *_: contextlib.nullcontext(),
        (cuda, "get_device_properties"): lambda *_: type("Properties", (), {"major": 9, "total_memory": 2**40}),
        (here, "problems"): lambda: (),
    }
    before = {key: getattr(*key) for key in put}
    for (owner, name), value in put.items():
        setattr(owner, name, value)
    if availability.EXTENSION not in sys.modules:
        sys.modules[availability.EXTENSION] = _extension()
        _patch_library()

    def undo() -> None:
        for (owner, name), value in before.items():
            setattr(owner, name, value)

    return undo


def _patch_library() -> None:
    from engine.inference.backends.exllamav2.library import import_library

    import_library((), lambda doing, share: None)
    import exllamav2.device

    for name, module in list(sys.modules.items()):
        if name.startswith("exllamav2"):
            for function, replacement in (("_torch_device", lambda _: "cpu"), ("safe_move_tensor", _stays)):
                if hasattr(module, function):
                    setattr(module, function, replacement)
            if hasattr(module, "set_device_streams"):
                cast("Any", module).set_device_streams = _nothing()
    exllamav2.device.global_streams[0] = None


def _stays(tensor: Any, *_: Any, **__: Any) -> Any:
    return tensor


if __name__ == "__main__":
    if real():
        print(f"The tests of exllamav2 run unfaked, on {torch.cuda.get_device_name(0)}.")
    else:
        print("There is no GPU that exllamav2 can use: its compiled part is emulated.")
        for problem in availability.problems():
            print(f"  {problem.reason} ({problem.fix})")
