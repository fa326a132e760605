"""The book of fresh tasks: what starting a task needs, kept from its submit until its start if memory allows, else read again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec

from engine.contract.states import Durability
from engine.store.readers import Readers

_MAX_TASKS = 16_384
_MAX_BYTES = 16 * 2**20


class Brief(msgspec.Struct, frozen=True, gc=False):
    """What a start needs to know of a task. `payload` is its JSON, `deadline_ms` Unix time, `supervisor` the task's own."""

    queue: str
    payload: bytes
    durability: Durability
    deadline_ms: int | None
    template: str | None = None
    supervisor: str | None = None


class Book:
    """A bounded cache in front of the store. `read` answers None for a task that does not exist."""

    def __init__(self, read: Callable[[int], Brief | None]) -> None:
        self._read = read
        self._fresh: OrderedDict[int, Brief] = OrderedDict()
        self._bytes = 0

    def put(self, seq: int, brief: Brief) -> None:
        self._fresh[seq] = brief
        self._bytes += len(brief.payload)
        while len(self._fresh) > _MAX_TASKS or self._bytes > _MAX_BYTES:
            _, dropped = self._fresh.popitem(last=False)
            self._bytes -= len(dropped.payload)

    def drop(self, seq: int) -> None:
        """Its row is about to change: a start must read it again."""
        dropped = self._fresh.pop(seq, None)
        if dropped is not None:
            self._bytes -= len(dropped.payload)

    def take(self, seq: int) -> Brief | None:
        brief = self._fresh.pop(seq, None)
        if brief is None:
            return self._read(seq)
        self._bytes -= len(brief.payload)
        return brief


def stored_brief(readers: Readers, seq: int) -> Brief | None:
    """The brief of a task as the store has it; None for one that does not exist."""
    row, payload = readers.task(seq), readers.payload(seq)
    if row is None or payload is None:
        return None
    return Brief(row.queue, payload, Durability(row.durability), row.deadline_ms, row.template, row.supervisor)
