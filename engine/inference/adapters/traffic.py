"""What went through the adapter caches lately, minute by minute: the differences of the counters that model processes tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from engine.inference.protocol import CachedAdapter, CacheNote

MINUTES = 60
_MOST_LOADS = 500


@dataclass(slots=True)
class Sums:
    """Of one adapter, or of one process. Load times in ms."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    loads: list[float] = field(default_factory=list)

    @property
    def uses(self) -> int:
        return self.hits + self.misses


class Traffic:
    """The last hour by adapter (its content's digest) and by process. Times are Unix ms; `look` may be called as often as one likes."""

    def __init__(self) -> None:
        # By minute: a row costs the minutes of its own adapter, however many others there are.
        self._adapters: dict[str, dict[int, Sums]] = {}
        self._processes: dict[str, dict[int, Sums]] = {}
        self._before: dict[tuple[str, str], CachedAdapter] = {}
        self._minute = 0

    def look(self, caches: Mapping[str, CacheNote], now_ms: int) -> None:
        """Take in what the caches say now."""
        minute = now_ms // 60_000
        if minute != self._minute:
            self._minute = minute
            self._forget(minute - MINUTES)
        for process, note in caches.items():
            for now in note.adapters:
                before = self._before.get((process, now.digest))
                if before != now:
                    self._before[process, now.digest] = now
                    self._count(process, minute, before, now)

    def adapter(self, digest: str) -> Sums:
        """One adapter's last hour, over all processes."""
        return _summed(self._adapters.get(digest, {}).values())

    def process(self, process: str) -> Sums:
        """One process's last hour."""
        return _summed(self._processes.get(process, {}).values())

    def misses_by_minute(self, process: str, now_ms: int) -> tuple[int, ...]:
        """The last hour's misses, the oldest minute first."""
        last = now_ms // 60_000
        minutes = self._processes.get(process, {})
        found = (minutes.get(minute) for minute in range(last - MINUTES + 1, last + 1))
        return tuple(sums.misses if sums is not None else 0 for sums in found)

    def _count(self, process: str, minute: int, before: CachedAdapter | None, now: CachedAdapter) -> None:
        old = before if before is not None and _follows(before, now) else None
        hits = now.hits - (old.hits if old else 0)
        misses = now.misses - (old.misses if old else 0)
        evictions = now.evictions - (old.evictions if old else 0)
        loaded = now.load_ms if now.load_ms is not None and (old is None or old.load_ms != now.load_ms) else None
        if not (hits or misses or evictions or loaded is not None):
            return
        for sums in (
            self._adapters.setdefault(now.digest, {}).setdefault(minute, Sums()),
            self._processes.setdefault(process, {}).setdefault(minute, Sums()),
        ):
            sums.hits += hits
            sums.misses += misses
            sums.evictions += evictions
            if loaded is not None and len(sums.loads) < _MOST_LOADS:
                sums.loads.append(loaded)

    def _forget(self, last: int) -> None:
        for known in (self._adapters, self._processes):
            for key, minutes in list(known.items()):
                for minute in [minute for minute in minutes if minute <= last]:
                    del minutes[minute]
                if not minutes:
                    del known[key]


def _follows(before: CachedAdapter, now: CachedAdapter) -> bool:
    """Whether these are counts of one process's life: they only grow, until a model is loaded anew."""
    return now.hits >= before.hits and now.misses >= before.misses and now.evictions >= before.evictions


def _summed(parts: Iterable[Sums]) -> Sums:
    total = Sums()
    for part in parts:
        total.hits += part.hits
        total.misses += part.misses
        total.evictions += part.evictions
        total.loads += part.loads
    return total


def percentile(values: Iterable[float], share: float) -> float | None:
    """The value that `share` of them do not exceed; None of none."""
    found = sorted(values)
    return found[min(len(found) - 1, int(share * len(found)))] if found else None
