"""Small things that this room remembers over restarts: crashes, what loads took, what somebody keeps."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import msgspec

from engine.clock import Clock
from engine.contract.states import Durability
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers

Thing = TypeVar("Thing")
_MOST = 1_000


class Shelf(Protocol):
    """Things by kind and key; `ref` is what each is about."""

    def put(self, kind: str, key: str, ref: str, value: Any) -> None: ...
    def drop(self, kind: str, key: str) -> None: ...
    def of(self, kind: str, ref: str | None, type: type[Thing]) -> list[tuple[str, Thing]]: ...


class StoredShelf:
    """A shelf in the engine's database. What was just put is found again at once, also before it is on disk."""

    def __init__(self, journal: Journal, readers: Readers, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._readers = readers
        self._known: dict[str, dict[str, tuple[str, bytes]]] = {}

    def put(self, kind: str, key: str, ref: str, value: Any) -> None:
        encoded = msgspec.json.encode(value)
        self._kind(kind)[key] = (ref, encoded)
        self._write(ops.PutDocument(kind, key, ref, self._clock.wall_ms(), encoded))

    def drop(self, kind: str, key: str) -> None:
        if self._kind(kind).pop(key, None) is not None:
            self._write(ops.DeleteDocument(kind, key))

    def of(self, kind: str, ref: str | None, type: type[Thing]) -> list[tuple[str, Thing]]:
        """(key, thing) of a kind, about `ref` or all."""
        return [
            (key, msgspec.json.decode(value, type=type))
            for key, (about, value) in self._kind(kind).items()
            if ref is None or about == ref
        ]

    def _kind(self, kind: str) -> dict[str, tuple[str, bytes]]:
        known = self._known.get(kind)
        if known is None:
            found = self._readers.documents(kind, limit=_MOST, newest_first=False)
            known = self._known[kind] = {it.key: (it.ref, it.json) for it in found}
        return known

    def _write(self, op: ops.Op) -> None:
        written = self._journal.write((op,), Durability.os)
        # Without storage it is remembered until this engine ends.
        written.add_done_callback(lambda done: done.cancelled() or done.exception())
