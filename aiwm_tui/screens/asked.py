"""A page with one table whose rows are an answer of the engine, asked for again while one looks: `:usage`, `:charts`.

What it shows is said by its location (what is summed, since when, in which order), like everywhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from textual.app import ComposeResult

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.history import Place
from aiwm_tui.live.link import Phase
from aiwm_tui.live.table import TableState
from aiwm_tui.live.text import Line
from aiwm_tui.screens.asking import AskedScreen, ordered
from aiwm_tui.screens.page import NOT_ON_ITEMS, Page
from aiwm_tui.screens.wording import refused
from aiwm_tui.widgets.lines import TextBlock
from aiwm_tui.widgets.live_table import LiveTable
from engine.contract.errors import AiwmError
from engine.contract.query import Location
from engine.contract.records import Record


class AskedPage(Page):
    DEFAULT_CSS = """
    AskedPage { layout: vertical; }
    AskedPage #head { height: 2; }
    """

    def __init__(self, screen: AskedScreen, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.spec = screen
        self.head = TextBlock(id="head")
        self.live_table = LiveTable(screen.columns, id="table")
        self.error: AiwmError | None = None
        self._asking: asyncio.Task[None] | None = None
        self._rows: Sequence[Record] | None = None

    def compose(self) -> ComposeResult:
        yield self.head
        yield self.live_table

    def on_mount(self) -> None:
        self.console.link.listeners.append(self._phase)
        self.live_table.restore(self.arrived.cursor, self.arrived.index, self.arrived.top)
        self._ask()
        self.tick()

    def begin(self) -> None:
        self.screen.set_focus(self.live_table)

    def _phase(self, phase: Phase) -> None:
        if phase is Phase.live:
            self._ask()

    def _ask(self) -> None:
        if self._asking is None and self.console.link.phase is Phase.live:
            self._asking = asyncio.create_task(self._load(self.location))

    async def _load(self, location: Location) -> None:
        try:
            rows = await self.spec.ask(self.console.link, location, self.console.now())
            self._rows, self.error = ordered(rows, location.sort or self.spec.order, self.spec.columns), None
        except AiwmError as error:
            self.error = error
        self._asking = None
        if self.is_mounted:
            self.tick()
            self.set_timer(self.spec.again_s, self._ask)

    # What the app asks

    lacks = (NOT_ON_ITEMS - {"sort", "left", "right", "pane"}) | {"why", "hold"}

    @property
    def table(self) -> str:
        return self.location.table

    @property
    def row(self) -> Record | None:
        return self.live_table.row

    def selected_column(self) -> Column | None:
        return self.live_table.selected

    def opens(self) -> str | None:
        return self.spec.opens(self.location, self.row, self.console.now()) if self.row is not None else None

    def on_live_table_opened(self) -> None:
        target = self.opens()
        if target:
            self.console.open_location(target)

    def status(self) -> Line:
        return ((form.plural(len(self._rows), "row"), "dim"),) if self._rows is not None else ()

    def place(self) -> Place:
        table = self.live_table
        return Place(str(self.location), table.row.id if table.row is not None else None, table.index, table.first)

    def zoom(self) -> str:
        location, name = self.spec.further(self.location)
        self.console.open_location(str(location))
        return name

    def next_part(self) -> None:
        if self.spec.next_part is not None:
            self.console.open_location(str(self.spec.next_part(self.location)))

    def tick(self) -> None:
        now = self.console.now()
        note = tuple(refused(self.error)) if self.error is not None else self.spec.empty
        rows = [] if self.error is not None or self._rows is None else list(self._rows)
        self.head.show(self.spec.head(self.location, now))
        self.live_table.set_sort(self.location.sort or self.spec.order)
        known = self._rows is not None or self.error is not None
        self.live_table.show(_state(self.table, rows) if known else None, now, note=note)
        self.console.status_changed()

    def revisit(self, place: Place, location: Location) -> bool:
        if location.table != self.location.table or location.item:
            return False
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        self.location, self._rows, self.error = location, None, None
        self.live_table.reset()
        self.live_table.restore(place.cursor, place.index, place.top)
        self._ask()
        return True

    def leave(self) -> None:
        if self._phase in self.console.link.listeners:
            self.console.link.listeners.remove(self._phase)
        if self._asking is not None:
            self._asking.cancel()


def _state(table: str, rows: Sequence[Record]) -> TableState:
    return TableState(
        table=table,
        ids=tuple(row.id for row in rows),
        rows={row.id: row for row in rows},
        matched=len(rows),
        total=len(rows),
    )
