"""The attention that exllamav2's paged mode runs on: our own stand-in for the `flash_attn` package.

exllamav2 refuses to decode several requests at once without flash-attn, whose wheels exist for few versions of torch; and its fallback
is wrong: its prompts attend to what comes after (research/inference.md §1.4). torch brings the same kernels. So a module with the two
functions that exllamav2 calls stands in `flash_attn`'s place while exllamav2 is imported, and appends new keys and values to their pages
and attends over them with the first of these ways that computes rightly on this device (`choose` tries them):

    paged      torch's flash attention, which reads the pages itself (newer torch)
    gathered   the same after the pages of each row were copied into one piece
    masked     torch's scaled_dot_product_attention with an explicit mask
    plain      the arithmetic written out: the measure of the others, and what the CPU uses"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

VERSION = "2.5.7"  # from this on exllamav2 uses the paged function
TOLERANCE = 0.02  # most that two ways to compute attention in 16 bits differ, for numbers around 1


@dataclass(frozen=True, slots=True)
class Shape:
    """How keys are weighed. `window`: a query sees so many keys, itself included (None: all before it). `softcap` bounds scores."""

    scale: float
    causal: bool = True
    window: int | None = None
    softcap: float = 0.0


@dataclass(frozen=True, slots=True)
class Pages:
    """Keys and values [pages, tokens of a page, heads, size], the pages of each row [rows, n] and how many tokens each row has."""

    keys: torch.Tensor
    values: torch.Tensor
    table: torch.Tensor
    lengths: torch.Tensor

    def gathered(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [rows, n * tokens of a page, heads, size]."""
        table = self.table.long()
        return self.keys[table].flatten(1, 2), self.values[table].flatten(1, 2)


Way = Callable[[torch.Tensor, Pages, Shape], torch.Tensor]
"""Queries [rows, q, heads, size], aligned with the last q tokens of their rows → the same shape."""


def _flash(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, pages: Pages, shape: Shape, **more: Any
) -> torch.Tensor:
    rows, count, heads, size = query.shape
    longest = pages.table.shape[1] * pages.keys.shape[1]
    starts = torch.arange(rows + 1, dtype=torch.int32, device=query.device)
    if shape.window is not None:
        more |= {"window_size_left": shape.window - 1, "window_size_right": 0}
    result = torch.ops.aten._flash_attention_forward(
        query.reshape(rows * count, heads, size), keys, values, starts * count, starts * longest, count, longest, 0.0,
        shape.causal, False, scale=shape.scale, seqused_k=pages.lengths, **more,
    )  # fmt: skip
    output: torch.Tensor = result[0]
    return output.view(rows, count, heads, size)


def paged(query: torch.Tensor, pages: Pages, shape: Shape) -> torch.Tensor:
    return _flash(query, pages.keys, pages.values, pages, shape, block_table=pages.table)


def gathered(query: torch.Tensor, pages: Pages, shape: Shape) -> torch.Tensor:
    keys, values = pages.gathered()
    return _flash(query, keys.flatten(0, 1), values.flatten(0, 1), pages, shape)


def masked(query: torch.Tensor, pages: Pages, shape: Shape) -> torch.Tensor:
    if shape.softcap:
        return plain(query, pages, shape)
    keys, values = (tensor.transpose(1, 2) for tensor in pages.gathered())
    seen = _seen(query, pages, shape)
    output = torch.nn.functional.scaled_dot_product_attention(
        query.transpose(1, 2), keys, values, attn_mask=seen, scale=shape.scale, enable_gqa=True
    )
    return output.transpose(1, 2).contiguous()


def plain(query: torch.Tensor, pages: Pages, shape: Shape) -> torch.Tensor:
    keys, values = pages.gathered()
    groups = query.shape[2] // keys.shape[2]
    scores = torch.einsum("rqhd,rkhd->rhqk", query.float(), keys.repeat_interleave(groups, 2).float()) * shape.scale
    if shape.softcap:
        scores = shape.softcap * torch.tanh(scores / shape.softcap)
    chances = scores.masked_fill(~_seen(query, pages, shape), float("-inf")).softmax(-1)
    output = torch.einsum("rhqk,rkhd->rqhd", chances, values.repeat_interleave(groups, 2).float())
    return output.to(query.dtype).contiguous()


def _seen(query: torch.Tensor, pages: Pages, shape: Shape) -> torch.Tensor:
    """Which keys each query sees [rows, 1, q, k]."""
    count, most = query.shape[1], pages.table.shape[1] * pages.keys.shape[1]
    key = torch.arange(most, device=query.device).view(1, 1, 1, -1)
    lengths = pages.lengths.view(-1, 1, 1, 1).long()
    if not shape.causal:
        return key < lengths
    position = lengths - count + torch.arange(count, device=query.device).view(1, 1, -1, 1)
    seen = key <= position
    return seen if shape.window is None else seen & (key > position - shape.window)


# -- choosing ----------------------------------------------------------------------------------------------------------------

_WAYS: dict[str, Way] = {"paged": paged, "gathered": gathered, "masked": masked, "plain": plain}
_chosen: dict[str, Way] = {}  # by device


def choose(device: str, heads: int, kv_heads: int, size: int) -> str:
    """Try the ways on this device with a model's shapes, keep the first that computes what `plain` does, and name it."""
    case = _case(device, heads, kv_heads, size)
    shape = Shape(size**-0.5)
    for name, way in _WAYS.items() if device.startswith("cuda") else [("plain", plain)]:
        if all(_agrees(way, query, pages, shape) for query, pages in case):
            _chosen[device] = way
            return name
    raise AssertionError("plain attention agrees with itself")


def _agrees(way: Way, query: torch.Tensor, pages: Pages, shape: Shape) -> bool:
    try:
        difference = (way(query, pages, shape).float() - plain(query, pages, shape).float()).abs().max()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        if "CUDA error" in str(error):
            raise  # the device is in no state to try another way
        return False  # this torch, or this device, does not have it
    return bool(difference <= TOLERANCE)  # not a number is not


def _case(device: str, heads: int, kv_heads: int, size: int) -> list[tuple[torch.Tensor, Pages]]:
    """Rows of unlike length, their pages out of order, one and several queries a row."""
    generator = torch.Generator().manual_seed(5)
    page, count = 256, 6

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).half().to(device)

    keys, values = normal(count, page, kv_heads, size), normal(count, page, kv_heads, size)
    table = torch.tensor([[4, 1, 3], [2, 5, 0]], dtype=torch.int32, device=device)
    lengths = torch.tensor([700, 300], dtype=torch.int32, device=device)
    alone = Pages(keys, values, table[:1], lengths[:1])
    return [
        (normal(2, 1, heads, size), Pages(keys, values, table, lengths)),
        (normal(1, 257, heads, size), alone),
        (normal(1, 700, heads, size), alone),
    ]


def attend(query: torch.Tensor, pages: Pages, shape: Shape) -> torch.Tensor:
    if shape.softcap:
        return plain(query, pages, shape)  # the kernels of torch have no such bound
    return _chosen.get(str(query.device), plain)(query, pages, shape)


# -- what exllamav2 calls ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Step:
    """Where the tokens of one pass go: all layers of a pass ask the same, and only the first computes it."""

    lengths: torch.Tensor
    table: torch.Tensor
    count: int
    pages: torch.Tensor  # [rows, count]: the page of each new token, and its place there
    places: torch.Tensor
    after: torch.Tensor  # lengths with the new tokens


_last: dict[torch.device, _Step] = {}


def _step(lengths: torch.Tensor, table: torch.Tensor, count: int, page: int) -> _Step:
    step = _last.get(lengths.device)
    if step is None or step.lengths is not lengths or step.table is not table or step.count != count:
        positions = lengths.long()[:, None] + torch.arange(count, device=lengths.device)
        pages = table.long().gather(1, positions // page)
        step = _last[lengths.device] = _Step(lengths, table, count, pages, positions % page, (lengths + count).int())
    return step


def flash_attn_with_kvcache(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k: torch.Tensor | None = None,
    v: torch.Tensor | None = None,
    cache_seqlens: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
) -> torch.Tensor:
    """Append k and v (unless they are None: they are in their pages already, and counted) and attend over all pages of each row."""
    assert cache_seqlens is not None
    assert block_table is not None
    lengths = cache_seqlens
    if k is not None:
        step = _step(cache_seqlens, block_table, q.shape[1], k_cache.shape[1])
        k_cache[step.pages, step.places] = k
        v_cache[step.pages, step.places] = v
        lengths = step.after
    shape = _shape(q, softmax_scale, causal, window_size, softcap)
    return attend(q, Pages(k_cache, v_cache, block_table, lengths), shape)


def flash_attn_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
) -> torch.Tensor:
    """Attention without pages; exllamav2 uses it to measure what a layer takes while it splits a model over GPUs."""
    rows, count = k.shape[:2]
    table = torch.arange(rows, dtype=torch.int32, device=q.device).view(rows, 1)
    lengths = torch.full((rows,), count, dtype=torch.int32, device=q.device)
    return masked(q, Pages(k, v, table, lengths), _shape(q, softmax_scale, causal, window_size, softcap))


def flash_attn_varlen_func(*_: Any, **__: Any) -> torch.Tensor:
    """Only exllamav2's image models call it, and those are not loaded."""
    raise RuntimeError("attention of images is not offered")


def _shape(q: torch.Tensor, scale: float | None, causal: bool, window: tuple[int, int], softcap: float) -> Shape:
    """exllamav2 passes a model's window as flash-attn's, which counts the keys before a query's own; models count that one too."""
    return Shape(scale or q.shape[-1] ** -0.5, causal, window[0] if window[0] > 0 else None, softcap)


@contextmanager
def standing_in() -> Iterator[None]:
    """`flash_attn` is this module, while exllamav2 is imported and no longer: other libraries look for the real one."""
    flash, compiled = ModuleType("flash_attn"), ModuleType("flash_attn_2_cuda")
    flash.__dict__.update(
        __version__=VERSION,
        flash_attn_func=flash_attn_func,
        flash_attn_varlen_func=flash_attn_varlen_func,
        flash_attn_with_kvcache=flash_attn_with_kvcache,
    )
    before = {name: sys.modules.get(name) for name in ("flash_attn", "flash_attn_2_cuda")}
    sys.modules |= {"flash_attn": flash, "flash_attn_2_cuda": compiled}
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
