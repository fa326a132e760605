"""How many tasks of each queue waited during the last hour, in twenty pieces of three minutes: the sparkline of a row.

It is fed by the samples, and read back from them once after a start; while nothing moves nothing changes, and nothing is kept."""

from __future__ import annotations

from collections.abc import Callable

PIECES = 20
PIECE_MS = 180_000

Points = Callable[[str, int], list[tuple[int, float]]]
"""The points of a series since a time (Unix ms), oldest first."""


class Trends:
    """`stored` reads the points of `queue.NAME.waiting` that an earlier engine left."""

    def __init__(self, stored: Points) -> None:
        self._stored = stored
        self._most: dict[str, dict[int, int]] = {}

    def note(self, queue: str, at_ms: int, waiting: int) -> None:
        """So many wait now. What nobody asked for yet is not kept: the store has it."""
        known = self._most.get(queue)
        if known is not None:
            _add(known, at_ms, waiting)
            _forget(known, at_ms)

    def of(self, queue: str, now_ms: int, waiting: int) -> tuple[int, ...]:
        """The most that waited in each piece, the newest last; what is not known is what was before it, at first 0.
        Where nothing is known nothing moved: it was as now."""
        known = self._most.get(queue)
        last = now_ms // PIECE_MS
        if known is None:
            known = self._most[queue] = {}
            for at_ms, value in self._stored(queue, (last - PIECES + 1) * PIECE_MS):
                _add(known, at_ms, round(value))
        if not known:
            return (waiting,) * PIECES
        found: list[int] = []
        before = 0
        for piece in range(last - PIECES + 1, last + 1):
            before = known.get(piece, before)
            found.append(before)
        found[-1] = max(waiting, known.get(last, 0))
        return tuple(found)

    def keep(self, queues: set[str]) -> None:
        """Forget queues that are no more."""
        for gone in [queue for queue in self._most if queue not in queues]:
            del self._most[gone]


def _add(known: dict[int, int], at_ms: int, waiting: int) -> None:
    piece = at_ms // PIECE_MS
    known[piece] = max(waiting, known.get(piece, 0))


def _forget(known: dict[int, int], at_ms: int) -> None:
    """Keep the last hour, and the newest piece before it, which says what was until the next one."""
    oldest = at_ms // PIECE_MS - PIECES
    for piece in [piece for piece in known if piece < oldest]:
        del known[piece]
