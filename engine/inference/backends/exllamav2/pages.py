"""The key-value cache: one piece for all lanes, in pages of 256 tokens.

exllamav2 gives each of its generators a cache of its own. Here all generators share one, and each page belongs to one generator at a time
or to nobody. A page changes hands empty: whoever gets it cannot know what the other one computed, with other adapters, in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from exllamav2.cache import ExLlamaV2Cache, ExLlamaV2Cache_Q4, ExLlamaV2Cache_Q6, ExLlamaV2Cache_Q8
from exllamav2.generator.dynamic import CachePage, _randomhash

from engine.contract.definitions import KvPrecision
from engine.inference.backends.exllamav2.plan import PAGE

CACHES: dict[KvPrecision, Callable[..., Any]] = {
    KvPrecision.fp16: ExLlamaV2Cache,
    KvPrecision.q8: ExLlamaV2Cache_Q8,
    KvPrecision.q6: ExLlamaV2Cache_Q6,
    KvPrecision.q4: ExLlamaV2Cache_Q4,
}


class Store:
    """The cache's tensors and the pages that nobody has."""

    def __init__(self, cache: Any, count: int) -> None:
        self.cache = cache
        self.count = count
        self.free = deque(range(count))

    @property
    def size_bytes(self) -> int:
        """All tensors of the cache, those into which a quantised one is unpacked too."""
        tensors = [*self.cache.key_states, *self.cache.value_states, *self.cache.key_scales, *self.cache.value_scales]
        for pair in getattr(self.cache, "temp_tensors", {}).values():
            tensors += pair
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


class Ledger:
    """One generator's pages: exllamav2's own tables, of which pages are put in and taken out between its calls."""

    def __init__(self, generator: Any, store: Store) -> None:
        self._generator = generator
        self._store = store
        generator.all_pages = []
        generator.referenced_pages = {}
        generator.unreferenced_pages = {}

    @property
    def used(self) -> int:
        """Pages that running requests hold."""
        return len(self._generator.referenced_pages)

    @property
    def idle(self) -> Iterable[Any]:
        """Pages that no request holds now; what is in them may serve the next with the same beginning."""
        pages: dict[bytes, Any] = self._generator.unreferenced_pages
        return pages.values()

    def missing(self, job: Any) -> tuple[int, int]:
        """What a queued job wants: (pages with nothing in them, pages of its generator that no request holds)."""
        table = self._generator
        unknown = sum(
            digest not in table.referenced_pages and digest not in table.unreferenced_pages
            for digest in job.all_unique_hashes
        )
        unique = sum(sequence.new_unique_pages for sequence in job.sequences)
        return unknown + unique, job.current_new_pages_required()

    def put(self, indices: Iterable[int]) -> None:
        """Give the generator empty pages; it takes them before any that has something in it."""
        for index in indices:
            digest = _randomhash()
            page = CachePage(
                generator=self._generator,
                page_index=index,
                phash=digest,
                phash_revert=digest,
                prev_hash=None,
                prev_hash_revert=None,
                ref_count=0,
                access_serial=0,
                access_serial_revert=0,
                kv_position=0,
                kv_position_revert=0,
                sequence=torch.empty((1, PAGE), dtype=torch.long),
                can_revert=False,
                new_page_index=0,
            )
            self._generator.all_pages.append(page)
            self._generator.unreferenced_pages[digest] = page

    def take(self, page: Any) -> int:
        """Take a page away that no request holds; its index."""
        del self._generator.unreferenced_pages[page.phash]
        self._generator.all_pages = [other for other in self._generator.all_pages if other is not page]
        return int(page.page_index)

    def close(self) -> None:
        """Take all pages away, whoever holds them, and hand them to nobody."""
        self._store.free.extend(page.page_index for page in self._generator.all_pages)
        self._generator.all_pages = []
        self._generator.referenced_pages = {}
        self._generator.unreferenced_pages = {}
