"""All open views: opened, moved and closed by clients, told of commits by the journal and of everything else by `touch`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.query import Location, parse
from engine.contract.records import Record
from engine.contract.requests.session import ViewMove, ViewOpen, ViewRead, ViewRows
from engine.store.commit import CommittedBatch
from engine.store.store import Store
from engine.views.pace import Pace
from engine.views.relevance import Stale
from engine.views.sources import Reasons, Sources
from engine.views.view import Send, View

MAX_VIEWS = 50
MAX_WINDOW = 1_000
MAX_READ = 10_000
MAX_EVERY_MS = 60_000
_MAX_TEXT = 4_000


class ViewService:
    """`tables` are the tables in memory by name; `reasons` fills in why waiting tasks wait. Idle means no timer, no work, no bytes."""

    def __init__(
        self, store: Store, tables: Mapping[str, Callable[[], Sequence[Record]]], clock: Clock, reasons: Reasons
    ) -> None:
        self._sources = Sources(store.windows, tables, clock, reasons)
        self._pace = Pace()
        self._views: dict[str, View] = {}
        self._opened = 0
        store.journal.on_commit(self._committed)

    async def open(self, client: int, send: Send, request: ViewOpen) -> ViewRows:
        """Open a window. `send` delivers its changes; it answers False when the client is congested, and is then asked again later."""
        location = _parse(request.location)
        _check(request.top, request.size, MAX_WINDOW)
        if not 0 <= request.every_ms <= MAX_EVERY_MS:
            text = f"every_ms is {request.every_ms}: 0 to {MAX_EVERY_MS} can be asked for"
            raise AiwmError(Code.bad_request, text, field="every_ms")
        if sum(view.client == client for view in self._views.values()) >= MAX_VIEWS:
            raise AiwmError(
                Code.bad_request, f"a client may have {MAX_VIEWS} views open", field="view", fix="close one"
            )
        self._opened += 1
        every_s = request.every_ms / 1000
        view = View(f"v{self._opened}", client, location, request.size, send, self._sources, self._pace, every_s)
        # Known before the first look, so that what is committed meanwhile is not missed.
        self._views[view.name] = view
        try:
            return await view.open(request.top)
        except BaseException:
            self._remove(view)
            raise

    async def move(self, client: int, request: ViewMove) -> ViewRows:
        """Move or resize a window, or look for a row."""
        _check(request.top or 0, request.size or 0, MAX_WINDOW)
        return await self._find(client, request.view).move(request.top, request.size, request.anchor)

    async def read(self, request: ViewRead) -> ViewRows:
        """A window once."""
        location = _parse(request.location)
        _check(request.top, request.size, MAX_READ)
        shown = (await self._sources.look(location, request.top, request.size)).shown
        return ViewRows(
            view="",
            seq=0,
            location=str(location),
            table=location.table,
            rows=list(shown.rows.values()),
            top=shown.top,
            matched=shown.matched,
            total=shown.total,
            matched_exact=shown.exact,
            faults=shown.faults,
        )

    def shut(self, client: int, name: str) -> None:
        """Close one window; nothing happens when it is closed already."""
        view = self._views.get(name)
        if view is not None and view.client == client:
            self._remove(view)

    def close_client(self, client: int) -> None:
        """Close all windows of a client that has gone."""
        for view in [view for view in self._views.values() if view.client == client]:
            self._remove(view)

    async def close(self) -> None:
        """Close everything."""
        for view in list(self._views.values()):
            self._remove(view)

    def watched(self, table: str) -> bool:
        """Whether a window on this table is open."""
        return any(view.location.table == table for view in self._views.values())

    def touch(self, table: str) -> None:
        """Rows of a table in memory may look different; of tasks, the reasons why they wait."""
        stale = Stale.reasons if self._sources.stored(table) else Stale.rows
        for view in self._views.values():
            if view.location.table == table:
                view.mark(stale)

    def refresh(self) -> None:
        """Every row of every table may look different."""
        for view in self._views.values():
            view.mark(Stale.rows)

    def _committed(self, batch: CommittedBatch) -> None:
        for view in self._views.values():
            view.committed(batch)

    def _find(self, client: int, name: str) -> View:
        view = self._views.get(name)
        if view is None or view.client != client:
            raise AiwmError(Code.not_found, f'view "{name[:40]}" is not open', field="view", fix="open it again")
        return view

    def _remove(self, view: View) -> None:
        view.close()
        self._pace.forget(view.name)
        self._views.pop(view.name, None)


def _parse(text: str) -> Location:
    if len(text) > _MAX_TEXT:
        raise AiwmError(Code.bad_location, f"a location has at most {_MAX_TEXT} characters", field="location")
    return parse(text)


def _check(top: int, size: int, largest: int) -> None:
    if top < 0:
        raise AiwmError(Code.bad_request, f"top is {top}: it counts from 0", field="top")
    if not 0 <= size <= largest:
        raise AiwmError(Code.bad_request, f"size is {size}: 0 to {largest} rows can be asked for", field="size")
