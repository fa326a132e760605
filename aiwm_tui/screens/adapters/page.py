"""The page of all adapters: a line for the cache of each process above the table."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiwm_tui.live import format as form
from aiwm_tui.live.history import Place
from aiwm_tui.live.text import Line, clean, fit, line_width
from aiwm_tui.screens.charted import Charted
from aiwm_tui.screens.headed import HeadedPage
from aiwm_tui.screens.spec import TableScreen
from engine.contract.errors import AiwmError
from engine.contract.query import Location
from engine.contract.requests.adapters import AdapterStats, CacheStats

_AGAIN_S = 1.0
_MOST = 6


class AdaptersPage(HeadedPage, Charted):
    """The caches are asked for when rows change, but never more than once a second."""

    def __init__(self, screen: TableScreen, place: Place, location: Location) -> None:
        super().__init__(screen, place, location)
        self.caches: list[CacheStats] = []
        self._asking: asyncio.Task[None] | None = None
        self._again = False

    def on_mount(self) -> None:
        super().on_mount()
        self._ask()

    def _changed(self) -> None:
        super()._changed()
        self._ask()

    def _ask(self) -> None:
        if self._asking is None:
            self._asking = asyncio.create_task(self._load())
        else:
            self._again = True

    async def _load(self) -> None:
        try:
            self.caches = await self.console.link.call(AdapterStats())
        except AiwmError:
            self.caches = []  # the table says what is wrong
        if self.is_mounted:
            self.show_head()
        await asyncio.sleep(_AGAIN_S)
        self._asking = None
        if self._again:
            self._again = False
            self._ask()

    def head_lines(self, cells: int) -> Sequence[Line]:
        if not self.caches:
            return ()
        lines = [cache_line(it, cells) for it in self.caches[:_MOST]]
        if len(self.caches) > _MOST:
            lines.append(((f" … {len(self.caches) - _MOST} more caches: aiwm adapter stats", "dim"),))
        return [*lines, ()]

    def leave(self) -> None:
        super().leave()
        if self._asking is not None:
            self._asking.cancel()


def cache_line(cache: CacheStats, cells: int) -> Line:
    """`CACHE llama8.0  3/20 slots  168M/477M  hit 97.4 %  prefetch hit 81.0 %  load p95 38ms  evicted 1h 11`; what matters least goes
    first where it is too long."""
    full = cache.entries >= cache.max_entries
    missed = None if cache.hit_rate is None else 1 - cache.hit_rate
    parts: list[tuple[int, Line]] = [
        (0, ((" CACHE ", "head"), (fit(clean(cache.id, 30), 14), "strong"))),
        (0, ((f"{cache.entries:>3}/{cache.max_entries} slots", "wrong" if full else "text"),)),
        (2, ((f"{form.size(cache.bytes)}/{form.size(cache.max_bytes)}", "text"),)),
        (0, _part("hit", _percent(cache.hit_rate))),
        (5, _part("miss", _percent(missed))),
        (3, _part("prefetch hit", _percent(cache.prefetch_rate))),
        (4, _part("load p95", form.span(cache.load_ms_p95))),
        (1, _part("evicted 1h", form.count(cache.evictions_1h))),
    ]
    if cache.staged_bytes:
        parts.append((2, ((f"staged {form.size(cache.staged_bytes)}", "coming"),)))
    if cache.refusals:
        parts.append((1, ((f"refused {cache.refusals}", "broken"),)))
    while sum(line_width(part) + 2 for _, part in parts) > cells and any(place for place, _ in parts):
        parts.remove(max(parts, key=lambda part: part[0]))
    return tuple(span for _, part in parts for span in (*part, ("  ", "")))


def _part(label: str, value: str) -> Line:
    return ((f"{label} ", "dim"), (value, "text"))


def _percent(share: float | None) -> str:
    return form.NONE if share is None else f"{share * 100:.1f} %"
