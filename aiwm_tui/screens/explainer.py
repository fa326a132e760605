"""Fills the strip: asks why when the cursor rests, and again while the row changes, but never more than once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from textual.timer import Timer

from aiwm_tui.live.link import Phase
from aiwm_tui.screens.page import Page
from aiwm_tui.screens.spec import Explain, Explained
from aiwm_tui.screens.wording import refused
from aiwm_tui.widgets.strip import WhyStrip
from engine.contract.errors import AiwmError
from engine.contract.records import Record

REST_S = 0.06
AGAIN_S = 1.0


class Explainer:
    """Owned by a page; `current` gives the row and how to explain it, or None where there is nothing to explain."""

    def __init__(self, page: Page, strip: WhyStrip, current: Callable[[], tuple[Explain, Record] | None]) -> None:
        self._page = page
        self._strip = strip
        self._current = current
        self._shown = ""
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self.active = True

    def poke(self) -> None:
        """The cursor moved or its row changed."""
        if not self.active:
            return
        current = self._current()
        if current is None:
            self._stop()
            self._shown = ""
            self._strip.explain("", "", ())
            return
        _, row = current
        if row.id == self._shown and (self._timer is not None or self._task is not None):
            self._again = True
            return
        delay = REST_S if row.id != self._shown else AGAIN_S
        self._stop()
        self._timer = self._page.set_timer(delay, self._ask)

    def anew(self) -> None:
        """What is said of the row depends on something else now: ask again at once."""
        self._shown = ""
        self.poke()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        if self._task is not None:
            self._task.cancel()
        self._timer = self._task = None

    def stop(self) -> None:
        self.active = False
        self._stop()

    def resume(self) -> None:
        self.active = True
        self.poke()

    def _ask(self) -> None:
        self._timer = None
        current = self._current()
        if current is not None:
            self._again = False
            self._task = asyncio.create_task(self._fill(*current))

    async def _fill(self, explain: Explain, row: Any) -> None:
        try:
            answer = await explain(self._page.console.link, row, self._page.console.now())
        except AiwmError as error:
            answer = Explained("why", tuple(refused(error)))
            if self._page.console.link.phase is not Phase.live:
                # What was said before the connection broke is worth more than that it broke.
                self._task = None
                return
        self._task = None
        if not self._page.is_mounted:
            return
        self._shown = row.id
        self._strip.explain(row.id, answer.title, self._page.with_own_keys(answer.lines))
        if self._again or answer.counts:
            self.poke()
