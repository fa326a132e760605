"""A table page with lines above the table: what its rows share, from other rows or from an answer of the engine."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Container

from aiwm_tui.live.history import Place
from aiwm_tui.live.text import Line
from aiwm_tui.screens.spec import TableScreen
from aiwm_tui.screens.table_page import TablePage
from aiwm_tui.widgets.lines import TextBlock
from engine.contract.query import Location

LEAST_ROOM = 20
"""A page of fewer lines shows its table instead."""


class HeadedPage(TablePage):
    """`head_lines` says what stands above the table; call `show_head` when that changed."""

    DEFAULT_CSS = """
    HeadedPage, HeadedPage.-wide { layout: vertical; }
    HeadedPage #body { layout: vertical; height: 1fr; }
    HeadedPage.-wide #body { layout: horizontal; }
    """

    def __init__(self, screen: TableScreen, place: Place, location: Location) -> None:
        super().__init__(screen, place, location)
        self.head = TextBlock(id="head")

    def compose(self) -> ComposeResult:
        yield self.head
        with Container(id="body"):
            yield self.detail
            yield self.live_table
            yield self.strip

    def head_lines(self, cells: int) -> Sequence[Line]:  # noqa: ARG002 (pages that have something to say use it)
        """What stands above the table, in lines of at most `cells`; nothing, unless a page says something."""
        return ()

    def show_head(self) -> None:
        """Show the head as it is now."""
        room = self.size.height or self.app.size.height
        lines = self.head_lines(max(20, self.size.width or self.app.size.width)) if room >= LEAST_ROOM else ()
        if len(lines) != self.head_height:
            self.head_height = len(lines)
            self.head.styles.height = len(lines)
            self.head.display = bool(lines)
            self._heights = (0, 0)
            self._share_height()
        self.head.show(self.with_own_keys(lines))

    def on_mount(self) -> None:
        self.head.styles.height = 0
        self.head.display = False
        super().on_mount()
        self.show_head()

    def on_resize(self) -> None:
        super().on_resize()
        self.show_head()

    def tick(self) -> None:
        super().tick()
        self.show_head()
