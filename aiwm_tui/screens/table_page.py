"""The page of a screen with one table: the table, the strip below it (beside it on a wide terminal)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from textual.app import ComposeResult

from aiwm_tui.live.columns import Column
from aiwm_tui.live.history import Place
from aiwm_tui.live.link import Phase
from aiwm_tui.live.marks import Marks
from aiwm_tui.live.table import TableState, differences
from aiwm_tui.live.text import Line
from aiwm_tui.live.views import LiveView
from aiwm_tui.saved import load
from aiwm_tui.screens.chosen import chosen_columns
from aiwm_tui.screens.explainer import Explainer
from aiwm_tui.screens.page import Page
from aiwm_tui.screens.spec import Explain, TableScreen
from aiwm_tui.screens.table_words import none_match, status_line
from aiwm_tui.screens.wording import refused
from aiwm_tui.widgets.detail import DetailPane, detail_lines
from aiwm_tui.widgets.live_table import LiveTable
from aiwm_tui.widgets.strip import StripSize, WhyStrip
from engine.contract.errors import AiwmError, Code
from engine.contract.query import Location
from engine.contract.records import Record
from engine.contract.requests.session import ViewRead

STRIP_LINES = 8
NARROW, ROOMY, WIDE = 60, 120, 160
"""Below so many columns the location needs the line for itself; from so many on there is room for a pane of details, and for the strip
beside the table."""
MOST_IN_RANGE = 10_000


class TablePage(Page):
    DEFAULT_CSS = """
    TablePage { layout: vertical; }
    TablePage DetailPane { display: none; }
    TablePage.-detailed DetailPane { display: block; }
    TablePage.-wide { layout: horizontal; }
    TablePage.-wide LiveTable { width: 62%; height: 1fr; }
    TablePage.-wide WhyStrip { width: 38%; height: 1fr; padding-left: 1; }
    """

    def __init__(self, screen: TableScreen, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.spec = screen
        self.live_table = LiveTable(chosen_columns(screen, load().columns.get(screen.table, ())), id="table")
        self.strip = WhyStrip()
        self.detail = DetailPane()
        self.strip.below = self._beside
        self.view: LiveView | None = None
        self.explainer = Explainer(self, self.strip, self._to_explain)
        self._size_of_strip = StripSize.normal
        self._frozen: TableState | None = None
        self._heights = (0, 0)
        self.head_height = 0

    def compose(self) -> ComposeResult:
        yield self.detail
        yield self.live_table
        yield self.strip

    def on_mount(self) -> None:
        self._enter(self.arrived)

    def begin(self) -> None:
        self.screen.set_focus(self.live_table)

    def _enter(self, place: Place) -> None:
        self.live_table.reset()
        self.live_table.set_sort(self.location.sort_keys())
        self.live_table.restore(place.cursor, place.index, place.top)
        size = max(30, 3 * self.app.size.height)
        self.view = self.console.hub.open(
            str(self.location), size, self._changed, top=max(0, place.top - size // 3), anchor=place.cursor
        )
        self._show()

    # What changes

    def _changed(self) -> None:
        self.console.note_change()
        self._show()

    def _show(self) -> None:
        if self.view is None:
            return
        state = self._frozen or self.view.state
        self.live_table.show(state, self.console.now(), stale=self.view.stale, note=self._notes())
        if state is not None and not state.matched:
            self.explainer.poke()
        self._show_detail()
        self._share_height()
        self.console.status_changed()

    def _notes(self) -> tuple[Line, ...]:
        assert self.view is not None
        if self.view.error is not None:
            return tuple(refused(self.view.error))
        if self.view.state is None:
            return () if self.console.link.phase is not Phase.failed else self._unreachable()
        if self.location.terms and self.view.state.total:
            return self.with_own_keys(none_match(self.location, self.view.state.total))
        return self.with_own_keys(self.spec.empty)

    def _unreachable(self) -> tuple[Line, ...]:
        error = self.console.link.error
        return tuple(refused(error)) if error is not None else ()

    def _show_detail(self) -> None:
        row, now = self.row, self.console.now()
        if self.has_class("-detailed"):
            self.detail.show_row(self.table, row, now)
        if self.has_class("-wide"):
            self.strip.look_below()

    def _beside(self, cells: int) -> list[Line]:
        """What the strip has room for below the explanation."""
        row = self.row
        return detail_lines(self.table, row, self.console.now(), cells) if row and self.has_class("-wide") else []

    def tick(self) -> None:
        if self.view is not None:
            self._show_detail()
            self.live_table.show(
                self._frozen or self.view.state, self.console.now(), stale=self.view.stale, note=self._notes()
            )

    def on_resize(self) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        detailed = self.console.inspecting and self.size.width >= ROOMY
        self.set_class(detailed, "-detailed")
        self.set_class(self.size.width >= WIDE and not detailed, "-wide")
        self._heights = (0, 0)
        self._share_height()
        self._show_detail()

    def _share_height(self) -> None:
        """The table has the lines it can fill, the strip the rest, but at least its own."""
        room = self.size.height - self.head_height if self.size.height else 0
        closed = self._size_of_strip is StripSize.closed or room < 14
        if not room or self.has_class("-wide"):
            self.strip.display = not closed
            self.live_table.styles.height = "1fr"
            return
        least = (
            0 if closed else (room * 2 // 3 if self._size_of_strip is StripSize.grown else min(STRIP_LINES, room // 2))
        )
        state = self._frozen or (self.view.state if self.view else None)
        rows = state.matched if state is not None and state.matched else len(self._notes()) if self.view else 0
        height = room if closed else max(3, min(rows + 2, room - least))
        if (height, int(closed)) != self._heights:
            self._heights = (height, int(closed))
            self.live_table.styles.height = height
            self.strip.display = not closed

    def on_live_table_cursor_moved(self) -> None:
        self.explainer.poke()
        self._show_detail()
        self.console.status_changed()

    def on_live_table_wanted(self, message: LiveTable.Wanted) -> None:
        if self.view is not None and self._frozen is None:
            self.view.want(message.top, message.size)

    def on_live_table_cursor_lost(self, message: LiveTable.CursorLost) -> None:
        """The row left the window: look for it. It may have moved far; if it matches no longer, its neighbour is kept."""
        if self.view is not None and self._frozen is None:
            self.console.hub.spawn(self._find(self.view, message.identifier))

    async def _find(self, view: LiveView, identifier: str) -> None:
        index = await view.find(identifier)
        if index is not None and view is self.view and self.is_mounted:
            self.live_table.place(index)

    def on_live_table_opened(self) -> None:
        target = self.opens()
        if target:
            self.console.open_location(target)

    def _to_explain(self) -> tuple[Explain, Record] | None:
        row = self.live_table.row
        return (self.spec.explain, row) if row is not None else None

    # Marks

    def mark(self) -> None:
        row = self.row
        if row is None:
            return
        self.set_marks(self.live_table.marks.toggled(row.id))
        self.live_table.move(1)

    def mark_all(self) -> None:
        self.set_marks(self.live_table.marks.all_or_none())

    async def mark_to_here(self) -> None:
        """Mark the rows from the one marked last to the cursor, as they stand now."""
        row, view, marks = self.row, self.view, self.live_table.marks
        if row is None or view is None or view.state is None:
            return
        start = view.state.find(marks.last) if marks.last else self.live_table.index
        if start is None:
            # It lies far away: look where, with the window put back to the cursor afterwards.
            start, here = await view.find(marks.last), self.live_table.index
            await view.find(row.id)
            if start is None:
                start = here
        low, high = sorted((start, self.live_table.index))
        if high - low >= MOST_IN_RANGE:
            raise AiwmError(
                Code.bad_request,
                f"a range has at most {MOST_IN_RANGE:,} rows, this one {high - low + 1:,}",
                fix="* marks all that match",
            )
        answer = await self.console.link.call(ViewRead(location=str(self.location), top=low, size=high - low + 1))
        self.set_marks(marks.through((str(each["id"]) for each in answer.rows), row.id))

    def set_marks(self, marks: Marks) -> None:
        self.live_table.set_marks(marks)
        self.console.status_changed()

    def mark_only(self, identifiers: Iterable[str]) -> None:
        self.set_marks(Marks(frozenset(identifiers)))

    def clear_marks(self) -> bool:
        had = bool(self.live_table.marks)
        self.set_marks(Marks())
        return had

    def marked(self) -> dict[str, Any]:
        return self.live_table.marks.named(self.location.filter_text())

    def known_rows(self) -> dict[str, Any]:
        state = self.view.state if self.view is not None else None
        return dict(state.rows) if state is not None else {}

    # What the app asks

    lacks = frozenset({"pane"})

    @property
    def table(self) -> str:
        return self.spec.table

    @property
    def row(self) -> Record | None:
        return self.live_table.row

    def opens(self) -> str | None:
        return self.spec.opens(self.row) if self.row is not None else None

    def events_of(self) -> str:
        return self.spec.events(self.row) if self.row is not None else ""

    def place(self) -> Place:
        table = self.live_table
        row = table.row
        keep = None if table.follows_top or row is None else row.id
        return Place(str(self.location), keep, table.index, table.first)

    def selected_column(self) -> Column | None:
        return self.live_table.selected

    def columns(self) -> tuple[Column, ...]:
        return self.live_table.columns

    def set_columns(self, names: Sequence[str]) -> None:
        self.live_table.set_columns(chosen_columns(self.spec, names))

    def status(self) -> Line:
        state = self.view.state if self.view is not None else None
        table, narrow = self.live_table, self.app.size.width < NARROW
        return status_line(self.location, state, table.index, table.marks, narrow=narrow)

    def hold(self) -> bool:
        if self._frozen is not None:
            self._frozen = None
        elif self.view is not None:
            self._frozen = self.view.state
        self._show()
        return self._frozen is not None

    def held(self) -> int | None:
        if self._frozen is None or self.view is None or self.view.state is None:
            return None
        return differences(self._frozen, self.view.state)

    def inspect(self) -> bool:
        if self.size.width < ROOMY:
            return False
        self.console.inspecting = not self.console.inspecting
        self._lay_out()
        self._show_detail()
        return True

    def cycle_strip(self) -> None:
        self._size_of_strip = self._size_of_strip.after()
        self._heights = (0, 0)
        self._share_height()
        if self._size_of_strip is StripSize.closed:
            self.explainer.stop()
        else:
            self.explainer.resume()

    def revisit(self, place: Place, location: Location) -> bool:
        if location.table != self.location.table or location.item:
            return False
        if self.view is not None:
            self.view.close()
        # Another order of the same rows: what is marked stays marked. Behind another filter nothing unseen is.
        marks = self.live_table.marks if location.terms == self.location.terms else Marks()
        self.location, self._frozen = location, None
        self._enter(place)
        self.set_marks(marks)
        return True

    def leave(self) -> None:
        self.explainer.stop()
        if self.view is not None:
            self.view.close()
