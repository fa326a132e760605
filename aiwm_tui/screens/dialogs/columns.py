"""The chooser of columns: which ones a table shows, in which order. What is chosen is kept for the next time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.strip import Strip
from textual.widget import Widget

from aiwm_tui.live.columns import Column
from aiwm_tui.live.text import Line, clean, fit
from aiwm_tui.screens.chosen import name_of
from aiwm_tui.screens.dialogs.base import LOW, PANEL, Dialog, block
from aiwm_tui.screens.wording import hints
from aiwm_tui.widgets.paint import palette_of, strip_of

_CHROME, _CHROME_LOW = 8, 5
"""Lines of the dialog beside its list: title, blank line, what is wrong, keys, padding; those on a low screen."""


class ColumnList(Widget, can_focus=True):
    """One line a column, the shown ones first; `sample` is the row that each is tried on."""

    DEFAULT_CSS = "ColumnList { height: auto; }"

    def __init__(self, columns: Sequence[Column], shown: int, sample: tuple[Any, int] | None) -> None:
        super().__init__()
        self.columns = list(columns)
        self.on_ = {name_of(column) for column in columns[:shown]}
        self._sample = sample
        self.at = 0
        self._first = 0

    @property
    def chosen(self) -> list[Column]:
        return [column for column in self.columns if name_of(column) in self.on_]

    def put(self, columns: Sequence[Column], shown: int) -> None:
        self.columns = list(columns)
        self.on_ = {name_of(column) for column in columns[:shown]}
        self.step(-len(columns))

    def step(self, by: int) -> None:
        self.at = max(0, min(self.at + by, len(self.columns) - 1))
        self._first = max(self.at - self.size.height + 1, min(self._first, self.at))
        self.refresh()

    def toggle(self) -> None:
        self.on_ ^= {name_of(self.columns[self.at])}
        self.refresh()

    def shift(self, by: int) -> None:
        """Move the column under the cursor in the order."""
        to = self.at + by
        if 0 <= to < len(self.columns):
            self.columns[self.at], self.columns[to] = self.columns[to], self.columns[self.at]
            self.step(by)

    def on_resize(self) -> None:
        self.step(0)

    def render_line(self, y: int) -> Strip:
        place = self._first + y
        line = self._line(place) if place < len(self.columns) else ()
        over = "cursor" if place == self.at and line else PANEL
        return strip_of(line, palette_of(self), self.size.width, over=over)

    def _line(self, place: int) -> Line:
        column = self.columns[place]
        on = name_of(column) in self.on_
        says: Line = ()
        if self._sample is not None:
            text, style = column.cell(*self._sample)
            says = ((clean(text, 60), style),)
        return (
            ("› " if place == self.at else "  ", "mark"),
            ("[x] " if on else "[ ] ", "text" if on else "dim"),
            (fit(clean(column.title, 30), 24) + "  ", "strong" if on else "dim"),
            (fit(clean(column.key, 20), 16) + "  ", "faint"),
            *says,
        )


class ColumnChooser(Dialog[list[str]]):
    """Answers with the names of the columns to show; an empty list for those that the screen comes with; None when nothing changes."""

    BINDINGS = [
        Binding("up,k", "step(-1)", "the one before", id="columns.up", priority=True),
        Binding("down,j", "step(1)", "the next one", id="columns.down", priority=True),
        Binding("pageup", "step(-10)", "ten before", id="columns.page_up", priority=True),
        Binding("pagedown", "step(10)", "ten on", id="columns.page_down", priority=True),
        Binding("space", "show", "show it or not", id="columns.toggle", priority=True),
        Binding("left,h", "shift(-1)", "earlier", id="columns.earlier", priority=True),
        Binding("right,l", "shift(1)", "later", id="columns.later", priority=True),
        Binding("r", "reset", "as it comes", id="columns.reset", priority=True),
        Binding("enter", "keep", "keep", id="columns.keep", priority=True),
    ]

    def __init__(
        self, table: str, every: Sequence[Column], shown: Sequence[Column], own: int, sample: tuple[Any, int] | None
    ) -> None:
        """`every` are all columns with the `own` ones of the screen first, `shown` those that are shown now."""
        super().__init__()
        self._table, self._every, self._own = table, tuple(every), own
        names = {name_of(column) for column in shown}
        rest = [column for column in every if name_of(column) not in names]
        self.list = ColumnList([*shown, *rest], len(shown), sample)

    def panel(self) -> ComposeResult:
        yield block([((f"COLUMNS OF :{self._table}", "title"),), ()])
        yield self.list
        yield block((), "said")
        yield block(
            [
                hints(("space", "show or hide"), ("← →", "earlier, later"), ("r", "as it comes")),
                hints(("↵", "keep"), ("esc", "leave: nothing changes")),
            ]
        )

    def on_mount(self) -> None:
        self.set_focus(self.list)
        self.query_one("#said").styles.height = 1
        self.on_resize()

    def on_resize(self) -> None:
        height = self.app.size.height
        room = height - _CHROME_LOW if height < LOW else height * 9 // 10 - _CHROME
        self.list.styles.height = max(1, min(len(self.list.columns), room))

    def action_step(self, by: int) -> None:
        self.list.step(by)

    def action_show(self) -> None:
        self.list.toggle()

    def action_shift(self, by: int) -> None:
        self.list.shift(by)

    def action_reset(self) -> None:
        self.list.put(self._every, self._own)

    def action_keep(self) -> None:
        chosen = [name_of(column) for column in self.list.chosen]
        if not chosen:
            from aiwm_tui.widgets.lines import TextBlock

            self.query_one("#said", TextBlock).show([(("✗ ", "broken"), ("a table shows one column at least", "text"))])
            return
        standard = [name_of(column) for column in self._every[: self._own]]
        self.dismiss([] if chosen == standard else chosen)
