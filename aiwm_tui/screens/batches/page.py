"""The page of one batch: how far it is, when it should be done, where its answers go, and the latest of them."""

from __future__ import annotations

import asyncio
from typing import Any

from textual.app import ComposeResult

from aiwm_tui.live import format as form
from aiwm_tui.live.history import Place
from aiwm_tui.live.text import Line, clean, fit
from aiwm_tui.live.views import LiveView
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.screens.item.screen import Facts
from aiwm_tui.screens.page import NOT_ON_ITEMS, Page
from aiwm_tui.screens.wording import facts, hints, refused
from aiwm_tui.states import state_span
from engine.contract.errors import AiwmError
from engine.contract.query import Location
from engine.contract.records import BatchRow
from engine.contract.requests.batches import BatchResult, BatchResults
from engine.contract.states import ENDED_STATES

BAR = 40
LATEST = 12
_KEY = 16


def batch_lines(row: BatchRow, latest: list[BatchResult], collection: Any, now: int) -> list[Line]:
    """A batch as lines. `collection` says where its answers are being written, None: nowhere from here. Pure."""
    ended = row.completed + row.failed + row.cancelled
    share = BAR * ended // row.total if row.total else 0
    failed = BAR * (row.failed + row.cancelled) // row.total if row.total else 0
    lines: list[Line] = [
        (
            (" ", ""),
            state_span("batches", row.state),
            (f"   {ended:,} of {row.total:,} ended", "strong"),
            *_counts(row),
        ),
        (
            (" ", ""),
            ("█" * (share - failed), "works"),
            ("█" * failed, "broken"),
            ("░" * (BAR - share), "faint"),
            *_pace(row, ended, now),
        ),
        facts(
            [
                ("queue", row.queue),
                ("template", row.template or form.NONE),
                ("by", row.by),
                ("begun", form.moment(row.at_ms, now)),
            ]
        ),
        _answers(row, collection),
    ]
    if collection is not None and collection.error is not None:
        lines += refused(collection.error)
    lines.append(hints((" ↵", "its tasks"), ("esc", "back")))
    if latest:
        lines += [(), ((" ANSWERS", "title"), ("  the latest first", "dim"))]
        lines += [_result(it) for it in reversed(latest)]
    return lines


def _counts(row: BatchRow) -> Line:
    parts = [
        ("run", row.running, "works"),
        ("wait", row.waiting, "text"),
        ("failed", row.failed, "alert"),
        ("cancelled", row.cancelled, "dim"),
    ]
    return tuple(
        span for word, count, style in parts if count for span in ((f"   {word} ", "dim"), (f"{count:,}", style))
    )


def _pace(row: BatchRow, ended: int, now: int) -> Line:
    if ended == row.total:
        return ()
    eta = (
        f", done about {form.moment(row.eta_ms, now)}, in {form.age(row.eta_ms - now)}"
        if row.eta_ms is not None
        else ""
    )
    return ((f"  {form.rate(row.per_min)} a minute{eta}", "dim"),)


def _answers(row: BatchRow, collection: Any) -> Line:
    if collection is None:
        return ((" Answers in order:  ", "dim"), (f"aiwm batch wait {clean(row.id, 64)} --out FILE", "key"))
    verb = "were written to" if collection.over else "written so far to"
    return (
        (f" {collection.written:,} answers ", "text"),
        (f"{verb} ", "dim"),
        (clean(str(collection.path), 200), "key"),
    )


def _result(it: BatchResult) -> Line:
    text = it.result.get("text") if isinstance(it.result, dict) else None
    style = "done" if it.state == "completed" else "broken"
    said = text if isinstance(text, str) else it.error.message if it.error is not None else it.state
    return (
        (f"  {'✓' if it.state == 'completed' else '✗'} ", style),
        (fit(clean(it.key or str(it.index), 40), _KEY) + " ", "dim"),
        (clean(said.strip(), 300), "text" if it.state == "completed" else "broken"),
    )


class BatchPage(Page):
    DEFAULT_CSS = "BatchPage { layout: vertical; }"
    lacks = NOT_ON_ITEMS | {"hold"}

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.identifier = str(location.item)
        self.body = Facts()
        self.view: LiveView | None = None
        self._latest: list[BatchResult] = []
        self._seen = -1
        self._loading: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        yield self.body

    def on_mount(self) -> None:
        self.view = self.console.hub.open(f':batches id:"{self.identifier}"', 1, self._changed)

    def begin(self) -> None:
        self.screen.set_focus(self.body)

    def on_resize(self) -> None:
        self.tick()

    def _changed(self) -> None:
        self.console.note_change()
        row = self.row
        if row is not None and self._loading is None and self._ended(row) != self._seen:
            self._loading = asyncio.create_task(self._load(row))
        self.tick()

    @staticmethod
    def _ended(row: BatchRow) -> int:
        return row.completed + row.failed + row.cancelled

    async def _load(self, row: BatchRow) -> None:
        """The last answers in the order of the batch, as far as it is without a gap."""
        try:
            after = max(-1, self._ended(row) - 2 * LATEST)
            page = await self.console.link.call(BatchResults(name=row.id, after=after, limit=2 * LATEST))
            self._latest = [it for it in page.results if it.state in ENDED_STATES][-LATEST:]
            self._seen = self._ended(row)
        except AiwmError:
            # The row says what there is to say; the next change asks again.
            pass
        self._loading = None
        # Not only when mounted: an answer may overtake the mounting, and who leaves cancels this.
        self.tick()

    def tick(self) -> None:
        if self.view is None:
            return
        row, cells = self.row, max(20, self.size.width)
        if row is None:
            lines = refused(self.view.error) if self.view.error is not None else self._nothing()
        else:
            lines = batch_lines(row, self._latest, self.console.collections.get(row.id), self.console.now())
        self.body.put([part for line in lines for part in wrapped(line, cells)])
        self.console.status_changed()

    def _nothing(self) -> list[Line]:
        if self.view is None or self.view.state is None:
            return [((" …", "faint"),)]
        return [((f" there is no batch {clean(self.identifier, 64)}", "dim"),), hints((" esc", "back"))]

    # What the app asks

    @property
    def table(self) -> str:
        return "batches"

    @property
    def row(self) -> BatchRow | None:
        state = self.view.state if self.view is not None else None
        row = state.at(0) if state is not None else None
        return row if isinstance(row, BatchRow) else None

    def opens(self) -> str | None:
        return f":tasks batch:{self.identifier}"

    def status(self) -> Line:
        row = self.row
        if row is None or not row.total:
            return ()
        return ((f"{self._ended(row) * 100 // row.total} % ended", "dim"),)

    def leave(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
        if self.view is not None:
            self.view.close()
