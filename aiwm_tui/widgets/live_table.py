"""The live table: a window of rows drawn line by line.

It holds no rows but those of the window it is given, however many match: a million cost what a hundred cost. Each update compares
what the visible lines say with what they said and repaints the lines that differ. The cursor follows its row by id."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from aiwm_tui.live.columns import FLEX_ROOM, Column, Slot, arrange
from aiwm_tui.live.marks import Marks
from aiwm_tui.live.table import TableState
from aiwm_tui.live.text import Line, width
from aiwm_tui.widgets.paint import lean_of, palette_of, strip_of
from aiwm_tui.widgets.rows import GUTTER, Drawn, heading_line, row_line
from engine.contract.query import SortKey
from engine.contract.records import Record


class LiveTable(Widget, can_focus=True):
    """A table of one kind of record. The page gives it states and the time; it tells the page about cursor, window and ↵."""

    DEFAULT_CSS = "LiveTable { height: 1fr; }"

    class CursorMoved(Message):
        """Another row, or other content of the row, is under the cursor."""

        def __init__(self, table: LiveTable) -> None:
            super().__init__()
            self.table = table

    class Wanted(Message):
        """The rows from `top` on are about to be needed."""

        def __init__(self, table: LiveTable, top: int, size: int) -> None:
            super().__init__()
            self.table, self.top, self.size = table, top, size

    class CursorLost(Message):
        """The row under the cursor is not in the window any more."""

        def __init__(self, table: LiveTable, identifier: str) -> None:
            super().__init__()
            self.table, self.identifier = table, identifier

    class Opened(Message):
        def __init__(self, table: LiveTable) -> None:
            super().__init__()
            self.table = table

    class Edge(Message):
        """The cursor was moved beyond the first (-1) or last (+1) row."""

        def __init__(self, table: LiveTable, direction: int) -> None:
            super().__init__()
            self.table, self.direction = table, direction

    def __init__(self, columns: Sequence[Column], *, part: bool = False, id: str | None = None) -> None:
        """`part`: one of several tables on a page, without a heading while it is empty and without a cursor while another has it."""
        super().__init__(id=id)
        self._columns = tuple(columns)
        self._part = part
        self.state: TableState | None = None
        self.index = 0
        self.first = 0
        self.column = 0
        self.marks = Marks()
        self._cursor_id: str | None = None
        self._follows_top = True
        self._restoring: str | None = None
        # What stands beside what was looked for is drawn as something less.
        self.beside: Callable[[Record], bool] = lambda _: False
        self._now = 0
        self._stale = False
        self._note: tuple[Line, ...] = ()
        self._marks: dict[str, str] = {}
        self._content: dict[str, int] = {}
        self._slots: list[Slot] = []
        self._drawn: list[Drawn] = []
        self._asked: tuple[int, int] | None = None

    # What the page gives

    def show(self, state: TableState | None, now_ms: int, *, stale: bool = False, note: Sequence[Line] = ()) -> None:
        """Show a state as of a time. `note` stands in place of rows when there are none."""
        self._now, self._stale, self._note = now_ms, stale, tuple(note)
        before = self.row
        if state is not None and state is not self.state:
            self._asked = None
            self.state = state
            self._follow(state)
        self._redraw()
        if self.row is not before:
            self.post_message(self.CursorMoved(self))

    def set_sort(self, keys: Sequence[SortKey]) -> None:
        """Which columns are sorted by, in order: the header shows `1▲ 2▼`."""
        marks = {key.field: f"{place}{'▼' if key.descending else '▲'}" for place, key in enumerate(keys, 1)}
        if marks != self._marks:
            self._marks = marks
            self._arrange()
            self.refresh()

    def set_marks(self, marks: Marks) -> None:
        """Rows that are marked, also those that are not known here."""
        self.marks = marks
        self._redraw()

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Other columns from now on; the one that `f` and `s` work on stays, if it is among them."""
        selected = self.selected
        self._columns = tuple(columns)
        self._content.clear()
        self._drawn = []
        self._arrange()
        titles = [slot.column.title for slot in self._slots]
        self.column = titles.index(selected.title) if selected is not None and selected.title in titles else 0
        self._redraw()
        self.refresh()

    def restore(self, identifier: str | None, index: int, first: int) -> None:
        """Stand where one stood: applied when the rows arrive."""
        self.index, self.first = index, first
        self._cursor_id = self._restoring = identifier
        self._follows_top = identifier is None

    def reset(self) -> None:
        """Forget the rows: another location is about to be shown."""
        self.state, self._cursor_id, self._restoring, self._follows_top = None, None, None, True
        self.marks = Marks()
        self.index = self.first = 0
        self._content.clear()
        self._drawn = []
        self._arrange()
        self.refresh()

    # What the page asks

    @property
    def row(self) -> Record | None:
        """The row that is drawn under the cursor."""
        return self.state.at(self.index) if self.state is not None else None

    @property
    def columns(self) -> tuple[Column, ...]:
        """All its columns, also those for which there is no room."""
        return self._columns

    @property
    def selected(self) -> Column | None:
        return self._slots[self.column].column if self.column < len(self._slots) else None

    @property
    def follows_top(self) -> bool:
        return self._follows_top

    @property
    def visible_rows(self) -> int:
        return max(1, self.size.height - 1)

    def window(self) -> tuple[int, int]:
        """The window of rows that this table would like: what is visible, and a page on both sides."""
        page = max(self.visible_rows, 10)
        return max(0, self.first - page), 3 * page

    # Moving

    def move(self, rows: int) -> None:
        target = self.index + rows
        if target < 0 or target >= self._matched:
            self.post_message(self.Edge(self, -1 if target < 0 else 1))
        self.place(target)

    def page(self, pages: float) -> None:
        self.place(self.index + (int(pages * self.visible_rows) or (1 if pages > 0 else -1)))

    def to_edge(self, direction: int) -> None:
        self.place(0 if direction < 0 else self._matched - 1)
        if direction < 0:
            self._follows_top = True

    def place(self, index: int) -> None:
        """Put the cursor on a row by its index."""
        index = max(0, min(index, self._matched - 1))
        before = self.row
        self._follows_top = False
        self.index = index
        self._restoring = None
        row = self.row
        self._cursor_id = row.id if row is not None else None
        self._into_view()
        self._redraw()
        if row is not before:
            self.post_message(self.CursorMoved(self))

    def sideways(self, columns: int) -> None:
        """Choose another column: what `f` filters by and `s` sorts by."""
        if self._slots:
            self.column = max(0, min(self.column + columns, len(self._slots) - 1))
            self.refresh(Region(0, 0, self.size.width, 1))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._scroll(3)
        event.stop()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._scroll(-3)
        event.stop()

    def on_click(self, event: events.Click) -> None:
        line = event.y - 1
        if line < 0:
            for place, slot in enumerate(self._slots):
                if slot.start <= event.x - GUTTER < slot.start + slot.cells + 1:
                    self.sideways(place - self.column)
        elif self.first + line < self._matched:
            self.place(self.first + line)
            if event.chain == 2:
                self.post_message(self.Opened(self))

    # Inside

    @property
    def _headless(self) -> bool:
        return self._part and not self._matched

    @property
    def _matched(self) -> int:
        return self.state.matched if self.state is not None else 0

    def _follow(self, state: TableState) -> None:
        """Keep the cursor on its row: where the row goes, the view goes with it, so that it stays on its line of the screen."""
        if self._follows_top:
            self.index = self.first = 0
        elif self._cursor_id is not None:
            found = state.find(self._cursor_id)
            if found is not None:
                self.first += found - self.index
                self.index, self._restoring = found, None
            elif self._cursor_id != self._restoring:
                self.post_message(self.CursorLost(self, self._cursor_id))
        self.index = max(0, min(self.index, state.matched - 1))
        row = state.at(self.index)
        if row is not None and self._restoring is None:
            self._cursor_id = row.id
        self._into_view()

    def _into_view(self) -> None:
        rows = self.visible_rows
        self.first = max(self.index - rows + 1, min(self.first, self.index))
        self.first = max(0, min(self.first, self._matched - rows))

    def _scroll(self, lines: int) -> None:
        self.first = max(0, min(self.first + lines, self._matched - self.visible_rows))
        self._redraw()

    def _redraw(self) -> None:
        """Compare what the visible lines should say with what they say, and repaint those that differ."""
        if not self.size.width:
            return
        drawn = self._draw()
        if self._grow(drawn):
            self._arrange()
            self._drawn = drawn
            self.refresh()
        else:
            old, self._drawn = self._drawn, drawn
            first = 0 if self._headless else 1
            if len(old) != len(drawn):
                self.refresh()
            else:
                for y, (was, now) in enumerate(zip(old, drawn, strict=True)):
                    if was != now:
                        self._repaint(y + first, was, now)
        self._ask_for_more()

    def _repaint(self, y: int, was: Drawn, now: Drawn) -> None:
        """The whole line, or where only some cells say something else, up to the last of those: the terminal may be far away. One region
        a line: whatever lies left of a region in its line is written with it."""
        if len(was.cells) != len(now.cells) or was[1:] != now[1:] or not now.cells:
            self.refresh(Region(0, y, self.size.width, 1))
            return
        changed = [slot for slot in self._slots if was.cells[slot.place] != now.cells[slot.place]]
        if changed:
            start, end = changed[0].start, changed[-1].start + changed[-1].cells
            self.refresh(Region(GUTTER + start, y, end - start, 1))

    def _draw(self) -> list[Drawn]:
        rows = max(0, self.size.height - (0 if self._headless else 1))
        if not self._matched:
            notes: list[Line] = [*self._note[:rows], *[()] * (rows - len(self._note))]
            return [Drawn((), "", self._stale, line) for line in notes]
        cursor = "cursor" if self.has_focus else ("" if self._part else "cursor_blur")
        return [
            self._draw_row(index, cursor if index == self.index else "")
            for index in range(self.first, self.first + rows)
        ]

    def _draw_row(self, index: int, cursor: str) -> Drawn:
        if self.state is None or index >= self.state.matched:
            return Drawn((), "", False)
        row = self.state.at(index)
        if row is None:
            return Drawn((), cursor, self._stale, (("  …", "faint"),))
        cells = tuple(column.cell(row, self._now) for column in self._columns)
        return Drawn(cells, cursor, self._stale or self.beside(row), marked=row.id in self.marks)

    def _grow(self, drawn: list[Drawn]) -> bool:
        """Widen columns to what is visible now. They never shrink while a location is shown: a table that breathes cannot be read."""
        grown = False
        for line in drawn:
            for column, (text, _) in zip(self._columns, line.cells, strict=False):
                most = FLEX_ROOM if column.flex else column.most
                cells = min(width(text), most)
                if cells > self._content.get(column.title, 0):
                    self._content[column.title] = cells
                    grown = True
        return grown or not self._slots

    def _arrange(self) -> None:
        cells, lean = max(0, self.size.width - GUTTER), lean_of(self)
        self._slots = arrange(self._columns, self._content, cells, self._marks, lean=lean)
        self.column = min(self.column, max(0, len(self._slots) - 1))

    def rearrange(self) -> None:
        """Share the width again: drawings may be wanted now, or no longer."""
        self._arrange()
        self.refresh()

    def _ask_for_more(self) -> None:
        state = self.state
        if state is None or self._stale:
            return
        end = min(self.first + self.visible_rows, state.matched)
        have = state.top + len(state.ids)
        near = self.visible_rows // 2
        short_above = state.top > 0 and self.first - near < state.top
        short_below = have < state.matched and end + near > have
        if (short_above or short_below) and self._asked != (wanted := self.window()):
            self._asked = wanted
            self.post_message(self.Wanted(self, *wanted))

    def on_resize(self, _: events.Resize) -> None:
        self._arrange()
        self._into_view()
        self._drawn = []
        self._redraw()
        self.refresh()

    def on_focus(self, event: events.Focus) -> None:
        self._focus(event, has_focus=True)

    def on_blur(self, event: events.Blur) -> None:
        self._focus(event, has_focus=False)

    def _focus(self, event: events.Event, *, has_focus: bool) -> None:
        """In place of what every widget does then, which is to paint all of itself."""
        event.prevent_default()
        self.has_focus = has_focus

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.refresh(Region(0, 0, self.size.width, 1))
        self._redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        return self._matched + 1

    def render_line(self, y: int) -> Strip:
        cells = self.size.width
        palette = palette_of(self)
        if y == 0 and not self._headless:
            return strip_of(
                heading_line(self._slots, self._marks, self.column if self.has_focus else None), palette, cells
            )
        y += self._headless
        drawn = self._drawn[y - 1] if y - 1 < len(self._drawn) else Drawn((), "", False)
        stale = "stale" if drawn.stale else None
        return strip_of(row_line(self._slots, drawn), palette, cells, over=drawn.cursor or None, instead=stale)
