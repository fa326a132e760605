"""Windows on the tables `tasks`, `events` and `records`, read by aiosqlite on connections and threads of their own.

Opening or moving a window costs about the same in a table of a million rows as in one of a thousand: numbers without gaps are indexes
already, groups are counted before anybody asks, and what must be skipped is skipped inside an index."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.fields import is_wordy
from engine.contract.ids import task_seq
from engine.contract.query import Location, sort_records
from engine.contract.records import EventRow, RecordRow, TaskRow
from engine.store import plan, schema
from engine.store.adapters import Ran, ran_query
from engine.store.compile import Table
from engine.store.feeder import Feeder
from engine.store.journal import Journal
from engine.store.plan import COUNT_LIMIT, Filter, Order, Query
from engine.store.usage import Used, usage_query

if TYPE_CHECKING:
    from aiosqlite import Connection

MAX_SIZE = 10_000
_IN_LOOP = 500
"""So many rows are sorted in the loop; more are sorted in a thread."""


class Window(msgspec.Struct, frozen=True):
    """A window's rows in order from index `top`. `matched` rows pass the filter (`exact` False: at least so many), `total` there are;
    `faults` of the matching ones are broken, None when that is not known."""

    rows: list[TaskRow] | list[EventRow] | list[RecordRow]
    top: int
    matched: int
    exact: bool
    total: int
    faults: int | None


class Windows:
    """Reads windows. Quick reads and walks through many rows have a connection each, so that no walk holds up a quick read."""

    def __init__(self, path: Path, journal: Journal, feeder: Feeder) -> None:
        self._path = path
        self._journal = journal
        self._feeder = feeder
        self._connections: dict[str, Connection] = {}
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        async with self._opening:
            for connection in self._connections.values():
                await connection.close()
            self._connections.clear()

    async def _rows(self, query: Query, *, walk: bool = False) -> list[Any]:
        name = "walk" if walk else "quick"
        connection = self._connections.get(name) or await self._connect(name)
        return list(await connection.execute_fetchall(query.sql, query.parameters))

    async def _connect(self, name: str) -> Connection:
        import aiosqlite

        async with self._opening:
            if name not in self._connections:
                connection = aiosqlite.connect(schema.read_uri(self._path), uri=True, isolation_level=None)
                self._connections[name] = await connection
            return self._connections[name]

    async def read(self, sql: str, *parameters: Any) -> list[Any]:
        """Rows of any reading statement that may take long."""
        return await self._rows(Query(sql, parameters), walk=True)

    async def usage(self, by: str, since_ms: int | None = None, until_ms: int | None = None) -> list[Used]:
        """What tasks that ended in a time used, summed by a column of their records; the dearest first. Reads all these records."""
        query = usage_query(by, since_ms, until_ms)
        return [Used(*row) for row in await self._rows(query, walk=True)]

    async def ran(self, since_ms: int) -> list[Ran]:
        """How tasks that ended since then did under each adapter (or set of them)."""
        return [Ran(*row) for row in await self._rows(ran_query(since_ms), walk=True)]

    async def window(self, location: Location, top: int, size: int, now_ms: int) -> Window:
        """`size` rows from index `top` of the location's rows; fewer at the end, and `top` moves back when there are too few rows.

        Raises `too_many_rows` when the sort order has no index and more than 10,000 rows match."""
        size = max(0, min(size, MAX_SIZE))
        if any(term.field is not None and is_wordy(location.table, term.field) for term in location.conditions()):
            await self._feeder.catch_up()
        filter_ = self._filter(location, now_ms)
        order = plan.order_of(location)
        if location.around:
            return await self._neighbours(location, filter_, order, top, size)
        if filter_.rest is None:
            return await self._counted(location, filter_, order, top, size)
        return await self._searched(location, filter_, order, top, size)

    async def batch_members(self, name: str) -> list[tuple[int | None, int]]:
        """A batch's tasks: (place that the submit gave it, number) each, in no order."""
        query = Query(
            "SELECT json_extract(metadata, '$.index'), seq FROM tasks INDEXED BY tasks_batch WHERE batch = ?", (name,)
        )
        rows = await self._rows(query, walk=True)
        return [(row[0] if isinstance(row[0], int) else None, row[1]) for row in rows]

    def counts(self, location: Location, now_ms: int) -> tuple[int, bool, int, int | None] | None:
        """matched, exact, total and faults, if the counters know them; None if rows would have to be read."""
        filter_ = self._filter(location, now_ms)
        known = filter_.rest is None and not location.around
        return (filter_.rows, True, filter_.total, filter_.faults) if known else None

    def _filter(self, location: Location, now_ms: int) -> Filter:
        table_counts: Mapping[Any, int] = self._journal.counts()
        if location.table == "events":
            table_counts = {(level,): n for level, n in self._journal.event_counts().items()}
        elif location.table == "records":
            table_counts = {(state,): n for state, n in self._journal.record_counts().items()}
        return plan.filter_of(location, table_counts, now_ms)

    # A filter that the counters can count ----------------------------------------

    async def _counted(self, location: Location, filter_: Filter, order: Order, top: int, size: int) -> Window:
        top = _clamp(top, size, filter_.rows)
        found: list[int] = []
        if not filter_.rows:
            pass
        elif order.key == "seq" or (order.key is not None and filter_.rows > COUNT_LIMIT):
            found = await self._indexed(filter_, order, top, size)
        elif filter_.rows > COUNT_LIMIT:
            raise plan.too_many_rows(filter_.table)
        else:
            candidates = await self._candidates(filter_)
            return await self._sorted(location, filter_, order, candidates, top, size, faults=filter_.faults)
        return Window(await self._load(filter_.table, found), top, filter_.rows, True, filter_.total, filter_.faults)

    async def _indexed(self, filter_: Filter, order: Order, top: int, size: int) -> list[int]:
        """Numbers along an index, from whichever end is nearer."""
        if order.key == "seq" and filter_.rows == filter_.total:
            dense = await self._dense(filter_.table)
            if dense is not None:
                low, high = dense
                first = high - top if order.descending else low + top
                step = -1 if order.descending else 1
                return [seq for seq in range(first, first + step * size, step) if low <= seq <= high]
        behind = filter_.rows - top - size
        if behind < top:
            query = plan.numbers(filter_, order, max(0, behind), min(size, filter_.rows - top), reverse=True)
            return [row[0] for row in reversed(await self._rows(query))]
        return [row[0] for row in await self._rows(plan.numbers(filter_, order, top, size))]

    async def _dense(self, table: Table) -> tuple[int, int] | None:
        low, high, count = (await self._rows(plan.dense(table)))[0]
        return (low, high) if count and high - low + 1 == count else None

    # Matches with their neighbours ---------------------------------------------------

    async def _neighbours(self, location: Location, filter_: Filter, order: Order, top: int, size: int) -> Window:
        found, exact = await self._beside(location, filter_, order)
        top = _clamp(top, size, len(found))
        rows = await self._load(filter_.table, found[top : top + size])
        return Window(rows, top, len(found), exact, filter_.total, None)

    async def _beside(self, location: Location, filter_: Filter, order: Order) -> tuple[list[int], bool]:
        """Numbers of rows that match and of those beside them, in order; False when there are more. Rows have neighbours only in the
        order in which they came."""
        if order.key != "seq":
            raise AiwmError(
                Code.bad_location,
                "around: shows what came before and after, so it cannot be sorted by something else",
                field="location",
                fix="leave sort: or around: out",
            )
        reach = location.around or 0
        most = COUNT_LIMIT // (2 * reach + 1)
        hits = await self._candidates(filter_, order)
        near = {number for hit in hits[:most] for number in range(hit - reach, hit + reach + 1)}
        there = await self._rows(plan.among(filter_.table, _json(sorted(near))))
        return sorted((row[0] for row in there), reverse=order.descending), len(hits) <= most

    # A filter for which rows must be read ------------------------------------------

    async def _searched(self, location: Location, filter_: Filter, order: Order, top: int, size: int) -> Window:
        candidates = await self._candidates(filter_, order)
        matched = min(len(candidates), COUNT_LIMIT)
        exact = len(candidates) <= COUNT_LIMIT
        if exact:
            faults = (await self._rows(plan.faults_among(filter_.table, _json(candidates))))[0][0] if candidates else 0
            top = _clamp(top, size, matched)
            if order.key != "seq":
                return await self._sorted(location, filter_, order, candidates, top, size, faults=faults)
            found = candidates[top : top + size]
            return Window(await self._load(filter_.table, found), top, matched, True, filter_.total, faults)
        if order.key is None:
            raise plan.too_many_rows(filter_.table)
        return await self._far(filter_, order, candidates, top, size)

    async def _far(self, filter_: Filter, order: Order, candidates: list[int], top: int, size: int) -> Window:
        """A window among more rows than are counted, along an index."""
        matched, exact = COUNT_LIMIT, False
        if order.key == "seq" and top + size <= len(candidates):
            found = candidates[top : top + size]
        else:
            query = plan.numbers(filter_, order, top, size)
            found = [row[0] for row in await self._rows(query, walk=True)]
            if len(found) < size:
                # The window reaches beyond the last row: only now it matters where that is.
                exact = True
                matched = top + len(found) if found else (await self._rows(plan.count(filter_), walk=True))[0][0]
                if top > matched - size:
                    top = _clamp(top, size, matched)
                    query = plan.numbers(filter_, order, 0, min(size, matched), reverse=True)
                    found = [row[0] for row in reversed(await self._rows(query, walk=True))]
        if found:
            matched = max(matched, top + len(found))
        return Window(await self._load(filter_.table, found), top, matched, exact, filter_.total, None)

    async def _candidates(self, filter_: Filter, order: Order | None = None) -> list[int]:
        """Numbers of matching rows, at most one more than is counted; in the order of numbers."""
        if not filter_.groups:
            return []
        by_number = Order("seq", order.descending if order is not None and order.key == "seq" else True)
        query = plan.numbers(filter_, by_number, 0, COUNT_LIMIT + 1)
        return [row[0] for row in await self._rows(query, walk=filter_.rest is not None)]

    async def _sorted(
        self,
        location: Location,
        filter_: Filter,
        order: Order,
        candidates: list[int],
        top: int,
        size: int,
        *,
        faults: int,
    ) -> Window:
        if order.natural:
            found = await self._load(filter_.table, candidates)
            if len(found) > _IN_LOOP:
                ordered = await asyncio.to_thread(sort_records, location, found)
            else:
                ordered = sort_records(location, found)
            loaded = ordered[top : top + size]
        else:
            query = plan.sorted_among(filter_, order, _json(candidates), top, size)
            loaded = await self._load(filter_.table, [row[0] for row in await self._rows(query)])
        return Window(loaded, top, len(candidates), True, filter_.total, faults)

    async def _load(self, table: Table, seqs: list[int]) -> list[Any]:
        """The rows with these numbers, in this order; ones that are gone by now are left out."""
        if not seqs:
            return []
        found = {row[0]: table.make(row) for row in await self._rows(plan.rows_among(table, _json(seqs)))}
        return [found[seq] for seq in seqs if seq in found]

    # Where a row is ------------------------------------------------------------------

    async def index_of(self, location: Location, identifier: str, now_ms: int) -> int | None:
        """The index of a row in the location's order; None if it does not match, or too many rows would have to be sorted to know."""
        filter_ = self._filter(location, now_ms)
        order = plan.order_of(location)
        try:
            seq = task_seq(identifier) if location.table == "tasks" else int(identifier)
        except (AiwmError, ValueError):
            return None
        if location.around:
            found, _ = await self._beside(location, filter_, order)
            return found.index(seq) if seq in found else None
        if not filter_.groups or not await self._rows(plan.matching(filter_, seq)):
            return None
        if order.key == "seq":
            dense = await self._dense(filter_.table) if filter_.rest is None and filter_.rows == filter_.total else None
            if dense is not None:
                return dense[1] - seq if order.descending else seq - dense[0]
            return int((await self._rows(plan.count(filter_, plan.earlier(order, seq)), walk=True))[0][0])
        try:
            candidates = await self._candidates(filter_)
            if len(candidates) > COUNT_LIMIT:
                return None
            window = await self._sorted(location, filter_, order, candidates, 0, len(candidates), faults=0)
        except AiwmError as error:
            if error.code == Code.too_many_rows:
                return None
            raise
        return next((index for index, row in enumerate(window.rows) if row.id == identifier), None)


def _clamp(top: int, size: int, matched: int) -> int:
    """A window that would begin behind the last row is moved back to end with it."""
    return max(0, min(top, matched - size))


def _json(seqs: list[int]) -> str:
    return msgspec.json.encode(seqs).decode()
