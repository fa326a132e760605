"""A bounded, ordered window onto rows that are on disk: the first ones in memory, the rest by page."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Generic, TypeVar

from engine.scheduling.inputs import BOTTOM, Key

T = TypeVar("T")


class Window(Generic[T]):
    """The smallest rows of an order that may be far longer than memory.

    Invariant: every row of the order with a key up to `edge` is here (`edge` None: every row there is); rows beyond the edge are on disk
    only. A row is (key, seq, item); at most `limit` are held. Adding, taking the first and removing cost O(log limit) comparisons and
    a memmove of at most `limit` pointers, whatever is on disk."""

    __slots__ = ("_head", "_page", "_rows", "beyond", "edge", "late", "limit", "load", "missed")

    def __init__(self, limit: int, *, unknown: bool = False) -> None:
        """`unknown`: rows may be on disk that nobody told of, so begin with a page."""
        self._rows: list[tuple[int, int, T]] = []
        self._head = 0
        self.limit = limit
        self.edge: Key | None = BOTTOM if unknown else None
        self.load = 0  # the number of the page that is being read, 0 for none
        # Pages start small, for an order that is only looked at, and double up to half the window while its rows are used up.
        self._page = max(1, limit >> 4)
        # A row that began to wait during that read may be missing in its snapshot: it is kept here until the page arrives.
        self.late: list[tuple[int, int, T]] = []
        self.missed: Key | None = None  # the smallest key of those that `late` had no room for
        self.beyond = 0  # how many rows are on disk only, as far as known

    def __len__(self) -> int:
        return len(self._rows) - self._head

    def first(self) -> tuple[int, int, T] | None:
        rows = self._rows
        return rows[self._head] if self._head < len(rows) else None

    def rows(self) -> list[tuple[int, int, T]]:
        """A copy of the rows in memory, in order."""
        return self._rows[self._head :]

    def head(self, count: int) -> list[tuple[int, int, T]]:
        """A copy of the first rows, at most so many."""
        return self._rows[self._head : self._head + count]

    def pop(self) -> tuple[int, int, T]:
        """Take the first row; there must be one."""
        rows, head = self._rows, self._head
        row = rows[head]
        head += 1
        # Moving the list for every row would cost limit pointers each; moving it when half is used up costs one or two.
        if head == len(rows):
            rows.clear()
            head = 0
        elif head > 32 and head + head > len(rows):
            del rows[:head]
            head = 0
        self._head = head
        return row

    def add(self, row: tuple[int, int, T]) -> tuple[int, int, T] | None:
        """Add a row; returns the one that is left to the disk: this row, the last one here, or None."""
        edge = self.edge
        if edge is not None and row[:2] > edge:
            self.beyond += 1
            if self.load:
                if len(self.late) < self.limit:
                    self.late.append(row)
                elif self.missed is None or row[:2] < self.missed:
                    self.missed = row[:2]
            return row
        rows = self._rows
        if not rows or rows[-1] < row:
            rows.append(row)
        else:
            insort(rows, row, self._head)
        if len(rows) - self._head <= self.limit:
            return None
        last = rows.pop()
        self.edge = rows[-1][:2]
        self.beyond += 1
        # The page that is under way starts after the old edge; what lies between the two would be missed.
        self.drop_load()
        return last

    def remove(self, key: int, seq: int) -> bool:
        """Take this row out; False if it is not in memory."""
        at = self._find(key, seq)
        if at >= 0:
            del self._rows[at]
        return at >= 0

    def holds(self, key: int, seq: int) -> bool:
        """Whether this row is in memory."""
        return self._find(key, seq) >= 0

    def before(self, key: int, seq: int) -> int:
        """How many rows in memory come before this place."""
        return bisect_left(self._rows, (key, seq), self._head) - self._head

    def _find(self, key: int, seq: int) -> int:
        # (key, seq) sorts right before (key, seq, item).
        at = bisect_left(self._rows, (key, seq), self._head)
        return at if at < len(self._rows) and self._rows[at][:2] == (key, seq) else -1

    def wants_page(self) -> bool:
        return self.edge is not None and not self.load and len(self) <= self._page >> 1

    def begin_load(self, load: int) -> tuple[Key, int]:
        """A page is asked for under this number; returns the key to start after and how many rows to read."""
        assert self.edge is not None
        self.load = load
        size = self._page
        self._page = max(1, min(self.limit >> 1, size << 1))
        return self.edge, size

    def end_load(self, count: int, edge: Key | None) -> list[tuple[int, int, T]]:
        """A page of `count` rows arrived, `edge` is its last key or None if nothing follows. Returns the late rows; the caller adds the
        page's rows and then these, leaving out those it knows already."""
        late = self.late
        if self.missed is not None:
            before = (self.missed[0], self.missed[1] - 1)
            edge = before if edge is None else min(edge, before)
        self.beyond = 0 if edge is None else max(0, self.beyond - count - len(late))
        self.edge = edge
        self.drop_load()
        return late

    def forget(self) -> list[tuple[int, int, T]]:
        """Leave every row to the disk; returns those that were in memory."""
        rows = self.rows()
        self._rows, self._head = [], 0
        self._page = max(1, self.limit >> 4)
        self.edge = BOTTOM
        self.beyond += len(rows)
        self.drop_load()
        return rows

    def drop_load(self) -> None:
        """Whatever page is under way does not count; the next one sees the late rows too."""
        self.load = 0
        self.late = []
        self.missed = None
