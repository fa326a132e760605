"""The attention that stands in for flash-attn: every way against arithmetic written anew here, and that only sound ways are chosen."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest

pytestmark = [pytest.mark.slow]

PAGE = 256


@pytest.fixture
def attention() -> Any:
    pytest.importorskip("torch")
    return importlib.import_module("engine.inference.backends.exllamav2.attention")


def _naive(query: Any, keys: list[Any], values: list[Any], scale: float, window: int | None, softcap: float) -> Any:
    """One row, one head and one query at a time. keys and values: a row's own, in order."""
    import torch

    out = torch.zeros_like(query, dtype=torch.float32)
    rows, count, heads, _ = query.shape
    for row in range(rows):
        groups = heads // keys[row].shape[1]
        for at in range(count):
            last = keys[row].shape[0] - count + at
            first = 0 if window is None else max(0, last - window + 1)
            for head in range(heads):
                k, v = (part[row][first : last + 1, head // groups].float() for part in (keys, values))
                score = (k @ query[row, at, head].float()) * scale
                if softcap:
                    score = softcap * (score / softcap).tanh()
                out[row, at, head] = score.softmax(-1) @ v
    return out


@pytest.mark.parametrize(("window", "softcap"), [(None, 0.0), (40, 0.0), (None, 5.0), (300, 3.0)])
@pytest.mark.parametrize("count", [1, 3])
def test_new_tokens_are_appended_and_each_sees_what_it_should(
    attention: Any, count: int, window: int | None, softcap: float
) -> None:
    import torch

    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Any:
        return torch.randn(shape, generator=generator).half()

    heads, kv, size, before = 4, 2, 32, (300, 511, 5)
    tables = [[3, 0], [5, 1, 2], [4]]
    cache_k, cache_v = normal(7, PAGE, kv, size), normal(7, PAGE, kv, size)
    query, k, v = normal(3, count, heads, size), normal(3, count, kv, size), normal(3, count, kv, size)
    keys, values = (
        [
            torch.cat([torch.cat([cache[page] for page in table])[:length], new[row]])
            for row, (table, length) in enumerate(zip(tables, before, strict=True))
        ]
        for cache, new in ((cache_k, k), (cache_v, v))
    )
    wanted = _naive(query, keys, values, size**-0.5, window, softcap)
    table = torch.zeros((3, 3), dtype=torch.int32)
    for row, pages in enumerate(tables):
        table[row, : len(pages)] = torch.tensor(pages)
    got = attention.flash_attn_with_kvcache(
        q=query, k=k, v=v, k_cache=cache_k, v_cache=cache_v, cache_seqlens=torch.tensor(before, dtype=torch.int32),
        block_table=table, causal=True, window_size=(-1, -1) if window is None else (window, window), softcap=softcap,
    )  # fmt: skip
    assert (got.float() - wanted).abs().max() < 2e-3
    for row, length in enumerate(before):
        there = torch.cat([cache_k[page] for page in tables[row]])[: length + count]
        assert torch.equal(there, keys[row])


def test_every_way_agrees_and_one_that_does_not_is_passed_over(attention: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = attention.Shape(32**-0.5)
    for query, pages in attention._case("cpu", 4, 2, 32):
        assert attention._agrees(attention.masked, query, pages, shape)
        assert attention._agrees(attention.plain, query, pages, shape)
    tried = []

    def way(name: str, answer: Any) -> Any:
        def run(query: Any, pages: Any, shape: Any) -> Any:
            tried.append(name)
            return answer(query, pages, shape)

        return run

    def missing(*_: Any) -> Any:
        raise NotImplementedError

    ways = {
        "lacking": way("lacking", missing),
        "wrong": way("wrong", lambda query, pages, shape: query * 0),
        "good": way("good", attention.masked),
        "never": way("never", attention.plain),
    }
    monkeypatch.setattr(attention, "_WAYS", ways)
    case = attention._case
    monkeypatch.setattr(attention, "_case", lambda device, *sizes: case("cpu", *sizes))
    monkeypatch.setattr(attention, "_chosen", {})
    assert attention.choose("cuda:0", 4, 2, 32) == "good"
    assert set(tried) == {"lacking", "wrong", "good"}
    assert attention._chosen["cuda:0"] is ways["good"]

    def faults(*_: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(attention, "_WAYS", {"faults": faults, "good": ways["good"]})
    with pytest.raises(RuntimeError, match="CUDA error"):
        attention.choose("cuda:0", 4, 2, 32)


def test_flash_attn_is_stood_in_for_only_while_exllamav2_is_imported(
    attention: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ModuleType("flash_attn")
    monkeypatch.setitem(sys.modules, "flash_attn", real)
    monkeypatch.delitem(sys.modules, "flash_attn_2_cuda", raising=False)
    with attention.standing_in():
        assert sys.modules["flash_attn"].flash_attn_with_kvcache is attention.flash_attn_with_kvcache
        assert "flash_attn_2_cuda" in sys.modules
    assert sys.modules["flash_attn"] is real
    assert "flash_attn_2_cuda" not in sys.modules
