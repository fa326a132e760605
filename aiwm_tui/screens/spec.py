"""What a screen with one table is: data, so that a new screen is a new module with columns and a few functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

import msgspec

from aiwm_tui.live.charts import Zoom
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line


class Explained(msgspec.Struct, frozen=True):
    """What the strip says about a row: after the id in its title, and below. `counts` when it counts down: then it is asked for again
    every second although the row stands still."""

    title: str
    lines: tuple[Line, ...]
    counts: bool = False


Explain = Callable[[Link, Any, int], Awaitable[Explained]]
Plots = Callable[[Link, Any, int, Zoom, int, int], Awaitable[list[Line]]]
"""The charts of a row as of a time (Unix ms): so far back, in lines of so many cells, the area so many lines high."""


class TableScreen(msgspec.Struct, frozen=True):
    """`opens` gives the location that ↵ goes to, `events` the filter of this row's events, `empty` what would fill the table and how.
    `explain` may ask the engine; the strip calls it when the cursor rests and while its row changes. `plots` draws what was."""

    table: str
    columns: tuple[Column, ...]
    empty: tuple[Line, ...]
    opens: Callable[[Any], str]
    explain: Explain
    events: Callable[[Any], str] = lambda row: f"about:{row.id}"
    plots: Plots | None = None


def table_screen(table: str) -> TableScreen:
    """The screen of a table; its module is imported now."""
    name = "aiwm_tui.screens.needs" if table == "needs" else f"aiwm_tui.screens.{table}.screen"
    screen: TableScreen = import_module(name).SCREEN
    return screen
