"""Lanes: requests with the same adapters at the same weights run in one of exllamav2's generators, all generators over one model.

exllamav2 applies adapters to a whole generator, and its cache of prompts does not know of them. With a generator for each set of adapters
requests of several sets run at once, none waits for another to drain, and what one set computed is never read by another. At most
`limit` lanes are open; the one that has rested longest closes when another is needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from exllamav2.generator import ExLlamaV2DynamicGenerator

from engine.inference.backends.base import Delta, Event
from engine.inference.backends.exllamav2.pages import Ledger, Store
from engine.inference.backends.exllamav2.plan import PAGE

if TYPE_CHECKING:
    from engine.inference.backends.exllamav2.loras import Loras, Weights
    from engine.inference.backends.exllamav2.running import Running

LIMIT = 4
SAMPLING_THREADS = 8


@dataclass(frozen=True, slots=True)
class Parts:
    """What lanes are made of. `slots` requests run at once in all, `chunk` prompt tokens are read in a step at most."""

    model: Any
    tokenizer: Any
    store: Store
    loras: Loras
    slots: int
    chunk: int


class _OnePage:
    """Stands for the cache while a generator is made, which would lay out tables for all pages and take room to sort them."""

    max_seq_len, batch_size = PAGE, 1

    def all_tensors(self) -> list[torch.Tensor]:
        return []


class Lane:
    """One generator and who runs in it."""

    def __init__(self, parts: Parts, weights: Weights) -> None:
        self.weights = weights
        self.running: dict[str, Running] = {}
        self._parts = parts
        self._generator = ExLlamaV2DynamicGenerator(
            parts.model,
            _OnePage(),
            parts.tokenizer,
            max_batch_size=parts.slots,
            max_chunk_size=parts.chunk,
            max_q_size=1,
            max_sampling_threads=min(SAMPLING_THREADS, max(2, os.cpu_count() or 1)),
            filter_background_eval=False,
        )
        self._generator.cache, self._generator.max_pages = parts.store.cache, parts.store.count
        self._generator.defrag_cache = lambda: None  # it believes that pages 0 to n are all its own
        self.pages = Ledger(self._generator, parts.store)
        self._loras = parts.loras.take(weights)
        self._generator.current_loras = self._loras or None  # an empty list fails in exllamav2

    def queue(self, running: Running) -> None:
        self._generator.enqueue(running.job)

    def start(self, running: Running, serial: int) -> int:
        """Give a queued request its pages. `serial` counts uses of pages in all lanes; the next one."""
        self._generator.access_serial = serial
        self._generator.iterate_start_jobs([])
        assert running.job in self._generator.active_jobs
        self.running[running.id] = running
        return int(self._generator.access_serial)

    def drop(self, running: Running) -> None:
        """Remove a request, queued or running; its pages stay for the next with the same beginning."""
        self._generator.cancel(running.job)
        self.running.pop(running.id, None)

    def step(self) -> list[Event]:
        """Read on in the prompts and write one token for every request whose prompt is read."""
        with torch.inference_mode():
            self._read_prompts()
            self._generator.iterate_gen([])
        events: list[Event] = []
        for running in list(self.running.values()):
            news = running.news()
            if news and not isinstance(news[-1], Delta):
                self.drop(running)
            events += news
        return events

    def _read_prompts(self) -> None:
        """In order of arrival, about one chunk in all: exllamav2 itself would read one of each request, and make the others wait for
        all of them."""
        budget = self._parts.chunk
        for job in self._generator.active_jobs:
            if job.time_first_prefill is not None and job.is_prefill_done():
                continue
            before = job.sequences[0].kv_position
            job.prefill([])
            budget -= job.sequences[0].kv_position - before
            if budget <= 0:
                return

    def close(self) -> None:
        """Give back pages and adapters. Requests that run are forgotten."""
        self.pages.close()
        self._parts.loras.give_back(self._loras)
        self._generator.sampling_pool.shutdown(wait=False)


class Lanes:
    """All lanes of a model."""

    def __init__(self, parts: Parts, limit: int = LIMIT) -> None:
        self._parts = parts
        self._limit = limit
        self._lanes: dict[Weights, Lane] = {}  # used last comes last
        self._serial = 1

    def __len__(self) -> int:
        """Requests that run."""
        return sum(len(lane.running) for lane in self._lanes.values())

    @property
    def open(self) -> tuple[Lane, ...]:
        return tuple(self._lanes.values())

    @property
    def pages_used(self) -> int:
        return sum(lane.pages.used for lane in self._lanes.values())

    def has_room(self, weights: Weights) -> bool:
        """Whether a slot is free, and a lane of these adapters is open or could be."""
        if len(self) >= self._parts.slots:
            return False
        return weights in self._lanes or len(self._lanes) < self._limit or self._idle() is not None

    def admit(self, running: Running, weights: Weights) -> bool:
        """Start a request for which there is room; False when too few pages are free."""
        lane = self._lane(weights)
        lane.queue(running)
        if not self._find_pages(lane, running):
            lane.drop(running)
            return False
        self._serial = lane.start(running, self._serial)
        self._lanes[weights] = self._lanes.pop(weights)
        return True

    def cancel(self, request: str) -> Running | None:
        for lane in self._lanes.values():
            running = lane.running.get(request)
            if running is not None:
                lane.drop(running)
                return running
        return None

    def close(self, lane: Lane) -> None:
        del self._lanes[lane.weights]
        lane.close()

    def release(self, digest: str) -> bool:
        """Close the lanes that use an adapter; False if a request runs in one of them."""
        using = [lane for lane in self._lanes.values() if any(used == digest for used, _ in lane.weights)]
        if any(lane.running for lane in using):
            return False
        for lane in using:
            self.close(lane)
        return True

    def _idle(self) -> Lane | None:
        """The lane that has rested longest."""
        return next((lane for lane in self._lanes.values() if not lane.running), None)

    def _lane(self, weights: Weights) -> Lane:
        """The lane of these adapters, opened if need be."""
        lane = self._lanes.get(weights)
        if lane is None:
            idle = self._idle() if len(self._lanes) >= self._limit else None
            if idle is not None:
                self.close(idle)
            lane = self._lanes[weights] = Lane(self._parts, weights)
        return lane

    def _find_pages(self, lane: Lane, running: Running) -> bool:
        """See that a lane has the pages that a request needs: those that nobody has first, then those that other lanes keep from
        earlier requests, the longest unused of all first."""
        free = self._parts.store.free
        empty, _ = lane.pages.missing(running.job)
        lane.pages.put(free.popleft() for _ in range(min(empty, len(free))))
        short = lane.pages.missing(running.job)[1] - len(list(lane.pages.idle))
        if short <= 0:
            return True
        others = [(page, other) for other in self._lanes.values() if other is not lane for page in other.pages.idle]
        if len(others) < short:
            return False
        others.sort(key=lambda pair: pair[0].access_serial)
        lane.pages.put([other.pages.take(page) for page, other in others[:short]])
        return True
