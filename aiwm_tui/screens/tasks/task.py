"""The page of one task: its text as it is written, facts, timeline, and why."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.css.scalar import Unit
from textual.widget import Widget

from aiwm_tui.live import format as form
from aiwm_tui.live.following import Following
from aiwm_tui.live.history import Place
from aiwm_tui.live.text import Line, Span, clean
from aiwm_tui.live.views import LiveView
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.screens.explainer import Explainer
from aiwm_tui.screens.item.screen import Facts
from aiwm_tui.screens.page import NOT_ON_ITEMS, Page
from aiwm_tui.screens.spec import Explain
from aiwm_tui.screens.tasks.facts import asked_lines, row_facts, tool_lines
from aiwm_tui.screens.tasks.given import given, known_of
from aiwm_tui.screens.tasks.origins import note_lines, origin_lines
from aiwm_tui.screens.tasks.screen import explain, result_text
from aiwm_tui.screens.tasks.settings import Given, setting_lines, settings
from aiwm_tui.screens.tasks.timeline import Usual, timeline
from aiwm_tui.screens.wording import failure, refused
from aiwm_tui.states import state_span
from aiwm_tui.widgets.lines import TextLine
from aiwm_tui.widgets.stream import StreamText
from aiwm_tui.widgets.strip import StripSize, WhyStrip
from engine.contract.errors import AiwmError
from engine.contract.query import Location
from engine.contract.records import Record, TaskDetail, TaskRow
from engine.contract.requests.comparisons import PromptText, TaskPrompt
from engine.contract.requests.context import EffectiveContext, TaskContextShow
from engine.contract.requests.tasks import TaskExplain, TaskShow

if TYPE_CHECKING:
    from aiwm_tui.actions import Action

NARROW = 100
STRIP_LINES = 8


class TaskPage(Page):
    DEFAULT_CSS = """
    TaskPage { layout: vertical; }
    TaskPage #upper { height: 1fr; }
    TaskPage #output { width: 58%; }
    TaskPage #aside { width: 42%; height: 1fr; }
    TaskPage #facts { height: 1fr; padding-left: 1; }
    TaskPage #timeline { height: 1fr; }
    TaskPage #steps-title { margin-top: 1; }
    TaskPage.-narrow #upper { layout: vertical; }
    TaskPage.-narrow #output { width: 100%; height: 2fr; }
    TaskPage.-narrow #output StreamText { height: 1fr; }
    TaskPage.-narrow #aside { width: 100%; height: 1fr; }
    """

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.task_id = str(location.item)
        self.detail: TaskDetail | None = None
        self.given: Given | None = None
        self.known: Usual | None = None
        self.prompt: PromptText | None = None
        self.placed: tuple[str, ...] = ()
        self.context: EffectiveContext | None = None
        self.error: AiwmError | None = None
        self.following: Following | None = None
        self.view: LiveView | None = None
        self.output = Vertical(id="output")
        self.heading = TextLine(id="heading")
        self.stream = StreamText(id="stream")
        self.steps_title = TextLine(id="steps-title")
        self.timeline = Facts("timeline")
        self.facts_title = TextLine(id="facts-title")
        self.facts = Facts()
        self.strip = WhyStrip()
        self.explainer = Explainer(self, self.strip, self._to_explain)
        self._size_of_strip = StripSize.normal
        self._loading: asyncio.Task[None] | None = None
        self._reload = False
        self._held = False

    def compose(self) -> ComposeResult:
        with Horizontal(id="upper"):
            with self.output:
                yield self.heading
                yield self.stream
                yield self.steps_title
                yield self.timeline
            with Vertical(id="aside"):
                yield self.facts_title
                yield self.facts
        yield self.strip

    def on_mount(self) -> None:
        self.following = Following(self.console.link, self.task_id, self._show)
        self.view = self.console.hub.open(f":tasks id:{self.task_id}", 1, self._row_changed)
        self._show()

    def begin(self) -> None:
        self.screen.set_focus(self.stream)

    def on_resize(self) -> None:
        self.set_class(self.size.width < NARROW, "-narrow")
        # What is asked is wrapped to the width that its part has after this.
        self.call_after_refresh(self._show)

    def _lay_out(self) -> None:
        """The text has the lines it needs, the timeline follows it; when both do not fit, the timeline keeps a third."""
        room = self.size.height
        has_why = self._to_explain() is not None and room >= 18
        closed = self._size_of_strip is StripSize.closed or not has_why
        strip = 0 if closed else (room // 2 if self._size_of_strip is StripSize.grown else STRIP_LINES)
        self.strip.display = not closed
        if not closed:
            _set_height(self.strip, strip)
        if self.has_class("-narrow"):
            self.timeline.display = self.steps_title.display = False
            text = max(3, len(self.stream.lines))
            _set_height(self.output, 1 + min(text, (room - strip) * 3 // 5))
            _fill(self.stream)
            return
        _fill(self.output)
        room -= strip + 3
        steps = len(self.timeline.all)
        least = min(steps, room // 3)
        self.timeline.display = self.steps_title.display = bool(least)
        _set_height(self.stream, max(1, min(max(3, len(self.stream.lines)), room - least)))

    # What changes

    def _row_changed(self) -> None:
        """The task's row changed: its timeline and result may have too."""
        self.console.note_change()
        self._fetch()
        self._show()

    def _fetch(self) -> None:
        if self._loading is not None:
            self._reload = True
            return
        self._reload = False
        self._loading = asyncio.create_task(self._load())

    async def _load(self) -> None:
        try:
            self.detail, self.error = await self.console.link.call(TaskShow(id=self.task_id)), None
            self.context = await self.console.link.call(TaskContextShow(id=self.task_id))
            if self.given is None:
                self.given = await given(self.console.link, self.detail.row)
                self.known = await known_of(self.console.link, self.detail.row)
            if self.detail.row.state == "processing" and not self.placed:
                self.placed = (await self.console.link.call(TaskExplain(id=self.task_id))).notes
        except AiwmError as error:
            self.error = error
        self._loading = None
        if self.is_mounted:
            self._show()
            if self._reload:
                self.set_timer(0.1, self._fetch)

    @property
    def row(self) -> TaskRow | None:
        state = self.view.state if self.view is not None else None
        live = state.at(state.top) if state is not None else None
        if isinstance(live, TaskRow):
            return live
        return self.detail.row if self.detail is not None else None

    def _show(self) -> None:
        if self.following is None or self._held or not self.is_attached:
            return
        row, now = self.row, self.console.now()
        stale = self.view is not None and self.view.stale
        text, writing = self._output(row)
        self.stream.show(text, writing=writing, stale=stale)
        self.heading.show(self._heading(row, writing))
        self.timeline.put(self._timeline(row, now))
        self.facts.put(self._facts(row, now))
        self.steps_title.show((self._title("TIMELINE", self.timeline),))
        self.facts_title.show((self._title("FACTS", self.facts),))
        self._lay_out()
        self.explainer.poke()
        self.console.status_changed()

    def _output(self, row: TaskRow | None) -> tuple[str, bool]:
        """What stands in the output, and whether more comes."""
        assert self.following is not None
        followed = self.following.state
        if self.prompt is not None:
            return self.prompt.text, False
        if row is not None and row.state == "completed" and self.detail is not None and self.detail.result is not None:
            return result_text(self.detail.result), False
        writing = row is not None and row.state == "processing" and not followed.ended
        return followed.text, writing

    def _heading(self, row: TaskRow | None, writing: bool) -> Line:
        if row is None and self.error is not None:
            return refused(self.error)[0]
        if self.prompt is not None:
            note = "as its model read it" if self.prompt.kept else "made anew: it is not kept"
            return (self._title("PROMPT AS SENT", self.stream), (f"  {note}   ", "dim"), ("i", "key"), (" back", "dim"))
        line: list[Span] = [self._title("OUTPUT", self.stream)]
        if row is None:
            return tuple(line)
        if row.tokens_out:
            line.append((f"  {form.count(row.tokens_out)} tokens", "dim"))
            run = (row.ended_ms or self.console.now()) - (row.started_ms or 0)
            if row.started_ms and run > 200:
                line.append((f" · {form.speed(row.tokens_out * 1000 / run)} tok/s", "dim"))
        if writing:
            if self.known is not None and self.known.tokens_out and self.known.tokens_out > (row.tokens_out or 0):
                line.append(
                    (f" · about {form.count(round(self.known.tokens_out) - (row.tokens_out or 0))} to come", "dim")
                )
            line.append((" · follows" if self.stream.follows else " · stands still: G follows", "dim"))
        elif row.state in ("pending", "scheduled", "retrying"):
            line.append(("  comes when the task runs", "dim"))
        else:
            line += [("   i", "key"), (" prompt as sent", "dim")]
        return tuple(line)

    def _timeline(self, row: TaskRow | None, now: int) -> list[Line]:
        if self.detail is None or row is None or not self.detail.timeline:
            return []
        return timeline(self.detail, row, self.known, now)

    def _facts(self, row: TaskRow | None, now: int) -> list[Line]:
        cells = max(20, self.facts.content_size.width)
        if row is None:
            return []
        detail = self.detail
        lines = row_facts(row, detail, now)
        if detail is not None and detail.error is not None:
            lines += [(), (("ERROR", "title"),)]
            for line in failure(detail.error):
                lines += wrapped(line, cells)
        if self.has_class("-narrow") and (steps := self._timeline(row, now)):
            lines += [(), (("TIMELINE", "title"),), *(part for step in steps for part in wrapped(step, cells))]
        lines += self._origins(row, cells)
        if self.placed:
            lines += [(), (("WHY ON THAT PROCESS", "title"),)]
            lines += [part for note in self.placed for part in wrapped(((clean(note, 300), "text"),), cells)]
        if detail is not None:
            lines += tool_lines(detail, cells)
            lines += note_lines(detail.notes, now, cells)
            lines += [(), (("ASKED", "title"),), *asked_lines(detail.payload, cells)]
        return lines

    def _origins(self, row: TaskRow, cells: int) -> list[Line]:
        """Where each setting comes from, level by level."""
        payload = self.detail.payload if self.detail is not None else None
        lines = setting_lines(settings(row, payload, self.given), cells) if self.given is not None else []
        lines += origin_lines(self.context, cells) if self.context is not None else []
        return [(), (("WHERE EACH SETTING COMES FROM", "title"),), *lines] if lines else []

    def _to_explain(self) -> tuple[Explain, Record] | None:
        row = self.row
        settled = row is None or row.state in ("completed", "processing", "cancelled")
        return None if row is None or settled else (explain, row)

    def _title(self, text: str, part: Widget) -> Span:
        """The heading of a part; the one that keys work on is marked."""
        return (f"›{text}", "mark") if part.has_focus else (f" {text}", "title")

    # What the app asks

    lacks = (NOT_ON_ITEMS - {"pane", "inspect"}) | {"open"}

    @property
    def table(self) -> str:
        return "tasks"

    def events_of(self) -> str:
        return f"task:{self.task_id}"

    def status(self) -> Line:
        row = self.row
        if row is None:
            return ()
        line: list[Span] = [state_span("tasks", row.state)]
        if self.stream.writing and self.stream.follows:
            line.append((" · follows", "dim"))
        return tuple(line)

    def tick(self) -> None:
        self._show()

    def hold(self) -> bool:
        self._held = not self._held
        self._show()
        return self._held

    def held(self) -> int | None:
        if not self._held or self.following is None:
            return None
        return max(0, len(self.following.state.text) - len(self.stream.text))

    def next_part(self) -> None:
        parts = [part for part in (self.stream, self.timeline, self.facts) if part.display]
        here = next((place for place, part in enumerate(parts) if part.has_focus), -1)
        self.screen.set_focus(parts[(here + 1) % len(parts)])

    def on_descendant_focus(self) -> None:
        self._show()

    def show_prompt(self, action: Action) -> bool:
        """The prompt as its model read it in place of the output, and back."""
        if self.prompt is None:
            ask = partial(self.console.link.call, TaskPrompt(id=self.task_id))
            self.console.ahead.ask(action, ask, self._read)
        else:
            self.prompt = None
            self.stream.to_edge(1)
            self._show()
        return True

    def _read(self, prompt: PromptText) -> bool:
        """Show a prompt that has come; True: what was typed since then is meant for it."""
        if self.is_attached:
            self.prompt = prompt
            self.stream.to_edge(-1)
            self._show()
        return True

    def cycle_strip(self) -> None:
        self._size_of_strip = self._size_of_strip.after()
        self._lay_out()
        if self._size_of_strip is StripSize.closed:
            self.explainer.stop()
        else:
            self.explainer.resume()

    def leave(self) -> None:
        self.explainer.stop()
        if self.following is not None:
            self.following.close()
        if self.view is not None:
            self.view.close()
        if self._loading is not None:
            self._loading.cancel()


def _fill(widget: Widget) -> None:
    """As high as there is room; set only if it is not so already, because setting it lays everything out anew."""
    height = widget.styles.height
    if height is None or height.unit is not Unit.FRACTION:
        widget.styles.height = "1fr"


def _set_height(widget: Widget, lines: int) -> None:
    height = widget.styles.height
    if height is None or height.value != lines or height.unit is not Unit.CELLS:
        widget.styles.height = lines
