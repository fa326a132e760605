"""Failed tasks by what they failed of, for NEEDS YOU: counted once, then kept by what each commit changed.

The list is looked at up to ten times a second while tasks fail, and counting ten thousand rows anew each time takes the event loop
several milliseconds. Nothing is read or kept while nobody looks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from engine.store.ops import ChangedTask
from engine.store.readers import FAILURES_LOOKED_AT, Readers

_FAILED: Final = "failed"
_REREAD: Final = 1_000
"""More changes than that between two looks, and counting anew is cheaper than following them."""


class Alike(NamedTuple):
    """Tasks that failed alike: fingerprint ("" where it is not known), error, how many `tasks`, when the first of them ended (Unix ms)."""

    fail: str
    error: str
    tasks: int
    since_ms: int


class _Group:
    """The tasks that failed of one thing, by number, with when each ended."""

    __slots__ = ("ended", "error", "fail", "first_ms")

    def __init__(self, fail: str, error: str) -> None:
        self.fail = fail
        self.error = error
        self.ended: dict[int, int] = {}
        self.first_ms: int | None = None

    def add(self, seq: int, ended_ms: int) -> None:
        self.ended[seq] = ended_ms
        if self.first_ms is not None and ended_ms < self.first_ms:
            self.first_ms = ended_ms

    def remove(self, seq: int) -> None:
        if self.ended.pop(seq) == self.first_ms:
            self.first_ms = None

    def since_ms(self) -> int:
        if self.first_ms is None:
            self.first_ms = min(self.ended.values())
        return self.first_ms


class FailedAlike:
    """What has failed since a time and is failed still. Of more than `FAILURES_LOOKED_AT` tasks the latest count: beyond that the numbers
    no longer matter, the cost does."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._since_ms: int | None = None
        self._groups: dict[str, _Group] = {}
        self._of: dict[int, str] = {}
        self._changed: set[int] = set()
        self._more = False

    def committed(self, changes: Iterable[ChangedTask]) -> None:
        """Tasks have failed, or are failed no longer."""
        if self._since_ms is None:
            return
        self._changed.update(it.seq for it in changes if _FAILED in (it.before, it.after))
        if len(self._changed) > _REREAD:
            self._forget()

    def since(self, since_ms: int, limit: int = 5) -> list[Alike]:
        """The most frequent ones first."""
        if self._since_ms == since_ms:
            self._follow(since_ms)
        # Of those beyond the bound nothing is known: they are looked at when half of the others are gone.
        if self._since_ms != since_ms or (self._more and len(self._of) < FAILURES_LOOKED_AT // 2):
            self._count(since_ms)
        most = sorted(self._groups.values(), key=lambda group: -len(group.ended))[:limit]
        return [Alike(group.fail, group.error, len(group.ended), group.since_ms()) for group in most]

    def _count(self, since_ms: int) -> None:
        self._forget()
        self._since_ms = since_ms
        found = self._readers.failures_since(since_ms)
        self._more = len(found) == FAILURES_LOOKED_AT
        groups, of = self._groups, self._of
        for seq, fail, error, ended_ms in reversed(found):
            of[seq] = key = fail or error
            group = groups.get(key)
            if group is None:
                group = groups[key] = _Group(fail, error)
            group.ended[seq] = ended_ms

    def _follow(self, since_ms: int) -> None:
        for seq in sorted(self._changed):
            key = self._of.pop(seq, None)
            if key is not None:
                self._remove(seq, key)
            row = self._readers.failure_of(seq)
            if row is not None and row[3] >= since_ms:
                self._add(*row)
        self._changed.clear()
        while len(self._of) > FAILURES_LOOKED_AT:
            oldest = next(iter(self._of))
            self._remove(oldest, self._of.pop(oldest))
            self._more = True

    def _add(self, seq: int, fail: str, error: str, ended_ms: int) -> None:
        key = fail or error
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(fail, error)
        group.add(seq, ended_ms)
        self._of[seq] = key

    def _remove(self, seq: int, key: str) -> None:
        group = self._groups[key]
        group.remove(seq)
        if not group.ended:
            del self._groups[key]

    def _forget(self) -> None:
        self._since_ms = None
        self._groups.clear()
        self._of.clear()
        self._changed.clear()
        self._more = False
