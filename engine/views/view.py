"""One open view: what it shows, how stale that is, and when it is looked at again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from engine.contract.errors import AiwmError, Code
from engine.contract.notifications import ViewChanged
from engine.contract.query import Location
from engine.contract.records import TaskRow
from engine.contract.requests.session import ViewRows
from engine.store.commit import CommittedBatch
from engine.store.plan import COUNT_LIMIT
from engine.views.diff import Shown, difference
from engine.views.pace import SHORTEST_S, Pace
from engine.views.relevance import Frame, Interest, Stale, appended_stale, depends_on_time, frame, tasks_stale
from engine.views.sources import Sources

Send = Callable[[ViewChanged], bool]

_SLOW_S = 5.0
_REASONS_S = 1.0
_TROUBLE_S = 1.0
_ANYWHERE = Frame(frozenset(), 0, 0, False)
_WAITING = frozenset({"pending", "scheduled", "retrying"})

_log = logging.getLogger(__name__)


class View:
    """A live window of one client. Runs only when something may have changed: one timer at most, none when it is up to date."""

    def __init__(
        self,
        name: str,
        client: int,
        location: Location,
        size: int,
        send: Send,
        sources: Sources,
        pace: Pace,
        every_s: float = 0.0,
    ) -> None:
        """`every_s`: so long at least lies between two changes that are sent."""
        self.name = name
        self.client = client
        self.location = location
        self._size = size
        self._send = send
        self._sources = sources
        self._pace = pace
        self._every_s = every_s
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._shown = Shown({})
        self._records: list[TaskRow] = []
        self._seq = 0
        self._stale = Stale.fresh
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._slow: dict[Stale, asyncio.TimerHandle] = {}
        self._looking: asyncio.Task[None] | None = None
        self._closed = False
        stored = sources.stored(location.table)
        self._interest = Interest.of(location) if stored else None
        self._frame = _ANYWHERE

    # What a client asks --------------------------------------------------------

    async def open(self, top: int) -> ViewRows:
        """Look for the first time."""
        return await self.move(top, None, None)

    async def move(self, top: int | None, size: int | None, anchor: str | None) -> ViewRows:
        """Look somewhere else. With an anchor the window moves so far that the row is inside."""
        async with self._lock:
            size = self._size if size is None else size
            top = self._shown.top if top is None else top
            stale, self._stale = self._stale, Stale.fresh
            try:
                if anchor is not None:
                    top = _around(top, size, await self._sources.index_of(self.location, anchor))
                await self._look(top, size)
            except BaseException:
                self.mark(max(stale, self._stale))
                raise
            self._slowly()
            return self._answer()

    def close(self) -> None:
        self._closed = True
        for timer in (self._timer, *self._slow.values()):
            if timer is not None:
                timer.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def _answer(self) -> ViewRows:
        return ViewRows(
            view=self.name,
            seq=self._seq,
            location=str(self.location),
            table=self.location.table,
            rows=list(self._shown.rows.values()),
            top=self._shown.top,
            matched=self._shown.matched,
            total=self._shown.total,
            matched_exact=self._shown.exact,
            faults=self._shown.faults,
        )

    # What happens around it --------------------------------------------------------

    def committed(self, batch: CommittedBatch) -> None:
        """A batch is on disk: is the window touched?"""
        if self._interest is None or self._stale is Stale.rows:
            return
        if self._interest.table == "tasks":
            self.mark(tasks_stale(self._interest, self._frame, batch.changed))
        elif self._interest.table == "events":
            self.mark(appended_stale(self._interest, self._frame, batch.event_counts))
        elif batch.rated:
            self.mark(Stale.rows)
        else:
            self.mark(appended_stale(self._interest, self._frame, batch.record_counts))

    def mark(self, stale: Stale) -> None:
        """Something may look different; it is looked at as soon as the pace allows."""
        if stale <= self._stale or self._closed:
            return
        self._stale = stale
        if self._timer is None and self._looking is None:
            self._timer = self._loop.call_at(max(self._due, self._loop.time()), self._start)

    def _start(self) -> None:
        self._timer = None
        self._looking = self._loop.create_task(self._refresh())

    async def _refresh(self) -> None:
        wait = SHORTEST_S
        try:
            async with self._lock:
                wait = await self._catch_up()
        except asyncio.CancelledError:
            raise
        except Exception:
            # A view that cannot be read keeps what it shows and tries again; the cause stands in the log.
            _log.exception("view %s (%s) could not be refreshed", self.name, self.location)
            wait = _TROUBLE_S
            self._stale = Stale.rows
        finally:
            self._looking = None
        if self._closed:
            return
        self._due = self._loop.time() + wait
        if self._stale is not Stale.fresh:
            self._timer = self._loop.call_at(self._due, self._start)
        self._slowly()

    async def _catch_up(self) -> float:
        """Look, and say what changed. The answer is how long to wait before the next look."""
        stale, self._stale = self._stale, Stale.fresh
        if stale is Stale.fresh:
            return 0.0
        before, before_records, before_frame = self._shown, self._records, self._frame
        began = self._loop.time()
        await self._look_again(stale)
        wait = self._pace.spent(self.name, self._loop.time() - began, self._loop.time())
        change = difference(self.name, self._seq + 1, before, self._shown)
        if change is not None:
            if self._send(change):
                self._seq += 1
                wait = max(wait, self._every_s)
            else:
                # The client is congested: what it has is still what it had.
                self._shown, self._records, self._frame = before, before_records, before_frame
                self._stale = max(stale, self._stale)
        return wait

    async def _look_again(self, stale: Stale) -> None:
        counted = self._sources.recount(self.location, self._shown) if stale is Stale.counts else None
        if stale is Stale.reasons or counted is not None:
            shown = counted or self._shown
            self._shown = self._sources.with_reasons(shown, self._records) if self._records else shown
            return
        try:
            await self._look(self._shown.top, self._size)
        except AiwmError as error:
            if error.code != Code.too_many_rows:
                raise
            # It was not so when the view was opened: the rows stay, the client is told that there are too many to go on sorting.
            shown = self._shown
            self._shown = Shown(shown.rows, shown.top, max(COUNT_LIMIT, shown.matched), False, shown.total, None)

    async def _look(self, top: int, size: int) -> None:
        # Until it is known what the window shows, whatever is committed may be in it.
        self._frame = _ANYWHERE
        looked = await self._sources.look(self.location, top, size)
        self._size = size
        self._shown, self._records = looked.shown, looked.records
        if self._interest is not None:
            self._frame = frame(self._shown.rows, self._interest.table, size)

    def _slowly(self) -> None:
        """Some rows change by the clock alone: reasons of waiting tasks, filters by age. They are looked at now and then."""
        if any(row.state in _WAITING for row in self._records):
            self._later(_REASONS_S, Stale.reasons)
        if depends_on_time(self.location):
            self._later(_SLOW_S, Stale.rows)

    def _later(self, seconds: float, stale: Stale) -> None:
        if stale not in self._slow and not self._closed:
            self._slow[stale] = self._loop.call_later(seconds, self._slowly_due, stale)

    def _slowly_due(self, stale: Stale) -> None:
        del self._slow[stale]
        self.mark(stale)


def _around(top: int, size: int, index: int | None) -> int:
    """Where a window begins that has row `index` inside: where it did if it has, else with the row in its middle."""
    if index is None or top <= index < top + size:
        return top
    return max(0, index - size // 2)
