"""The start page: what is here, the ways to begin, and the models found on disk with a verdict each.

Nothing of it holds up the first frame: once the engine answers, everything is asked for at once, each part with a time limit, and shown
as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
from textual.app import ComposeResult

from aiwm_tui.live import format as form
from aiwm_tui.live.history import Place
from aiwm_tui.live.link import Phase
from aiwm_tui.live.table import TableState
from aiwm_tui.live.text import Line, clean
from aiwm_tui.live.views import LiveView
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.screens.page import Page
from aiwm_tui.screens.start import disk, ways
from aiwm_tui.screens.start.disk import DiskRow
from aiwm_tui.screens.start.facts import INDENT, TOY, Facts, here_lines
from aiwm_tui.screens.start.ways import WayRow
from aiwm_tui.widgets.lines import TextBlock, TextLine
from aiwm_tui.widgets.live_table import LiveTable
from aiwm_tui.widgets.strip import WhyStrip
from engine.contract.errors import AiwmError
from engine.contract.query import Location
from engine.contract.records import DeviceRow, ModelRow, Record

LOOK_S, CHECK_S = 8.0, 20.0
"""How long the engine may look around, and judge the models of one directory."""
_MOST_DIRECTORIES = 6
_STRIP, _LEAST_STRIP = 8, 4
_LOW = 24
"""In fewer lines what is here is cut rather than continued: the ways need the room."""


def _state(table: str, rows: list[Any]) -> TableState:
    ids = tuple(row.id for row in rows)
    return TableState(table, ids=ids, rows={row.id: row for row in rows}, matched=len(rows), total=len(rows))


class StartPage(Page):
    DEFAULT_CSS = """
    StartPage { layout: vertical; overflow: hidden; }
    StartPage WhyStrip { height: 1fr; }
    """

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.facts = Facts()
        self.here = TextBlock(id="here")
        self.ways = LiveTable(ways.COLUMNS, part=True, id="ways")
        self.ways.column = 1  # the one that says what to do, so that its title stands out
        self.heading = TextLine(id="disk-heading")
        self.disk = LiveTable(disk.COLUMNS, part=True, id="disk")
        self.strip = WhyStrip()
        self._views: list[LiveView] = []
        self._looking: set[asyncio.Task[None]] = set()
        self._asked_ms = 0
        self._took_ms: int | None = None
        self._current = self.ways

    def compose(self) -> ComposeResult:
        yield self.here
        yield self.ways
        yield self.heading
        yield self.disk
        yield self.strip

    def on_mount(self) -> None:
        hub = self.console.hub
        self._views = [
            hub.open(f":models model:{TOY}", 4, self._live),
            hub.open(":devices", 32, self._live),
            hub.open(":machine", 1, self._live),
        ]
        self.console.link.listeners.append(self._phase)
        self._phase(self.console.link.phase)
        table, _, identifier = (self.arrived.cursor or "").partition("/")
        if table == "way":
            self.ways.restore(identifier, self.arrived.index, self.arrived.top)
        self._show()

    def begin(self) -> None:
        self.screen.set_focus(self._current)

    # What is found

    def _phase(self, phase: Phase) -> None:
        if phase is Phase.live and not self._asked_ms:
            self._asked_ms = self.console.now()
            self._start(self._part("home", self._home()))
            self._start(self._part("findings", self._doctor()))
            self._start(self._part("detected", self._detect()))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._looking.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._looking.discard(task)
        if not self._looking and self.is_mounted:
            self._took_ms = self.console.clock() - self._asked_ms
            self._show()

    async def _part(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """A part of the facts; that it cannot be found out is a fact, too."""
        try:
            await work
        except AiwmError as error:
            self._learn(errors={**self.facts.errors, name: error})

    async def _home(self) -> None:
        from engine.contract.requests.home import HomeLook

        self._learn(home=await self.console.link.call(HomeLook(), timeout_s=LOOK_S))

    async def _doctor(self) -> None:
        from engine.contract.requests.session import EngineDoctor

        self._learn(findings=await self.console.link.call(EngineDoctor(), timeout_s=LOOK_S))

    async def _detect(self) -> None:
        from engine.contract.requests.models import ModelDetect

        found = await self.console.link.call(ModelDetect(), timeout_s=LOOK_S)
        self._learn(detected=found)
        for place in found.directories[:_MOST_DIRECTORIES]:
            await self._part(place.path, self.check(place.path))

    async def check(self, path: str) -> None:
        """Judge the models of a directory. Raises what the engine says of it."""
        from engine.contract.requests.models import ModelCheck

        found = await self.console.link.call(ModelCheck(path=path), timeout_s=CHECK_S)
        others = tuple(it for it in self.facts.verdicts if it.path not in {each.path for each in found})
        self._learn(verdicts=(*others, *found), checked=self.facts.checked | {path})

    def _learn(self, **what: Any) -> None:
        self.facts = msgspec.structs.replace(self.facts, **what)
        if self.is_mounted:
            self._show()

    def _live(self) -> None:
        self.console.note_change()
        models, devices, machine = (view.state.records() if view.state is not None else None for view in self._views)
        toy = next((row for row in models or () if isinstance(row, ModelRow)), None)
        found = [row for row in devices if isinstance(row, DeviceRow)] if devices is not None else None
        welcome = self.console.link.welcome
        started = getattr(machine[0], "started_ms", 0) if machine else 0
        self._learn(toy=toy, devices=found, pid=welcome.pid if welcome is not None else 0, started_ms=started)

    # What is shown

    def _show(self) -> None:
        now = self.console.now()
        cells = max(20, self.size.width or self.app.size.width)
        low = (self.size.height or self.app.size.height) < _LOW
        lines = here_lines(self.facts, now)
        self.here.show(lines if low else [part for line in lines for part in wrapped(line, cells, INDENT)])
        self.ways.show(_state("start", ways.ways(self.facts, read_only=self.console.read_only)), now)
        rows = disk.disk_rows(self.facts.verdicts)
        self.disk.show(_state("disk", rows), now)
        free = "   ".join(f"{it.id} {form.size(it.free_bytes)} free" for it in self.facts.devices or ())
        self.heading.show(((" WHAT THESE MODELS NEED", "title"), *self._judging()), ((free + " ", "dim"),))
        self._explain()
        self._lay_out()
        self.console.status_changed()

    def _judging(self) -> Line:
        found = self.facts.detected
        left = (
            [it.path for it in found.directories[:_MOST_DIRECTORIES] if it.path not in self.facts.checked]
            if found
            else []
        )
        left = [path for path in left if path not in self.facts.errors]
        return ((f"  judging {clean(left[0], 80)} …", "faint"),) if left else ()

    def _explain(self) -> None:
        row = self._current.row
        if isinstance(row, DiskRow):
            self.strip.explain(row.verdict.name, row.verdict.state, disk.explained(row.verdict))
        elif isinstance(row, WayRow):
            self.strip.explain(row.id, row.what, ways.explained(row))

    def _lay_out(self) -> None:
        """The ways always; then the models, then what is here, then the strip, as far as there is room."""
        room = self.size.height or self.app.size.height - 4
        models = self.disk.state.matched if self.disk.state is not None else 0
        at_disk = self._current is self.disk
        here = len(self.here.lines)
        listed = 1 + len(ways.ways(self.facts, read_only=False))
        least = 4 if models else 0
        if at_disk and here + listed + models + 3 + _LEAST_STRIP > room:
            here = 0  # one looks at models now: they and their verdict have the room
        elif here + listed + least > room:
            here = max(0, room - listed - least)
        if at_disk and room - here - listed < least:
            listed = 0
        left = room - here - listed
        strip = min(_STRIP, max(0, left - (models + 2 if models else 0)))
        strip = max(strip, _LEAST_STRIP if left - _LEAST_STRIP >= least else 0)
        if at_disk:
            strip = max(strip, min(10, left - 5))
        gap = int(left - strip - (models + 2 if models else 0) >= 2)
        self._set(self.here, here, gap if here else 0)
        self._set(self.ways, listed, gap)
        table = max(0, min(models + 1, left - strip - 1 - 2 * gap)) if models else 0
        self._set(self.heading, 1 if table else 0, 0)
        self._set(self.disk, table, gap)
        self.strip.display = strip > 0 or left - table > 2

    def _set(self, widget: Any, lines: int, below: int) -> None:
        widget.display = lines > 0
        height = widget.styles.height
        if lines and (height is None or height.value != lines):
            widget.styles.height = lines
        if widget.styles.margin.bottom != below:
            widget.styles.margin = (0, 0, below, 0)

    def on_resize(self) -> None:
        self._show()

    def tick(self) -> None:
        self._show()

    # The cursor goes through both tables

    def on_live_table_edge(self, message: LiveTable.Edge) -> None:
        if message.table is self.ways and message.direction > 0:
            self.show_disk()
        elif message.table is self.disk and message.direction < 0:
            self._choose(self.ways)

    def next_part(self) -> None:
        if self._current is self.ways:
            self.show_disk()
        else:
            self._choose(self.ways)

    def way(self, number: str = "") -> WayRow | None:
        """The way of a number, or the one under the cursor."""
        found = self.ways.state.rows.get(number) if number and self.ways.state is not None else self.ways.row
        return found if isinstance(found, WayRow) else None

    def show_disk(self) -> bool:
        """Put the cursor among the models found; False when there are none."""
        if self.disk.state is None or not self.disk.state.matched:
            return False
        self._choose(self.disk)
        return True

    def show_found(self, path: str) -> None:
        """Put the cursor on the first model beneath a path."""
        rows = disk.disk_rows(self.facts.verdicts)
        index = next((at for at, row in enumerate(rows) if row.id == path or row.id.startswith(f"{path}/")), 0)
        if self.show_disk():
            self.disk.place(index)

    def _choose(self, table: LiveTable) -> None:
        self._current = table
        # Shown first: what is hidden cannot have the focus.
        self._lay_out()
        self.screen.set_focus(table)
        self._show()

    def on_descendant_focus(self) -> None:
        for table in (self.ways, self.disk):
            if table.has_focus and table is not self._current:
                self._choose(table)

    def on_live_table_cursor_moved(self, message: LiveTable.CursorMoved) -> None:
        if message.table is self._current:
            self._explain()
            self.console.status_changed()

    async def on_live_table_opened(self) -> None:
        from aiwm_tui.actions import BY_ID
        from aiwm_tui.deeds import perform

        await perform(self.app, BY_ID["begin"])  # type: ignore[arg-type]

    # What the app asks

    lacks = frozenset({"open", "filter", "go_overview", "go_tasks", "go_queues", "go_pools", "go_instances"})

    @property
    def table(self) -> str:
        return "start" if self._current is self.ways else "disk"

    @property
    def row(self) -> Record | None:
        return self._current.row

    def place(self) -> Place:
        row = self.ways.row
        cursor = f"way/{row.id}" if row is not None else None
        return Place(str(self.location), cursor, self.ways.index, self.ways.first)

    def status(self) -> Line:
        if self._took_ms is None:
            return (("looking around …", "dim"),)
        home = self.facts.home
        first = "first start, " if home is not None and home.pristine else ""
        return ((f"{first}looked around in {form.span(self._took_ms)}", "dim"),)

    def leave(self) -> None:
        if self._phase in self.console.link.listeners:
            self.console.link.listeners.remove(self._phase)
        for task in list(self._looking):
            task.cancel()
        for view in self._views:
            view.close()
