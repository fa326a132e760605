"""The page of one queue, pool, instance, model, worker or event: its row field by field, its definition, and why."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from textual.app import ComposeResult

from aiwm_tui.live.history import Place
from aiwm_tui.live.text import Line, clean_lines
from aiwm_tui.live.views import LiveView
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.screens.explainer import Explainer
from aiwm_tui.screens.item.fields import field_lines
from aiwm_tui.screens.page import NOT_ON_ITEMS, Page
from aiwm_tui.screens.spec import Explain, table_screen
from aiwm_tui.screens.wording import refused
from aiwm_tui.states import state_span
from aiwm_tui.widgets.lines import TextBlock
from aiwm_tui.widgets.strip import WhyStrip
from engine.contract.errors import AiwmError
from engine.contract.query import Location
from engine.contract.records import Record
from engine.contract.requests.base import Request
from engine.contract.requests.fleet import PoolShow, QueueShow, WorkerShow

_SHOWN_BY: dict[str, type[Request[Any]]] = {"queues": QueueShow, "pools": PoolShow, "workers": WorkerShow}


class Facts(TextBlock, can_focus=True):
    """Lines that scroll."""

    def __init__(self, id: str = "facts") -> None:
        super().__init__(id=id)
        self.all: list[Line] = []
        self.first = 0

    def put(self, lines: list[Line]) -> None:
        self.all = lines
        self.move(0)

    def move(self, rows: int) -> None:
        self.first = max(0, min(self.first + rows, len(self.all) - self.size.height))
        self.show(self.all[self.first :])

    def page(self, pages: float) -> None:
        self.move(int(pages * self.size.height))

    def to_edge(self, direction: int) -> None:
        self.move(direction * len(self.all))


DEFINITION_SHOWN = 40_000
"""So many characters of a definition are shown: it is wrapped again with every change of its row."""


class ItemPage(Page):
    DEFAULT_CSS = """
    ItemPage { layout: vertical; }
    ItemPage WhyStrip { height: 9; }
    """

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.identifier = str(location.item)
        self.spec = table_screen(location.table)
        self.facts = Facts()
        self.strip = WhyStrip()
        self.explainer = Explainer(self, self.strip, self._to_explain)
        self.view: LiveView | None = None
        self._definition: Any = None
        self._error: AiwmError | None = None
        self._loading: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        yield self.facts
        yield self.strip

    def on_mount(self) -> None:
        quoted = f'"{self.identifier}"' if " " in self.identifier else self.identifier
        self.view = self.console.hub.open(f":{self.table} id:{quoted}", 1, self._changed)
        self._show()

    def begin(self) -> None:
        self.screen.set_focus(self.facts)

    def on_resize(self) -> None:
        self.strip.display = self.size.height >= 16
        self._show()

    def _changed(self) -> None:
        self.console.note_change()
        if self._loading is None and self.table in _SHOWN_BY:
            self._loading = asyncio.create_task(self._load())
        self._show()

    async def _load(self) -> None:
        try:
            answer = await self.console.link.call(_SHOWN_BY[self.table](name=self.identifier))
            self._definition, self._error = answer.definition, None
        except AiwmError as error:
            self._error = error
        self._loading = None
        if self.is_mounted:
            self._show()

    def _show(self) -> None:
        if self.view is None:
            return
        self.facts.put(self._lines())
        self.explainer.poke()
        self.console.status_changed()

    def _lines(self) -> list[Line]:
        assert self.view is not None
        error = self.view.error or self._error
        lines: list[Line] = refused(error) if error is not None else []
        row = self.row
        if row is None:
            missing = self.view.state is not None and error is None
            return [*lines, ((f" there is no {self.identifier} in :{self.table} now", "dim"),)] if missing else lines
        cells = max(20, self.size.width)
        lines += field_lines(self.table, row, self.console.now(), cells)
        if self._definition is not None:
            lines += [(), ((" DEFINITION", "title"),)]
            text = msgspec.json.format(msgspec.json.encode(self._definition), indent=2).decode()
            for each in clean_lines(text[:DEFINITION_SHOWN]):
                lines += wrapped(((" " + each, "text"),), cells)
            if len(text) > DEFINITION_SHOWN:
                lines.append(((f" … {len(text) - DEFINITION_SHOWN:,} more characters", "faint"),))
        return lines

    def _to_explain(self) -> tuple[Explain, Record] | None:
        return (self.spec.explain, self.row) if self.row is not None else None

    lacks = NOT_ON_ITEMS

    @property
    def table(self) -> str:
        return self.location.table

    @property
    def row(self) -> Record | None:
        state = self.view.state if self.view is not None else None
        return state.at(state.top) if state is not None else None

    def opens(self) -> str | None:
        target = self.spec.opens(self.row) if self.row is not None else None
        return target if target != f":{self.table}/{self.identifier}" else None

    def events_of(self) -> str:
        return self.spec.events(self.row) if self.row is not None else ""

    def status(self) -> Line:
        state = getattr(self.row, "state", "")
        return (state_span(self.table, state),) if state else ()

    def tick(self) -> None:
        self._show()

    def cycle_strip(self) -> None:
        self.strip.display = not self.strip.display
        if self.strip.display:
            self.explainer.resume()
        else:
            self.explainer.stop()

    def leave(self) -> None:
        self.explainer.stop()
        if self.view is not None:
            self.view.close()
