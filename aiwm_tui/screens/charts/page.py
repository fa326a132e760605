"""One series drawn large, or several of a pattern (`:charts/queue.demo.*`) one below the other over the same time."""

from __future__ import annotations

from aiwm_tui.live import charts
from aiwm_tui.live import format as form
from aiwm_tui.live.history import Place
from aiwm_tui.live.text import Line, clean
from aiwm_tui.screens.again import AskedAgainPage
from aiwm_tui.screens.charts.screen import SINCE, drawn, read, writer
from aiwm_tui.screens.page import NOT_ON_ITEMS
from aiwm_tui.screens.plots import heading
from aiwm_tui.screens.wording import para, refused
from engine.contract.query import Location
from engine.contract.requests.usage import Series

_MOST = 40
_LEAST_ROWS = 3


class SeriesPage(AskedAgainPage):
    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.name_of_series = str(location.item)
        self.series: list[Series] | None = None
        self.zoom_in_use = SINCE.of(location)

    async def fetch(self) -> None:
        found = await read(self.console.link, (self.name_of_series,), self.console.now(), self.zoom_in_use)
        self.series = found[:_MOST]

    # What the app asks

    lacks = NOT_ON_ITEMS | {"open", "why", "hold"}

    @property
    def table(self) -> str:
        return "charts"

    def status(self) -> Line:
        return ((f"{len(self.series)} series", "dim"),) if self.series else ()

    def zoom(self) -> str:
        location, name = SINCE.further(self.location)
        self.console.open_location(str(location))
        return name

    def tick(self) -> None:
        self.facts.put(self._lines())
        self.console.status_changed()

    def _lines(self) -> list[Line]:
        if self.error is not None:
            return refused(self.error)
        if self.series is None:
            return []
        now, zoom, cells = self.console.now(), self.zoom_in_use, max(30, self.size.width)
        lines: list[Line] = [heading(clean(self.name_of_series, 100), zoom)]
        if not self.series:
            return [*lines, para("no samples of it in this time: they are taken while something moves", "dim")]
        wide, since = charts.room(cells), now - zoom.span_ms
        rows = max(_LEAST_ROWS, (self.size.height - 4) // len(self.series) - 2)
        for one in self.series:
            lines += series_lines(one, since, now, wide, min(rows, 24), titled=len(self.series) > 1)
        return [*lines, charts.axis(since, now, wide)]

    def revisit(self, place: Place, location: Location) -> bool:  # noqa: ARG002 (a chart has no cursor)
        if location.table != "charts" or location.item != self.location.item:
            return False
        self.location, self.zoom_in_use = location, SINCE.of(location)
        self.ask_anew()
        return True


def series_lines(series: Series, since: int, now: int, wide: int, rows: int, *, titled: bool) -> list[Line]:
    """The area of one series and a line with its least, mean, most and last."""
    unit, points = drawn(series)
    write = writer(series.name)
    values = charts.over_time(points, since, now, wide)
    here = [value for at_ms, value in points if at_ms >= since]
    last = f"{write(points[-1][1])}{unit}" if points else form.NONE
    known = (
        f"least {write(min(here))}  mean {write(sum(here) / len(here))}  most {write(max(here))}  {len(here)} points"
        if here
        else "nothing moved in this time"
    )
    title: list[Line] = [((f" {clean(series.name, 100)}{' ' + unit if unit else ''}", "title"),)] if titled else []
    return [
        *title,
        *charts.area(values, rows, charts.largest(values), write, now=last),
        ((" " * charts.LABEL + known, "dim"),),
    ]
