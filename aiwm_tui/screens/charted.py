"""Pages of tables whose rows have a history: charts below the reasons in the strip, and on the page of one row; `z` looks further back."""

from __future__ import annotations

import asyncio

from aiwm_tui.live.charts import HOUR, Zoom, zoomed
from aiwm_tui.live.history import Place
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.screens.item.screen import ItemPage
from aiwm_tui.screens.spec import Explain, Explained
from aiwm_tui.screens.table_page import TablePage
from aiwm_tui.screens.wording import refused
from aiwm_tui.widgets.paint import lean_of
from engine.contract.errors import AiwmError
from engine.contract.query import Location
from engine.contract.records import Record

_ROWS = 4
_AGAIN_S = 1.0


class Charted(TablePage):
    """A table page whose strip has the charts of the row under the cursor below its reasons."""

    zoom_in_use: Zoom = HOUR

    def _to_explain(self) -> tuple[Explain, Record] | None:
        current = super()._to_explain()
        return None if current is None else (self._explain_with_charts, current[1])

    async def _explain_with_charts(self, link: Link, row: Record, now: int) -> Explained:
        assert self.spec.plots is not None
        said = await self.spec.explain(link, row, now)
        if lean_of(self):
            hint = ((" charts are left out on a thin line; ", "faint"), ("d", "key"), (" shows them", "faint"))
            return Explained(said.title, (*said.lines, hint), said.counts)
        cells = max(30, self.strip.size.width)
        try:
            drawn = await self.spec.plots(link, row, now, self.zoom_in_use, cells, _ROWS)
        except AiwmError as error:
            drawn = refused(error)
        return Explained(said.title, (*said.lines, *drawn), said.counts or self._moves())

    def _moves(self) -> bool:
        """Whether there is work: then the charts move on although the row may stand still."""
        return any(getattr(self.row, name, 0) for name in ("waiting", "running", "busy", "in_use"))

    def zoom(self) -> str:
        self.zoom_in_use = zoomed(self.zoom_in_use)
        self.explainer.anew()
        return self.zoom_in_use.name


class ChartPage(ItemPage):
    """The page of one row: its charts first, then what is known of it, and its definition."""

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.zoom_in_use = HOUR
        self._drawn: list[Line] = []
        self._drawing: asyncio.Task[None] | None = None
        self._again = False

    def _changed(self) -> None:
        super()._changed()
        self._draw()

    def on_resize(self) -> None:
        super().on_resize()
        self._draw()

    def tick(self) -> None:
        super().tick()
        self._draw()

    def _draw(self) -> None:
        """Ask for the charts, but never more than once a second; what came meanwhile is seen then."""
        if self._drawing is not None:
            self._again = True
        elif self.row is not None and self.is_mounted:
            self._drawing = asyncio.create_task(self._load_charts(self.row, self.zoom_in_use))

    async def _load_charts(self, row: Record, zoom: Zoom) -> None:
        assert self.spec.plots is not None
        cells = max(30, self.size.width)
        rows = max(_ROWS, min(12, self.size.height // 5))
        try:
            lines = await self.spec.plots(self.console.link, row, self.console.now(), zoom, cells, rows)
        except AiwmError as error:
            lines = refused(error)
        drawn = [part for line in lines for part in wrapped(line, cells)]
        if drawn != self._drawn:
            self._drawn = drawn
            self._show()
        await asyncio.sleep(_AGAIN_S)
        self._drawing = None
        if self._again and self.is_mounted:
            self._again = False
            self._draw()

    def _lines(self) -> list[Line]:
        known = super()._lines()
        return [*self._drawn, (), *known] if self._drawn else known

    def zoom(self) -> str:
        self.zoom_in_use = zoomed(self.zoom_in_use)
        if self._drawing is not None:
            self._drawing.cancel()
            self._drawing = None
        self._draw()
        return self.zoom_in_use.name

    def leave(self) -> None:
        super().leave()
        if self._drawing is not None:
            self._drawing.cancel()
