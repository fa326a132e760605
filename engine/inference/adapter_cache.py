"""Which adapters stay ready in a model process: the least recently used leave first, within a count and a size.

    absent → reading → staged → uploading → resident → pinned
             (file)    (host)   (room is    (ready)    (running requests use it)
                                 taken)

Pure bookkeeping: it keeps states, counts and the order of use, and says who would have to leave. `adapter_loads` reads, uploads and
drops. Everything is known by its content's digest, so two names of one adapter are one, and a changed file is another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from engine.contract.errors import AiwmError, Code
from engine.inference.protocol import AdapterState, CachedAdapter, CacheNote

REMEMBERED = 64  # adapters that are absent and whose counts are still known


@dataclass(slots=True)
class Entry:
    """`size` is what it takes of the cache, `staged_size` what its files take of the host's memory while it is staged. `untouched`: a
    prefetch brought it, and no request has used it yet."""

    digest: str
    name: str
    state: AdapterState = "absent"
    size: int = 0
    staged_size: int = 0
    users: int = 0
    kept: bool = False
    untouched: bool = False
    hits: int = 0
    misses: int = 0
    prefetch_hits: int = 0
    evictions: int = 0
    load_ms: float | None = None


class AdapterCache:
    """At most `max_count` adapters of `max_bytes` together are resident or on their way there; sizes in bytes. Staged ones beyond
    `staged_bytes` are in `excess`."""

    def __init__(self, max_count: int = 0, max_bytes: int = 0, staged_bytes: int = 0) -> None:
        self.max_count, self.max_bytes, self.max_staged = max_count, max_bytes, staged_bytes
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # least recently used first
        self._count = self._bytes = self._staged = 0
        self._hits = self._misses = self._prefetch_hits = self._wasted = self._evictions = self._refusals = 0
        self._loads = self._loaded_bytes = 0
        self._load_ms = 0.0
        self.version = 0  # grows with every change

    # -- what is there ---------------------------------------------------------------------------------------------------

    def state(self, digest: str) -> AdapterState:
        entry = self._entries.get(digest)
        return "absent" if entry is None else entry.state

    def name(self, digest: str) -> str:
        """The name by which it was last asked for."""
        return self._entries[digest].name

    def size(self, digest: str) -> int:
        """What it takes, or will take, of the cache; 0 before its files were read."""
        entry = self._entries.get(digest)
        return 0 if entry is None else entry.size

    def ready(self) -> tuple[str, ...]:
        """Those that requests may use at once, least recently used first."""
        return tuple(e.digest for e in self._entries.values() if e.state in ("resident", "pinned"))

    @property
    def total_bytes(self) -> int:
        return self._bytes

    @property
    def staged_bytes(self) -> int:
        return self._staged

    def note(self) -> CacheNote:
        entries = sorted(self._entries.values(), key=lambda entry: entry.state != "absent")
        return CacheNote(
            hits=self._hits,
            misses=self._misses,
            prefetch_hits=self._prefetch_hits,
            wasted=self._wasted,
            evictions=self._evictions,
            refusals=self._refusals,
            loads=self._loads,
            loaded_bytes=self._loaded_bytes,
            load_ms=self._load_ms,
            resident_bytes=self._bytes,
            staged_bytes=self._staged,
            max_count=self.max_count,
            max_bytes=self.max_bytes,
            adapters=tuple(_shown(entry) for entry in entries),
        )

    # -- who has to leave ------------------------------------------------------------------------------------------------

    def room_for(self, digest: str, protected: Collection[str]) -> list[str] | None:
        """Who must leave before this staged adapter can become resident; None if it cannot now, because what remains is used, kept, on
        its way or `protected`."""
        size = self._entries[digest].size
        leaving = []
        count, total = self._count, self._bytes
        for entry in self._entries.values():
            if count < self.max_count and total + size <= self.max_bytes:
                break
            if entry.state == "resident" and not entry.kept and entry.digest not in protected:
                leaving.append(entry.digest)
                count, total = count - 1, total - entry.size
        return leaving if count < self.max_count and total + size <= self.max_bytes else None

    def has_room(self, digest: str) -> bool:
        """Whether this staged adapter fits without anybody leaving."""
        return self._count < self.max_count and self._bytes + self._entries[digest].size <= self.max_bytes

    def excess(self, wanted: Collection[str]) -> list[str]:
        """The staged adapters, oldest first, that must go for the staged ones to keep within their bound. Those of `wanted` stay."""
        over = self._staged - self.max_staged
        going = []
        for entry in self._entries.values():
            if over <= 0:
                break
            if entry.state == "staged" and entry.digest not in wanted:
                going.append(entry.digest)
                over -= entry.staged_size
        return going

    def check_size(self, name: str, size: int) -> None:
        """Raises adapter_invalid for an adapter that could never fit."""
        if size > self.max_bytes or self.max_count < 1:
            raise AiwmError(
                Code.adapter_invalid,
                f"adapter {name} takes {size} bytes, the adapter cache holds {self.max_count} of {self.max_bytes} together",
                field="adapters",
                fix="use an adapter of lower rank, or raise models.adapter_bytes",
            )

    def check_together(self, digests: Collection[str]) -> None:
        """Raises bad_request when adapters of one request can never be resident at once, as far as their sizes are known."""
        kept = {entry.digest for entry in self._entries.values() if entry.kept} - set(digests)
        count, size = len(digests) + len(kept), sum(map(self.size, (*digests, *kept)))
        if count > self.max_count or size > self.max_bytes:
            beside = f" beside {len(kept)} that are kept" if kept else ""
            raise AiwmError(
                Code.bad_request,
                f"a request uses {len(digests)} adapters{beside}; the adapter cache holds {self.max_count} of"
                f" {self.max_bytes} bytes together",
                field="adapters",
                fix="evict adapters that are kept" if kept else "use fewer adapters at once",
            )

    def check_keep(self, digests: Iterable[str]) -> None:
        """Raises bad_request if keeping these too would leave no place for any other."""
        kept = {entry.digest for entry in self._entries.values() if entry.kept} | set(digests)
        if len(kept) >= self.max_count:
            raise AiwmError(
                Code.bad_request,
                f"{len(kept)} adapters would be kept; the adapter cache holds {self.max_count}, and one place stays free",
                field="adapters",
                fix="evict adapters that are kept, or raise models.adapter_slots",
            )

    # -- the way of an adapter ---------------------------------------------------------------------------------------------

    def read(self, digest: str, name: str, *, prefetched: bool) -> None:
        """absent → reading: its files are going to be read."""
        entry = self._known(digest, name)
        self._move(entry, ("absent",), "reading")
        entry.untouched = prefetched
        self._entries.move_to_end(digest)

    def stage(self, digest: str, staged_size: int, size: int) -> None:
        """reading → staged: it is in the host's memory."""
        entry = self._entries[digest]
        self._move(entry, ("reading",), "staged")
        entry.size, entry.staged_size = size, staged_size
        self._staged += staged_size

    def place(self, digest: str) -> None:
        """staged → uploading: it takes its room. There must be some: see `room_for`."""
        entry = self._entries[digest]
        self._move(entry, ("staged",), "uploading")
        self._staged -= entry.staged_size
        self._count, self._bytes = self._count + 1, self._bytes + entry.size
        assert self._count <= self.max_count
        assert self._bytes <= self.max_bytes

    def arrive(self, digest: str, ms: float) -> None:
        """uploading → resident, after so much work on it."""
        entry = self._entries[digest]
        self._move(entry, ("uploading",), "resident")
        entry.load_ms = ms
        self._loads, self._loaded_bytes, self._load_ms = (
            self._loads + 1,
            self._loaded_bytes + entry.size,
            self._load_ms + ms,
        )

    def keep(self, digest: str, keep: bool = True) -> None:
        """Only `leave` removes a kept one; `room_for` never names it."""
        self._entries[digest].kept = keep
        self.version += 1

    def refuse(self, digest: str) -> None:
        """reading or uploading → absent: it cannot be loaded."""
        entry = self._entries[digest]
        if entry.state == "uploading":
            self._count, self._bytes = self._count - 1, self._bytes - entry.size
        self._move(entry, ("reading", "uploading"), "absent")
        entry.untouched = False
        self._refusals += 1
        self._forget_oldest()

    def leave(self, digest: str) -> None:
        """resident → absent."""
        entry = self._entries[digest]
        self._move(entry, ("resident",), "absent")
        self._count, self._bytes = self._count - 1, self._bytes - entry.size
        entry.kept = False
        entry.evictions += 1
        self._evictions += 1
        self._gone(entry)

    def drop(self, digest: str) -> None:
        """reading or staged → absent: nobody wants it any more, or there is no memory for it."""
        entry = self._entries[digest]
        if entry.state == "staged":
            self._staged -= entry.staged_size
        self._move(entry, ("reading", "staged"), "absent")
        self._gone(entry)

    def pin(self, digest: str, name: str, *, waited: bool) -> None:
        """A request that uses it runs now; `waited` says that it was not ready when the request's turn came."""
        entry = self._known(digest, name)
        self._move(entry, ("resident", "pinned"), "pinned")
        entry.users += 1
        if waited:
            entry.misses += 1
            self._misses += 1
        else:
            entry.hits += 1
            self._hits += 1
            entry.prefetch_hits += entry.untouched
            self._prefetch_hits += entry.untouched
        entry.untouched = False
        self._entries.move_to_end(digest)

    def unpin(self, digest: str) -> None:
        """The request has ended."""
        entry = self._entries[digest]
        entry.users -= 1
        self._move(entry, ("pinned",), "pinned" if entry.users else "resident")
        self._entries.move_to_end(digest)

    # -- upkeep ------------------------------------------------------------------------------------------------------------

    def _known(self, digest: str, name: str) -> Entry:
        entry = self._entries.get(digest)
        if entry is None:
            entry = self._entries[digest] = Entry(digest, name)
        entry.name = name
        return entry

    def _move(self, entry: Entry, before: tuple[AdapterState, ...], after: AdapterState) -> None:
        assert entry.state in before, f"adapter {entry.name} is {entry.state}, not {before}"
        entry.state = after
        self.version += 1

    def _gone(self, entry: Entry) -> None:
        self._wasted += entry.untouched
        entry.untouched = False
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        absent = [entry.digest for entry in self._entries.values() if entry.state == "absent"]
        for digest in absent[: max(0, len(absent) - REMEMBERED)]:
            del self._entries[digest]


def _shown(entry: Entry) -> CachedAdapter:
    return CachedAdapter(
        digest=entry.digest,
        name=entry.name,
        state=entry.state,
        size_bytes=entry.size,
        users=entry.users,
        kept=entry.kept,
        hits=entry.hits,
        misses=entry.misses,
        prefetch_hits=entry.prefetch_hits,
        evictions=entry.evictions,
        load_ms=entry.load_ms,
    )
