"""A page of lines that the engine answers with, asked for again every two seconds while one looks, and when the connection is back."""

from __future__ import annotations

import asyncio

from textual.app import ComposeResult

from aiwm_tui.live.history import Place
from aiwm_tui.live.link import Phase
from aiwm_tui.screens.item.screen import Facts
from aiwm_tui.screens.page import Page
from engine.contract.errors import AiwmError
from engine.contract.query import Location

AGAIN_S = 2.0


class AskedAgainPage(Page):
    """`fetch` gets the answer, `tick` shows it in `facts`; what was refused is in `error`, with the last answer still there."""

    DEFAULT_CSS = "AskedAgainPage { layout: vertical; }"

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.facts = Facts()
        self.error: AiwmError | None = None
        self._asking: asyncio.Task[None] | None = None

    async def fetch(self) -> None:
        """Ask the engine. Raises what it refuses."""

    def compose(self) -> ComposeResult:
        yield self.facts

    def on_mount(self) -> None:
        self.console.link.listeners.append(self._phase)
        self._ask()

    def begin(self) -> None:
        self.screen.set_focus(self.facts)

    def on_resize(self) -> None:
        self.tick()

    def ask_anew(self) -> None:
        """What is asked for is something else now."""
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        self._ask()

    def _phase(self, phase: Phase) -> None:
        if phase is Phase.live:
            self._ask()

    def _ask(self) -> None:
        if self._asking is None and self.console.link.phase is Phase.live:
            self._asking = asyncio.create_task(self._load())

    async def _load(self) -> None:
        try:
            await self.fetch()
            self.error = None
        except AiwmError as error:
            self.error = error
        self._asking = None
        if self.is_mounted:
            self.tick()
            self.set_timer(AGAIN_S, self._ask)

    def leave(self) -> None:
        if self._phase in self.console.link.listeners:
            self.console.link.listeners.remove(self._phase)
        if self._asking is not None:
            self._asking.cancel()
