"""How adapters stand: what the book, the caches, the records and the definitions say of each version, as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from engine.clock import Clock
from engine.contract.records import AdapterRow
from engine.contract.requests.adapters import AdapterVersion, CacheStats, Reign
from engine.control.adapters.ended import Ended, Sum
from engine.control.catalogue import Catalogue
from engine.inference.adapters.book import AdapterBook
from engine.inference.adapters.known import Known
from engine.inference.adapters.spelling import exact, spelled
from engine.inference.adapters.traffic import Traffic, percentile
from engine.inference.adapters.versions import AUTOMATIC, Adapter
from engine.inference.protocol import CachedAdapter, CacheNote

_BEST = ("pinned", "resident", "uploading", "staged", "reading", "absent")


Caches = Mapping[str, tuple[str, CacheNote]]
"""The adapter cache of every model process that is up: by its id, the model and what the cache says."""


class Standing:
    """Makes rows. `using` are running tasks by the exact names of their adapters; `changed` is told when rows may look different."""

    def __init__(
        self,
        book: AdapterBook,
        caches: Callable[[], Caches],
        catalogue: Catalogue,
        using: Callable[[], Mapping[str, list[str]]],
        ended: Ended,
        clock: Clock,
    ) -> None:
        self._book = book
        self._caches = caches
        self._catalogue = catalogue
        self._using = using
        self._ended = ended
        self._clock = clock
        self.traffic = Traffic()

    def look(self) -> None:
        """Take in what the caches say now."""
        self.traffic.look({process: note for process, (_, note) in self._caches().items()}, self._clock.wall_ms())

    def is_up(self, model: str) -> bool:
        """Whether a model has a process that could take adapters."""
        return any(of == model for of, _ in self._caches().values())

    async def fresh(self) -> None:
        """Read anew how the last day's tasks ended, for an answer that is given once."""
        await self._ended.fresh()

    def rows(self) -> list[AdapterRow]:
        """Every version, by name and number."""
        self.look()
        caches, using, day = self._caches(), self._using(), self._ended.day()
        return [self._row(known, caches, using, day) for known in self._book.versions()]

    def row(self, known: Known) -> AdapterRow:
        return self._row(known, self._caches(), self._using(), self._ended.day())

    def _row(
        self,
        known: Known,
        caches: Caches,
        using: Mapping[str, list[str]],
        day: Mapping[str, Sum],
    ) -> AdapterRow:
        version, facts, problem = known.version, known.facts, known.problem
        kept = list(_kept_of(known.digest, caches))
        hour, ended = self.traffic.adapter(known.digest), day.get(known.name, Sum())
        follow, pin = self.named_by(known)
        running = using.get(known.name, [])
        since = [choice for choice in known.adapter.choices if choice.n == version.n]
        state = min((it.state for _, it in kept), key=_BEST.index, default="absent")
        return AdapterRow(
            id=known.name,
            state="refused" if problem is not None else _WORDS.get(state, state),
            name=known.adapter.name,
            version=version.n,
            current=known.current,
            base=known.base,
            rank=facts.rank if facts is not None else 0,
            size_bytes=facts.size_bytes if facts is not None else 0,
            digest=known.digest,
            path=version.path,
            in_use=sum(it.users for _, it in kept),
            uses=hour.uses,
            hits=hour.hits,
            misses=hour.misses,
            evictions=hour.evictions,
            load_ms=_rounded(percentile(hour.loads, 0.5) if hour.loads else _last_load(it for _, it in kept)),
            tasks=ended.tasks,
            ok=ended.ok,
            tokens_out_p50=ended.tokens_out_p50,
            pinned=pin,
            processes=tuple(process for process, it in kept if it.state not in ("absent", "reading")),
            used_by=tuple(dict.fromkeys((*self._pools(follow), *running[:8]))),
            since_ms=since[-1].at_ms if since and known.current else version.at_ms,
            by=since[-1].by if since and known.current else version.by,
            note=_note(known, kept),
        )

    def named_by(self, known: Known) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The definitions that use this version: those that follow the current one (if it is that), and those that name it."""
        follow, pin = [], []
        for worker in self._catalogue.workers.values():
            names = {use.name for use in worker.adapters}
            if known.name in names:
                pin.append(worker.name)
            if known.current and known.adapter.name in names:
                follow.append(worker.name)
        return (*follow, *pin), tuple(pin)

    def _pools(self, definitions: tuple[str, ...]) -> list[str]:
        """Pools of these definitions; a definition without one stands for itself."""
        found = []
        for definition in definitions:
            pools = [pool.name for pool in self._catalogue.pools.values() if pool.definition == definition]
            found += pools or [definition]
        return found

    async def versions(self, name: str) -> list[AdapterVersion]:
        """An adapter's history, the newest version first. Raises adapter_not_found."""
        spelling = spelled(name)
        known = self._book.versions(spelling.name if spelling is not None else name)
        using, ever = self._using(), await self._ended.ever()
        found = []
        for it in reversed(known):
            ended = ever.get(it.name, Sum())
            found.append(
                AdapterVersion(
                    name=it.name,
                    version=it.version.n,
                    current=it.current,
                    state=self.row(it).state,
                    made_ms=it.version.at_ms,
                    by=it.version.by,
                    parent=it.version.parent,
                    digest=it.digest,
                    tasks=ended.tasks,
                    ok=ended.ok,
                    tokens_out_p50=ended.tokens_out_p50,
                    running=tuple(using.get(it.name, ())),
                    pinned=self.named_by(it)[1],
                    reigns=_reigns(it.adapter, it.version.n),
                    note=it.problem.message if it.problem is not None else "",
                )
            )
        return found

    def stats(self) -> list[CacheStats]:
        """One line a process."""
        self.look()
        now = self._clock.wall_ms()
        found = []
        for process, (model, note) in self._caches().items():
            hour = self.traffic.process(process)
            uses = note.hits + note.misses
            found.append(
                CacheStats(
                    id=process,
                    model=model,
                    entries=sum(it.state in ("resident", "pinned") for it in note.adapters),
                    max_entries=note.max_count,
                    bytes=note.resident_bytes,
                    max_bytes=note.max_bytes,
                    staged_bytes=note.staged_bytes,
                    hits=note.hits,
                    misses=note.misses,
                    prefetch_hits=note.prefetch_hits,
                    wasted=note.wasted,
                    evictions=note.evictions,
                    refusals=note.refusals,
                    loads=note.loads,
                    hit_rate=note.hits / uses if uses else None,
                    prefetch_rate=note.prefetch_hits / uses if uses else None,
                    load_ms_mean=_rounded(note.load_ms / note.loads if note.loads else None),
                    load_ms_p95=_rounded(percentile(hour.loads, 0.95)),
                    evictions_1h=hour.evictions,
                    misses_by_minute=self.traffic.misses_by_minute(process, now),
                )
            )
        return found

    def running_with_others(self, adapter: Adapter, number: int) -> tuple[str, ...]:
        """Tasks that run with another version of an adapter than this one."""
        using = self._using()
        others = (exact(adapter.name, version.n) for version in adapter.versions if version.n != number)
        return tuple(task for name in others for task in using.get(name, ()))


_WORDS = {"reading": "staged", "uploading": "staged"}
"""What goes on inside a cache for a moment, in the words of the table."""


def _kept_of(digest: str, caches: Caches) -> Iterable[tuple[str, CachedAdapter]]:
    for process, (_, note) in caches.items():
        for it in note.adapters:
            if digest and it.digest == digest:
                yield process, it


def _last_load(kept: Iterable[CachedAdapter]) -> float | None:
    return next((it.load_ms for it in kept if it.load_ms is not None), None)


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 1)


def _note(known: Known, kept: list[tuple[str, CachedAdapter]]) -> str:
    if known.problem is not None:
        # The row names the adapter and has its path: the reason comes first.
        return known.problem.message.removeprefix(f"adapter {known.version.path}").removeprefix(":").strip()
    holding = [process for process, it in kept if it.kept]
    return f"kept in {', '.join(holding)}" if holding else ""


def _reigns(adapter: Adapter, number: int) -> tuple[Reign, ...]:
    """The times in which a version was current, the latest last."""
    found = []
    for index, choice in enumerate(adapter.choices):
        if choice.n == number:
            following = adapter.choices[index + 1 : index + 2]
            to_ms = following[0].at_ms if following else None
            by = choice.by if choice.by != AUTOMATIC else "aiwm"
            found.append(Reign(from_ms=choice.at_ms, to_ms=to_ms, by=by, reason=choice.reason))
    return tuple(found)
