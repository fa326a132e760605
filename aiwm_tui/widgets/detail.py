"""The pane beside a table: every field of the row under the cursor."""

from __future__ import annotations

from textual.strip import Strip

from aiwm_tui.live.text import Line
from aiwm_tui.screens.item.fields import field_lines
from aiwm_tui.widgets.lines import TextBlock
from aiwm_tui.widgets.paint import palette_of, strip_of
from aiwm_tui.widgets.strip import ruled
from engine.contract.records import Record


def detail_lines(table: str, row: Record, now: int, cells: int) -> list[Line]:
    """A heading and the fields of a row that say something, in at most `cells` cells."""
    return [ruled(row.id, "details", cells), *field_lines(table, row, now, cells, empty=False)]


class DetailPane(TextBlock):
    """Follows the cursor, and costs nothing while the row stands still. What does not fit is counted: `d` opens all of it."""

    DEFAULT_CSS = "DetailPane { dock: right; width: 38%; height: 1fr; padding-left: 1; }"

    def __init__(self) -> None:
        super().__init__(id="detail")
        self._last: tuple[str, Record | None, int] = ("", None, 0)

    def show_row(self, table: str, row: Record | None, now: int) -> None:
        """Show a row as of a time (Unix ms)."""
        self._last = (table, row, now)
        cells = self.size.width
        if not cells:
            return
        if row is None:
            self.show(())
            return
        self.show(detail_lines(table, row, now, cells))

    def on_resize(self) -> None:
        self.show_row(*self._last)

    def render_line(self, y: int) -> Strip:
        if y == self.size.height - 1 and y + 1 < len(self.lines):
            line: Line = ((f" … {len(self.lines) - y} more lines: ", "dim"), ("d", "key"), (" all of it", "dim"))
            return strip_of(line, palette_of(self), self.size.width)
        return super().render_line(y)
