"""What the journal's thread remembers of tasks between batches."""

from __future__ import annotations

from typing import Final

import msgspec

ENDED = frozenset({"completed", "failed", "cancelled"})
GONE: Final = "gone"
"""The state, within a batch, of a task that the batch deletes: no fence lets it pass."""
_FORGOTTEN = ENDED | {GONE}
_KNOWN_LIMIT: Final = 65_536


class Known(msgspec.Struct, frozen=True, gc=False):
    """What the journal remembers of a task that may change again soon."""

    queue: str
    state: str
    epoch: int
    attempt: int


class Memory:
    """Tasks recently written, by number: what fences and counters need without reading the row again. Bounded; only committed states.

    `indexed` is the highest number whose payload is in the word index."""

    def __init__(self, indexed: int = 0) -> None:
        self._known: dict[int, Known] = {}
        self.indexed = indexed

    def get(self, seq: int) -> Known | None:
        return self._known.get(seq)

    def update(self, changed: dict[int, Known]) -> None:
        known = self._known
        for seq, state in changed.items():
            known.pop(seq, None)
            if state.state not in _FORGOTTEN:
                known[seq] = state
        while len(known) > _KNOWN_LIMIT:
            del known[next(iter(known))]

    def clear(self) -> None:
        self._known.clear()
