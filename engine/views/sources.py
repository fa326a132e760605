"""Where windows come from: the store for tasks and events, memory for everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.query import Location
from engine.contract.records import Record, TaskRow
from engine.store.compile import TABLES
from engine.store.window import Window, Windows
from engine.views.diff import Shown, shown
from engine.views.memory import memory_index, memory_window

Reasons = Callable[[list[TaskRow]], list[TaskRow]]


class Looked:
    """A window as it was found. `records` are its task rows before the reasons were filled in, empty for other tables."""

    __slots__ = ("records", "shown")

    def __init__(self, found: Shown, records: list[TaskRow]) -> None:
        self.shown = found
        self.records = records


class Sources:
    """One way to look at any table."""

    def __init__(
        self, windows: Windows, tables: Mapping[str, Callable[[], Sequence[Record]]], clock: Clock, reasons: Reasons
    ) -> None:
        self._windows = windows
        self._tables = tables
        self._clock = clock
        self._reasons = reasons

    def stored(self, table: str) -> bool:
        """Whether the store has the table; otherwise it is in memory."""
        return table in TABLES

    async def look(self, location: Location, top: int, size: int) -> Looked:
        """The window from index `top`. Raises `too_many_rows`, or `bad_location` for a table that this engine does not have."""
        if not self.stored(location.table):
            return Looked(memory_window(location, self._records(location), top, size, self._clock.wall_ms()), [])
        window = await self._windows.window(location, top, size, self._clock.wall_ms())
        records = [row for row in window.rows if isinstance(row, TaskRow)]
        return Looked(self._filled(window, records), records)

    def _filled(self, window: Window, records: list[TaskRow]) -> Shown:
        return shown(
            self._reasons(records) if records else window.rows,
            top=window.top,
            matched=window.matched,
            total=window.total,
            exact=window.exact,
            faults=window.faults,
        )

    def with_reasons(self, before: Shown, records: list[TaskRow]) -> Shown:
        """The same window with today's reasons."""
        return shown(
            self._reasons(records),
            top=before.top,
            matched=before.matched,
            total=before.total,
            exact=before.exact,
            faults=before.faults,
        )

    def recount(self, location: Location, before: Shown) -> Shown | None:
        """The same rows with today's counts; None when only reading rows can tell them."""
        counts = self._windows.counts(location, self._clock.wall_ms())
        if counts is None:
            return None
        matched, exact, total, faults = counts
        return Shown(before.rows, before.top, matched, exact, total, faults)

    async def index_of(self, location: Location, identifier: str) -> int | None:
        now_ms = self._clock.wall_ms()
        if self.stored(location.table):
            return await self._windows.index_of(location, identifier, now_ms)
        return memory_index(location, self._records(location), identifier, now_ms)

    def _records(self, location: Location) -> Sequence[Record]:
        table = self._tables.get(location.table)
        if table is None:
            raise AiwmError(Code.bad_location, f"this engine has no table {location.table}", field="location")
        return table()
