"""Which page shows a location. Modules are imported when first needed, so that the first frame pays for one screen only."""

from __future__ import annotations

from importlib import import_module

from aiwm_tui.actions import SCREENS, TABLES
from aiwm_tui.live.history import Place
from aiwm_tui.screens.page import Page
from aiwm_tui.screens.spec import table_screen
from engine.contract.query import Location, parse

INFOS = frozenset({"engine", "limits"})
ASKED = frozenset({"usage", "charts"})
"""Screens whose rows are an answer of the engine."""
PLACES = frozenset({"overview", "compare", "start", "demo"}) | INFOS | ASKED
"""Screens that are no tables."""
NAMES = (
    *(name for _, name, _ in SCREENS),
    *sorted(TABLES - {name for _, name, _ in SCREENS} - {"needs"} | INFOS | ASKED | {"start", "demo"}),
)
"""Every screen, those with a key first."""


def locate(text: str) -> Location:
    """A typed location as a Location; `bad_location` names the token that is wrong."""
    return parse(text, PLACES)


def page_for(place: Place, location: Location) -> Page:
    """A new page for a location."""
    if location.table == "overview":
        from aiwm_tui.screens.overview.screen import OverviewPage

        return OverviewPage(place, location)
    if location.table == "start":
        from aiwm_tui.screens.start.page import StartPage

        return StartPage(place, location)
    if location.table == "demo":
        from aiwm_tui.screens.demo.page import DemoPage

        return DemoPage(place, location)
    if location.table == "compare":
        from aiwm_tui.screens.compare.page import ComparePage

        return ComparePage(place, location)
    if location.table in ASKED:
        return _asked_page(place, location)
    if location.table in INFOS:
        from aiwm_tui.screens.info.page import InfoPage

        return InfoPage(place, location)
    return _item_page(place, location) if location.item else _table_page(place, location)


def _asked_page(place: Place, location: Location) -> Page:
    if location.table == "charts" and location.item:
        from aiwm_tui.screens.charts.page import SeriesPage

        return SeriesPage(place, location)
    from aiwm_tui.screens.asked import AskedPage

    return AskedPage(import_module(f"aiwm_tui.screens.{location.table}.screen").SCREEN, place, location)


def _item_page(place: Place, location: Location) -> Page:
    if location.table == "tasks":
        from aiwm_tui.screens.tasks.task import TaskPage

        return TaskPage(place, location)
    if location.table == "instances":
        from aiwm_tui.screens.instances.page import InstancePage

        return InstancePage(place, location)
    if location.table == "batches":
        from aiwm_tui.screens.batches.page import BatchPage

        return BatchPage(place, location)
    if location.table == "logs":
        from aiwm_tui.screens.logs.page import LogPage

        return LogPage(place, location)
    if table_screen(location.table).plots is not None:
        from aiwm_tui.screens.charted import ChartPage

        return ChartPage(place, location)
    from aiwm_tui.screens.item.screen import ItemPage

    return ItemPage(place, location)


def _table_page(place: Place, location: Location) -> Page:
    screen = table_screen(location.table)
    if location.table == "models":
        from aiwm_tui.screens.models.page import ModelsPage

        return ModelsPage(screen, place, location)
    if location.table == "events":
        from aiwm_tui.screens.events.page import EventsPage

        return EventsPage(screen, place, location)
    if location.table == "adapters":
        from aiwm_tui.screens.adapters.page import AdaptersPage

        return AdaptersPage(screen, place, location)
    if screen.plots is not None:
        from aiwm_tui.screens.charted import Charted

        return Charted(screen, place, location)
    from aiwm_tui.screens.table_page import TablePage

    return TablePage(screen, place, location)
