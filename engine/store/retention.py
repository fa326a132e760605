"""What is deleted when it is old or there is too much of it: ended tasks, events, performance records, samples.

Little by little, through the journal like everything else, so that nobody waits for it and counters stay right."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError
from engine.contract.states import Durability, TaskState
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers
from engine.store.window import Windows

BLOCK: Final = 500
"""Rows deleted in one transaction."""
_HEAD: Final = 2 * BLOCK
"""Rows looked at for old ones, from the oldest number on. What lies behind them is looked at when these are gone."""
_EVERY_S: Final = 60.0
_PAUSE_S: Final = 0.05
_DAY_MS: Final = 86_400_000
SAMPLE_AGES_MS: Final = ((1_000, 600_000), (10_000, _DAY_MS), (300_000, 90 * _DAY_MS))
"""How long points are kept, by step."""

_log = logging.getLogger(__name__)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long things are kept, in days, and how many of each. 0: for ever, and any number."""

    events_days: int = 30
    records_days: int = 30
    tasks_days: int = 30
    max_rows: int = 1_000_000


class Retention:
    """Deletes once a minute what need not be kept. `queue_ms` answers a queue's own retention of ended tasks in ms, None for none;
    `before_records` is awaited before performance records are deleted, so that what they sum up to is kept."""

    def __init__(
        self,
        journal: Journal,
        readers: Readers,
        windows: Windows,
        clock: Clock,
        limits: Limits,
        queue_ms: Callable[[str], int | None],
        before_records: Callable[[], Awaitable[None]],
    ) -> None:
        self._journal = journal
        self._readers = readers
        self._windows = windows
        self._clock = clock
        self._limits = limits
        self._queue_ms = queue_ms
        self._before_records = before_records
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
            except AiwmError as error:
                _log.warning("old rows could not be deleted: %s", error)
            except Exception:
                # A read that failed once (a full disk, an I/O error) must not keep everything from then on.
                _log.exception("old rows could not be deleted")
            await asyncio.sleep(_EVERY_S)

    async def sweep(self) -> int:
        """Delete everything that need not be kept now; how many rows that were, samples not counted."""
        deleted = 0
        for step in (self._old_tasks, self._many_tasks, self._events, self._records):
            while count := await step():
                deleted += count
                await asyncio.sleep(_PAUSE_S)
        await self._samples()
        return deleted

    # Tasks -------------------------------------------------------------------

    async def _old_tasks(self) -> int:
        now = self._clock.wall_ms()
        seqs: list[int] = []
        for (queue, state), count in list(self._journal.counts().items()):
            keep = self._queue_ms(queue)
            keep = self._limits.tasks_days * _DAY_MS if keep is None else keep
            if count <= 0 or not TaskState(state).ended or not keep:
                continue
            rows = await self._windows.read(
                "SELECT seq FROM (SELECT seq, ended_ms FROM tasks INDEXED BY tasks_state WHERE queue = ? AND state = ?"
                " ORDER BY seq LIMIT ?) WHERE ended_ms < ? LIMIT ?",
                queue, state, _HEAD, now - keep, BLOCK - len(seqs),
            )  # fmt: skip
            seqs += [row[0] for row in rows]
            if len(seqs) >= BLOCK:
                break
        return await self._delete(seqs)

    async def _many_tasks(self) -> int:
        ended = sum(count for (_, state), count in self._journal.counts().items() if TaskState(state).ended)
        excess = ended - self._limits.max_rows if self._limits.max_rows else 0
        if excess <= 0:
            return 0
        rows = await self._windows.read(
            "SELECT seq FROM tasks INDEXED BY tasks_ended WHERE ended_ms IS NOT NULL ORDER BY ended_ms LIMIT ?",
            min(BLOCK, excess),
        )
        return await self._delete([row[0] for row in rows])

    async def _delete(self, seqs: list[int]) -> int:
        if seqs:
            await self._journal.write((ops.DeleteTasks(tuple(seqs)),), Durability.os)
        return len(seqs)

    # Events and records --------------------------------------------------------

    async def _events(self) -> int:
        count = sum(self._journal.event_counts().values())
        before = await self._before("events", "at_ms", self._limits.events_days, count)
        return await self._prune(ops.PruneEvents(before), before, self._journal.event_counts, count)

    async def _records(self) -> int:
        count = sum(self._journal.record_counts().values())
        before = await self._before("records", "ended_ms", self._limits.records_days, count)
        if before:
            await self._before_records()
        return await self._prune(ops.PruneRecords(before), before, self._journal.record_counts, count)

    async def _before(self, table: str, column: str, days: int, count: int) -> int:
        """The number below which rows need not be kept, among the first ones. The newest row stays: it says which number is next."""
        excess = count - self._limits.max_rows if self._limits.max_rows else 0
        limit = min(_HEAD, count - 1)
        if limit <= 0:
            return 0
        oldest = self._clock.wall_ms() - days * _DAY_MS if days else -1
        rows = await self._windows.read(
            f"SELECT coalesce(max(seq), -1) + 1 FROM (SELECT seq, {column} AS at, row_number() OVER (ORDER BY seq) AS place"
            f" FROM {table} ORDER BY seq LIMIT ?) WHERE at < ? OR place <= ?",
            limit, oldest, excess,
        )  # fmt: skip
        return int(rows[0][0])

    async def _prune(self, op: ops.Op, before: int, counts: Callable[[], dict[str, int]], count: int) -> int:
        if not before:
            return 0
        await self._journal.write((op,), Durability.os)
        return max(0, count - sum(counts().values()))

    # Samples -------------------------------------------------------------------

    async def _samples(self) -> None:
        now = self._clock.wall_ms()
        entry = [
            ops.PruneSamples(series, step_ms, now - age_ms)
            for series in self._readers.series()
            for step_ms, age_ms in SAMPLE_AGES_MS
            if self._readers.has_samples_before(series, step_ms, now - age_ms)
        ]
        if entry:
            await self._journal.write(entry, Durability.os)
