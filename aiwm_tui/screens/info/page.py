"""The page of a screen without a table: an answer of the engine as lines, asked for again every two seconds while one looks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

import msgspec

from aiwm_tui.live.history import Place
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.screens.again import AskedAgainPage
from aiwm_tui.screens.page import NOT_ON_ITEMS
from aiwm_tui.screens.wording import refused
from engine.contract.query import Location


class InfoScreen(msgspec.Struct, frozen=True):
    """`ask` gets the answer for a location, `lines` writes it as of a time (Unix ms). `status` is the right end of the location line."""

    ask: Callable[[Link, Location, int], Awaitable[Any]]
    lines: Callable[[Any, int], list[Line]]
    status: Callable[[Any], Line] = lambda _: ()


class InfoPage(AskedAgainPage):
    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.spec: InfoScreen = import_module(f"aiwm_tui.screens.info.{location.table}").SCREEN
        self.answer: Any = None

    async def fetch(self) -> None:
        self.answer = await self.spec.ask(self.console.link, self.location, self.console.now())

    # What the app asks

    lacks = NOT_ON_ITEMS | {"open", "why", "hold", "copy"}

    @property
    def table(self) -> str:
        return self.location.table

    def status(self) -> Line:
        return self.spec.status(self.answer) if self.answer is not None else ()

    def tick(self) -> None:
        lines = refused(self.error) if self.error is not None else []
        if self.answer is not None:
            lines = [*lines, *self.spec.lines(self.answer, self.console.now())]
        cells = max(20, self.size.width)
        self.facts.put([part for line in lines for part in wrapped(line, cells)])
        self.console.status_changed()

    def revisit(self, place: Place, location: Location) -> bool:  # noqa: ARG002
        return False
