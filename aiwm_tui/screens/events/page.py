"""The page of events: with `around:` those that match stand among their neighbours, which are drawn as something less."""

from __future__ import annotations

from aiwm_tui.live.history import Place
from aiwm_tui.live.text import Line
from aiwm_tui.screens.table_page import TablePage
from engine.contract.errors import AiwmError
from engine.contract.query import matches
from engine.contract.records import Record


class EventsPage(TablePage):
    """A table page that knows which rows match by themselves."""

    def _enter(self, place: Place) -> None:
        self.live_table.beside = self._is_beside if self.location.around else _never
        super()._enter(place)

    def _is_beside(self, row: Record) -> bool:
        try:
            return not matches(self.location, row, self.console.now())
        except AiwmError:
            # Only the engine knows what belongs to a chain: here all of it does.
            return False

    def status(self) -> Line:
        around, said = self.location.around, super().status()
        return (*said, (f" · {around} around each", "dim")) if around and said else said


def _never(_: Record) -> bool:
    return False
