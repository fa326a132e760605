"""The overview: in the order of what it costs to wait. ↵ on a line opens the location that solves it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from textual.app import ComposeResult

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.history import Place
from aiwm_tui.live.link import Phase
from aiwm_tui.live.text import Line
from aiwm_tui.live.views import LiveView
from aiwm_tui.screens.explainer import Explainer
from aiwm_tui.screens.page import Page
from aiwm_tui.screens.spec import Explain, TableScreen, table_screen
from aiwm_tui.screens.wording import refused
from aiwm_tui.widgets.lines import TextLine
from aiwm_tui.widgets.live_table import LiveTable
from aiwm_tui.widgets.strip import WhyStrip
from engine.contract.query import Location
from engine.contract.records import Record

STRIP_LINES = 8
EVENTS_LEAST = 8


class Section:
    """One part of the overview: a title, a table, its view. `most` bounds the rows it shows."""

    def __init__(self, title: str, screen: TableScreen, location: str, columns: Sequence[str], most: int) -> None:
        chosen = [column for column in screen.columns if column.title in columns]
        self.title = title
        self.screen = msgspec.structs.replace(screen, columns=tuple(chosen))
        self.location = location
        self.most = most
        self.heading = TextLine()
        self.table = LiveTable(chosen, part=True, id=f"part-{screen.table}")
        self.view: LiveView | None = None

    @property
    def rows(self) -> int:
        state = self.view.state if self.view is not None else None
        return state.matched if state is not None else 0

    @property
    def wants(self) -> int:
        """Lines: heading, column titles, rows; a line of text when there are none."""
        return 2 + min(self.rows, self.most) if self.rows else 2


def _sections() -> list[Section]:
    return [
        Section("NEEDS YOU", table_screen("needs"), ":needs", ("since", "what", "why", "press"), 8),
        Section(
            "QUEUES",
            table_screen("queues"),
            ":queues",
            (
                "state",
                "name",
                "wait",
                "head",
                "run",
                "failed",
                "in/m",
                "out/m",
                "empty in",
                "wait, last hour",
                "first gate",
            ),
            10,
        ),
        Section(
            "MODELS",
            table_screen("models"),
            ":models",
            ("state", "process", "backend", "on", "run", "wait", "tok/s", "KV used", "for", "now or last error"),
            8,
        ),
        Section(
            "CHANGED", table_screen("events"), ":events !level:debug", ("at", "level", "type", "about", "what"), 30
        ),
    ]


def shares(wants: Sequence[int], room: int) -> list[int]:
    """How many lines each section gets: a heading and a row or two for as many as fit, then more in their order."""
    lines = [0] * len(wants)
    for place, want in enumerate(wants):
        least = min(want, 3)
        if sum(lines) + least > room:
            break
        lines[place] = least
    for place, want in enumerate(wants):
        if lines[place]:
            lines[place] += max(0, min(want - lines[place], room - sum(lines)))
    return lines


def _set_height(widget: LiveTable, lines: int) -> None:
    height = widget.styles.height
    if height is None or height.value != lines:
        widget.styles.height = lines


class OverviewPage(Page):
    DEFAULT_CSS = """
    OverviewPage { layout: vertical; overflow: hidden; }
    OverviewPage WhyStrip { height: 8; display: none; }
    """

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.sections = _sections()
        self.strip = WhyStrip()
        self.explainer = Explainer(self, self.strip, self._to_explain)
        self.explainer.active = False
        self._current = self.sections[1]
        self._chosen = False
        self._needed = False
        self._quiet_ms = 0

    def compose(self) -> ComposeResult:
        for section in self.sections:
            yield section.heading
            yield section.table
        yield self.strip

    def on_mount(self) -> None:
        for section in self.sections:
            size = max(20, self.app.size.height)
            section.view = self.console.hub.open(section.location, size, lambda section=section: self._changed(section))  # type: ignore[misc]
        self._stand(self.arrived)
        for section in self.sections:
            self._show(section)
        self._lay_out()

    def _stand(self, place: Place) -> None:
        """`cursor` of a place here is `table/id`."""
        table, _, identifier = (place.cursor or "").partition("/")
        for section in self.sections:
            if section.screen.table == table:
                self._current, self._chosen = section, True
                section.table.restore(identifier, place.index, place.top)

    def begin(self) -> None:
        self.screen.set_focus(self._current.table)

    def _keep_focus(self) -> None:
        """A part that a small terminal has no line for cannot have the focus: the next one that is shown takes it."""
        if not self.is_attached or self.screen is not self.app.screen or self.screen.focused is not None:
            return
        shown = [section for section in self.sections if section.table.display]
        if shown and self._current not in shown:
            self._current = shown[0]
        self.begin()

    @property
    def _moved(self) -> bool:
        """Whether somebody has put the cursor where it is."""
        return self._chosen or not self._current.table.follows_top

    # What changes

    def _changed(self, section: Section) -> None:
        self.console.note_change()
        if section is self.sections[0] and section.view is not None and section.view.state is not None:
            if self._needed and not section.rows:
                self._quiet_ms = self.console.now()
            self._needed = bool(section.rows)
        # The first section with rows has the cursor until somebody moves it: what needs you comes first.
        if not self._moved and section is self.sections[0]:
            first = next((each for each in self.sections[:2] if each.rows), self.sections[1])
            if first is not self._current:
                self._current = first
                self.begin()
        self._lay_out()
        self._show(section)

    def _show(self, section: Section) -> None:
        if section.view is None:
            return
        state, notes = section.view.state, section.screen.empty
        if section.view.error is not None:
            notes = tuple(refused(section.view.error))
        elif state is None:
            failed = self.console.link.phase is Phase.failed and self.console.link.error is not None
            notes = ((("…", "faint"),),) if not failed else ((("not known: no engine", "dim"),),)
        elif section is self.sections[0] and self._quiet_ms:
            notes = ((("nothing needs you", "done"), (f" since {form.clock(self._quiet_ms)}", "dim")),)
        section.table.show(state, self.console.now(), stale=section.view.stale, note=self.with_own_keys(notes))
        count = f" ({section.rows:,})" if section is self.sections[0] and section.rows else ""
        section.heading.show(((f" {section.title}{count}", "title"),))

    def tick(self) -> None:
        for section in self.sections:
            self._show(section)

    def on_resize(self) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        """Share the lines: first a few for each section, from the top, then what each wants; the last one gets the rest."""
        # Before the first layout the size is not known yet; the other four parts have a line each.
        room = (self.size.height or self.app.size.height - 4) - (STRIP_LINES if self.strip.display else 0)
        wants = [section.wants for section in self.sections]
        gaps = len(wants) - 1
        # Blank lines between the sections, unless what changed would be left with too few.
        gap = 1 if sum(wants[:-1]) + gaps + min(wants[-1], EVENTS_LEAST) <= room else 0
        lines = shares(wants, room - gap * gaps)
        if lines[-1]:
            lines[-1] = room - sum(lines[:-1]) - gap * (len(lines) - 1)
        for place, (section, share) in enumerate(zip(self.sections, lines, strict=True)):
            section.heading.display = section.table.display = share > 1
            _set_height(section.table, max(1, share - 1))
            top = gap if place else 0
            if section.heading.styles.margin.top != top:
                section.heading.styles.margin = (top, 0, 0, 0)
        self.call_after_refresh(self._keep_focus)

    # The cursor goes through all sections

    def on_live_table_edge(self, message: LiveTable.Edge) -> None:
        self._step(message.direction)

    def _step(self, direction: int) -> None:
        at = self.sections.index(self._current) + direction
        while 0 <= at < len(self.sections):
            section = self.sections[at]
            if section.rows and section.table.display:
                self._choose(section)
                section.table.to_edge(-direction)
                return
            at += direction

    def _choose(self, section: Section) -> None:
        self._current, self._chosen = section, True
        self.screen.set_focus(section.table)
        self.explainer.poke()
        self.console.status_changed()

    def next_part(self) -> None:
        at = self.sections.index(self._current)
        for offset in range(1, len(self.sections)):
            section = self.sections[(at + offset) % len(self.sections)]
            if section.rows and section.table.display:
                self._choose(section)
                return

    def on_descendant_focus(self) -> None:
        for section in self.sections:
            if section.table.has_focus and section is not self._current:
                self._choose(section)

    def on_live_table_cursor_moved(self, message: LiveTable.CursorMoved) -> None:
        if message.table is self._current.table:
            self.explainer.poke()
            self.console.status_changed()

    def on_live_table_wanted(self, message: LiveTable.Wanted) -> None:
        for section in self.sections:
            if section.table is message.table and section.view is not None:
                section.view.want(message.top, message.size)

    def on_live_table_opened(self) -> None:
        target = self.opens()
        if target:
            self.console.open_location(target)

    def _to_explain(self) -> tuple[Explain, Record] | None:
        row = self._current.table.row
        return (self._current.screen.explain, row) if row is not None else None

    # What the app asks

    lacks = frozenset({"sort", "filter", "hold", "zoom", "mark", "mark_to_here", "mark_all"})

    @property
    def table(self) -> str:
        return self._current.screen.table

    @property
    def row(self) -> Record | None:
        return self._current.table.row

    def opens(self) -> str | None:
        return self._current.screen.opens(self.row) if self.row is not None else None

    def events_of(self) -> str:
        return self._current.screen.events(self.row) if self.row is not None else ""

    def selected_column(self) -> Column | None:
        return self._current.table.selected

    def place(self) -> Place:
        table = self._current.table
        row = table.row
        if not self._moved or row is None:
            return Place(str(self.location))
        return Place(str(self.location), f"{self.table}/{row.id}", table.index, table.first)

    def status(self) -> Line:
        needs = self.sections[0]
        if needs.view is None or needs.view.state is None:
            return ()
        return ((f"{needs.rows} need you", "alert"),) if needs.rows else (("nothing needs you", "dim"),)

    def cycle_strip(self) -> None:
        self.strip.display = not self.strip.display
        self._lay_out()
        if self.strip.display:
            self.explainer.resume()
        else:
            self.explainer.stop()

    def leave(self) -> None:
        self.explainer.stop()
        for section in self.sections:
            if section.view is not None:
                section.view.close()
