"""The page of one instance: what it is and has used. Of one that is talked to, the conversation, with the answer as it comes; of one that
works for a pool, the text of its task as it is written, and its last tasks."""

from __future__ import annotations

import asyncio
from typing import Any

from textual.app import ComposeResult
from textual.timer import Timer

from aiwm_tui.live import format as form
from aiwm_tui.live.following import Following
from aiwm_tui.live.history import Place
from aiwm_tui.live.talk import Talk, answered, asked, heard, text_of
from aiwm_tui.live.text import Line, Span, clean
from aiwm_tui.live.views import LiveView
from aiwm_tui.screens.instances.lately import lately_lines
from aiwm_tui.screens.item.screen import Facts
from aiwm_tui.screens.page import NOT_ON_ITEMS, Page
from aiwm_tui.screens.wording import facts, hints, para, refused
from aiwm_tui.states import state_span
from aiwm_tui.widgets.lines import TextBlock
from aiwm_tui.widgets.stream import StreamText
from engine.contract.errors import AiwmError
from engine.contract.notifications import InstanceChunk
from engine.contract.query import Location, Op, Term
from engine.contract.records import InstanceDetail, InstanceRow, Record
from engine.contract.requests.instances import InstanceChat, InstanceShow, InstanceStop
from engine.contract.requests.session import ViewRead

_LATELY = 50
_AGAIN_S = 1.0
"""An instance may end many tasks a second: its last ones are looked up no oftener than that."""


class InstancePage(Page):
    DEFAULT_CSS = """
    InstancePage { layout: vertical; }
    InstancePage #head { height: 6; }
    InstancePage #lately { height: 1fr; }
    """

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.instance = str(location.item)
        self.head = TextBlock(id="head")
        self.stream = StreamText(id="stream")
        self.lately = Facts("lately")
        self.following: Following | None = None
        self.view: LiveView | None = None
        self.detail: InstanceDetail | None = None
        self.error: AiwmError | None = None
        self.talk = Talk()
        self._stop_hearing: Any = None
        self._loading: asyncio.Task[None] | None = None
        self._records: list[dict[str, Any]] = []
        self._read_s = 0.0
        self._later: Timer | None = None

    def compose(self) -> ComposeResult:
        yield self.head
        yield self.stream
        yield self.lately

    def on_mount(self) -> None:
        self.view = self.console.hub.open(f":instances id:{self.instance}", 1, self._changed)
        self._stop_hearing = self.console.link.on(InstanceChunk, self._heard)
        self._show()

    def begin(self) -> None:
        self.screen.set_focus(self.lately if self.of_pool else self.stream)

    def on_resize(self) -> None:
        self._show()

    # What changes

    def _changed(self) -> None:
        self.console.note_change()
        self._reload()
        self._show()

    def _reload(self) -> None:
        if self._loading is None and not self.talk.answering and self.is_mounted:
            self._loading = asyncio.create_task(self._load())

    async def _look_back(self) -> None:
        """Read the last tasks that ended, or do so soon when that was just done."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._read_s < _AGAIN_S:
            if self._later is None:
                self._later = self.set_timer(_AGAIN_S, self._look_later)
            return
        self._read_s = now_s
        mine = Location("records", None, (Term(Op.any_of, (self.instance,), "instance"),))
        self._records = (await self.console.link.call(ViewRead(location=str(mine), size=_LATELY))).rows

    def _look_later(self) -> None:
        self._later = None
        self._reload()

    async def _load(self) -> None:
        try:
            detail = await self.console.link.call(InstanceShow(id=self.instance))
            self.detail, self.error = detail, None
            if self.of_pool:
                await self._look_back()
            if not self.talk.answering:
                self.talk = Talk(detail.turns)
        except AiwmError as error:
            self.error = error
        self._loading = None
        if self.is_mounted:
            self._show()

    def _heard(self, chunk: InstanceChunk) -> None:
        if chunk.instance == self.instance:
            self.talk = heard(self.talk, chunk)
            self._show()

    async def say_to(self, message: str) -> None:
        """Say something to the instance and wait for the end of its answer, however long that takes."""
        self.talk = asked(self.talk, message)
        self.stream.to_edge(1)
        self._show()
        try:
            request = InstanceChat(id=self.instance, message=message, stream=True)
            self.talk = answered(self.talk, await self.console.link.call(request, timeout_s=None))
        except AiwmError:
            self.talk = Talk(self.talk.turns)
            raise
        finally:
            if self.is_mounted:
                self._changed()

    async def stop_answer(self) -> None:
        await self.console.link.call(InstanceStop(id=self.instance))

    def _show(self) -> None:
        if self.view is None:
            return
        lines = self._lines()
        if self.head.styles.height is None or self.head.styles.height.value != len(lines):
            self.head.styles.height = len(lines)
        self.head.show(self.with_own_keys(lines))
        self._follow()
        followed = self.following.state if self.following is not None else None
        self.lately.display = self.of_pool
        self.stream.display = not self.of_pool or followed is not None
        if self.of_pool and not self.stream.display and self.is_attached and self.stream.has_focus:
            self.screen.set_focus(self.lately)
        if self.of_pool:
            text = followed.text if followed is not None else ""
            writing = followed is not None and not followed.ended
            lines = lately_lines(self._records, self.console.now())
            self.lately.put(_signed(lines) if self.lately.has_focus and self.stream.display else lines)
        else:
            text, writing = text_of(self.talk), self.talk.answering
        self.stream.show(text, writing=writing, stale=self.view.stale)
        self.console.status_changed()

    def on_descendant_focus(self) -> None:
        self._show()

    def on_descendant_blur(self) -> None:
        self._show()

    def next_part(self) -> None:
        if self.of_pool:
            self.screen.set_focus(self.lately if self.stream.has_focus or not self.stream.display else self.stream)

    @property
    def of_pool(self) -> bool:
        """Whether it works for a pool, and is not talked to."""
        row = self.row
        return isinstance(row, InstanceRow) and bool(row.pool)

    def _follow(self) -> None:
        """Follow the text of the task that it has now."""
        task = getattr(self.row, "task", None) if self.of_pool else None
        followed = self.following.state.task if self.following is not None else None
        if task == followed:
            return
        if self.following is not None:
            self.following.close()
        self.following = Following(self.console.link, task, self._show) if task is not None else None

    def _lines(self) -> list[Line]:
        row, now = self.row, self.console.now()
        known = self.view is not None and self.view.state is not None
        if not isinstance(row, InstanceRow):
            if self.view is not None and self.view.error is not None:
                return refused(self.view.error)
            return self._gone(now) if known else []
        if self.error is not None:
            return refused(self.error)
        detail = self.detail
        where = ("of", f"pool {row.pool}") if row.pool else ("spawned", f"by {row.by or 'somebody'}")
        tokens = (
            f"{form.count(detail.tokens_in)} in  {form.count(detail.tokens_out)} out"
            if detail
            else form.count(row.tokens)
        )
        cost = f"${detail.cost_usd:.4f}" if detail is not None and detail.cost_usd else "none"
        lines = [
            facts(
                [
                    ("definition", row.definition),
                    where,
                    ("age", form.since(row.spawned_ms, now)),
                    ("task", row.task or form.NONE),
                ]
            ),
            facts(
                [
                    ("turns" if not row.pool else "done", form.count(row.done)),
                    ("failed", form.count(row.failed)),
                    ("tokens", tokens),
                    ("cost", cost),
                ]
            ),
            self._context_line(row),
        ]
        until, why = (self.talk.until_ms, self.talk.why) if self.talk.until_ms else (row.until_ms, row.note)
        if until is not None:
            lines.append(para(f"◌ waits: {why}; opens {form.moment(until, now)}, in {form.age(until - now)}", "held"))
        elif row.note:
            lines.append(para(row.note, "wrong" if row.state in ("full", "broken", "stuck") else "dim"))
        if not row.pool and not self.talk.turns and not self.talk.answering:
            lines.append(hints((" T", "talk to it")))
        return [*lines, ()]

    def _gone(self, now: int) -> list[Line]:
        """It is no more: how that came, and where it is remembered."""
        retired = self.detail.retired if self.detail is not None else None
        lines: list[Line] = []
        if retired is not None:
            lines.append(para(f"{retired.state} {form.since(retired.retired_ms, now)} ago: {retired.reason}", "strong"))
        gone = f" There is no {clean(self.instance, 20)} now; "
        return [
            *lines,
            ((gone, "dim"), (f":retired/{clean(self.instance, 20)}", "key"), (" is what became of it", "dim")),
            (),
        ]

    def _context_line(self, row: InstanceRow) -> Line:
        """How full its context is: the next turn is refused when it is full."""
        if not row.context_max:
            return facts([("context", "not used yet")])
        share = row.context * 100 // row.context_max
        line: list[Span] = [*facts([("context", f"{form.count(row.context)} of {form.count(row.context_max)} tokens")])]
        style = "broken" if row.state == "full" else "wrong" if share >= 90 else "dim"
        full = "  full: the next turn is refused, X retires it" if row.state == "full" else f"  {share} %"
        return (*line, (full, style))

    # What the app asks

    lacks = (NOT_ON_ITEMS - {"pane"}) | {"why", "hold"}

    @property
    def table(self) -> str:
        return "instances"

    @property
    def row(self) -> Record | None:
        state = self.view.state if self.view is not None else None
        return state.at(state.top) if state is not None else None

    def opens(self) -> str | None:
        task = getattr(self.row, "task", None)
        return f":tasks/{task}" if task else None

    def status(self) -> Line:
        state = getattr(self.row, "state", "")
        line: list[Span] = [state_span("instances", state)] if state else []
        if self.talk.answering:
            line.append((" · answers" if self.stream.follows else " · answers; G follows", "dim"))
        return tuple(line)

    def tick(self) -> None:
        self._show()

    def leave(self) -> None:
        if self._stop_hearing is not None:
            self._stop_hearing()
        if self.following is not None:
            self.following.close()
        if self._loading is not None:
            self._loading.cancel()
        if self.view is not None:
            self.view.close()


def _signed(lines: list[Line]) -> list[Line]:
    """A sign before the first line: of two parts this one has the keys."""
    (text, style), *rest = lines[0]
    return [(("›", "mark"), (text[1:], style), *rest), *lines[1:]]
