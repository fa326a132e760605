"""How the console goes from place to place: the history of them, and the page of the one where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiwm_tui.live.history import History
from aiwm_tui.screens.page import Page
from aiwm_tui.screens.registry import locate, page_for
from aiwm_tui.shell import Shell


class Navigation:
    """`history` is where the console is and was, from its first `location` on. `arrived` is called after each step, when the page
    stands."""

    def __init__(self, location: str, shell: Callable[[], Shell], arrived: Callable[[], None]) -> None:
        self.history = History().go(str(locate(location)))
        self._shell = shell
        self._arrived = arrived
        # A page is up before the next one is looked for, whoever asks for it: a key, or an answer that came.
        self._step = asyncio.Lock()

    def page(self) -> Page:
        """A new page for where the console is."""
        place = self.history.here
        assert place is not None
        return page_for(place, locate(place.location))

    async def go(self, location: str, *, instead: bool) -> None:
        """Go to a location, or put it in place of this one (`instead`). Raises the AiwmError of one that there is not."""
        target = str(locate(location))
        async with self._step:
            self._mark()
            self.history = self.history.instead(target) if instead else self.history.go(target)
            await self._show()

    async def travel(self, step: Callable[[History], History]) -> bool:
        """Go to another place of the history; False when there is none."""
        async with self._step:
            self._mark()
            history = step(self.history)
            if history is self.history:
                return False
            self.history = history
            await self._show()
        return True

    def _mark(self) -> None:
        self.history = self.history.mark(self._shell().page.place())

    async def _show(self) -> None:
        place = self.history.here
        assert place is not None
        shell = self._shell()
        if not shell.page.revisit(place, locate(place.location)):
            await shell.show_page(self.page())
        self._arrived()
