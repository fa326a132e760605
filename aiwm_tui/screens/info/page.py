"""The page of a screen without a table: an answer of the engine as lines, asked for again every two seconds while one looks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

import msgspec
from textual.app import ComposeResult

from aiwm_tui.live.history import Place
from aiwm_tui.live.link import Link, Phase
from aiwm_tui.live.text import Line
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.screens.item.screen import Facts
from aiwm_tui.screens.page import NOT_ON_ITEMS, Page
from aiwm_tui.screens.wording import refused
from engine.contract.errors import AiwmError
from engine.contract.query import Location

AGAIN_S = 2.0


class InfoScreen(msgspec.Struct, frozen=True):
    """`ask` gets the answer for a location, `lines` writes it as of a time (Unix ms). `status` is the right end of the location line."""

    ask: Callable[[Link, Location, int], Awaitable[Any]]
    lines: Callable[[Any, int], list[Line]]
    status: Callable[[Any], Line] = lambda _: ()


class InfoPage(Page):
    DEFAULT_CSS = "InfoPage { layout: vertical; }"

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.spec: InfoScreen = import_module(f"aiwm_tui.screens.info.{location.table}").SCREEN
        self.facts = Facts()
        self.answer: Any = None
        self.error: AiwmError | None = None
        self._asking: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        yield self.facts

    def on_mount(self) -> None:
        self.console.link.listeners.append(self._phase)
        self._ask()

    def begin(self) -> None:
        self.screen.set_focus(self.facts)

    def _phase(self, phase: Phase) -> None:
        if phase is Phase.live:
            self._ask()

    def _ask(self) -> None:
        if self._asking is None and self.console.link.phase is Phase.live:
            self._asking = asyncio.create_task(self._load())

    async def _load(self) -> None:
        try:
            self.answer = await self.spec.ask(self.console.link, self.location, self.console.now())
            self.error = None
        except AiwmError as error:
            self.error = error
        self._asking = None
        if self.is_mounted:
            self.tick()
            self.set_timer(AGAIN_S, self._ask)

    def on_resize(self) -> None:
        self.tick()

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

    def leave(self) -> None:
        if self._phase in self.console.link.listeners:
            self.console.link.listeners.remove(self._phase)
        if self._asking is not None:
            self._asking.cancel()
