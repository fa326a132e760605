"""The page of one task: its text as it is written, facts, timeline, and why."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.css.scalar import Unit
from textual.widget import Widget

from aiwm_tui.live import format as form
from aiwm_tui.live.following import Following
from aiwm_tui.live.history import Place
from aiwm_tui.live.text import Line, Span, clean, clean_lines
from aiwm_tui.live.views import LiveView
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.screens.explainer import Explainer
from aiwm_tui.screens.page import NOT_ON_ITEMS, Page
from aiwm_tui.screens.spec import Explain
from aiwm_tui.screens.tasks.origins import note_lines, origin_lines
from aiwm_tui.screens.tasks.screen import explain, result_text
from aiwm_tui.screens.wording import failure, refused
from aiwm_tui.states import state_span
from aiwm_tui.widgets.lines import TextBlock, TextLine
from aiwm_tui.widgets.stream import StreamText
from aiwm_tui.widgets.strip import StripSize, WhyStrip
from engine.contract.errors import AiwmError
from engine.contract.query import Location
from engine.contract.records import Record, TaskDetail, TaskNotes, TaskRow
from engine.contract.requests.context import EffectiveContext, TaskContextShow
from engine.contract.requests.tasks import TaskShow
from engine.contract.states import TaskState

NARROW = 100
STRIP_LINES = 8


class TaskPage(Page):
    DEFAULT_CSS = """
    TaskPage { layout: vertical; }
    TaskPage #upper { height: 1fr; }
    TaskPage #output { width: 58%; }
    TaskPage #facts { width: 42%; height: 1fr; padding-left: 1; }
    TaskPage #timeline { height: 1fr; }
    TaskPage.-narrow #upper { layout: vertical; }
    TaskPage.-narrow #output { width: 100%; height: 2fr; }
    TaskPage.-narrow #output StreamText { height: 1fr; }
    TaskPage.-narrow #facts { width: 100%; height: 1fr; padding-left: 0; }
    """

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.task_id = str(location.item)
        self.detail: TaskDetail | None = None
        self.context: EffectiveContext | None = None
        self.error: AiwmError | None = None
        self.following: Following | None = None
        self.view: LiveView | None = None
        self.heading = TextLine(id="heading")
        self.stream = StreamText(id="stream")
        self.timeline = TextBlock(id="timeline")
        self.facts = TextBlock(id="facts")
        self.strip = WhyStrip()
        self.explainer = Explainer(self, self.strip, self._to_explain)
        self._size_of_strip = StripSize.normal
        self._loading: asyncio.Task[None] | None = None
        self._reload = False
        self._held = False

    def compose(self) -> ComposeResult:
        with Horizontal(id="upper"):
            with Vertical(id="output"):
                yield self.heading
                yield self.stream
                yield self.timeline
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
            self.timeline.display = False
            self.stream.styles.height = "1fr"
            return
        room -= strip + 1
        steps = len(self.timeline.lines)
        least = min(steps, room // 3)
        self.timeline.display = bool(least)
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
        self.timeline.show(self._timeline(row, now))
        self.facts.show(self._facts(row, now))
        self._lay_out()
        self.explainer.poke()
        self.console.status_changed()

    def _output(self, row: TaskRow | None) -> tuple[str, bool]:
        """What stands in the output, and whether more comes."""
        assert self.following is not None
        followed = self.following.state
        if row is not None and row.state == "completed" and self.detail is not None and self.detail.result is not None:
            return result_text(self.detail.result), False
        writing = row is not None and row.state == "processing" and not followed.ended
        return followed.text, writing

    def _heading(self, row: TaskRow | None, writing: bool) -> Line:
        if row is None:
            if self.error is not None:
                return refused(self.error)[0]
            return ((" OUTPUT", "title"),)
        line: list[Span] = [(" OUTPUT", "title")]
        if row.tokens_out:
            line.append((f"  {form.count(row.tokens_out)} tokens", "dim"))
            run = (row.ended_ms or self.console.now()) - (row.started_ms or 0)
            if row.started_ms and run > 200:
                line.append((f" · {form.speed(row.tokens_out * 1000 / run)} tok/s", "dim"))
        if writing:
            line.append((" · follows" if self.stream.follows else " · stands still: G follows", "dim"))
        elif row.state in ("pending", "scheduled", "retrying"):
            line.append(("  comes when the task runs", "dim"))
        return tuple(line)

    def _timeline(self, row: TaskRow | None, now: int) -> list[Line]:
        if self.detail is None or row is None or not self.detail.timeline:
            return []
        lines: list[Line] = [(), ((" TIMELINE", "title"),)]
        steps = self.detail.timeline
        for place, step in enumerate(steps):
            until = steps[place + 1].at_ms if place + 1 < len(steps) else (row.ended_ms or now)
            took = form.span(until - step.at_ms) if until - step.at_ms >= 1000 and not _ends(step.type) else ""
            at, what = form.clock_ms(step.at_ms)[:-2], step.type.rpartition(".")[2]
            lines.append(
                (
                    (f" {at}  ", "dim"),
                    (f"{clean(what, 20):<10} ", "text"),
                    (clean(step.text, 200), "dim"),
                    (f"  {took}", "text"),
                )
            )
        return lines

    def _facts(self, row: TaskRow | None, now: int) -> list[Line]:
        cells = max(20, self.facts.content_size.width)
        lines: list[Line] = [(("FACTS", "title"),)]
        if row is None:
            return lines
        lines += [_fact(label, *spans) for label, *spans in self._row_facts(row, now)]
        detail = self.detail
        if detail is not None and detail.error is not None:
            lines += [(), (("ERROR", "title"),)]
            for line in failure(detail.error):
                lines += wrapped(line, cells)
        if self.context is not None:
            lines += origin_lines(self.context, cells)
        if detail is not None:
            lines += note_lines(detail.notes, now, cells)
            lines += [(), (("ASKED", "title"),), *_asked(detail.payload, cells)]
        return lines

    def _row_facts(self, row: TaskRow, now: int) -> list[tuple[Any, ...]]:
        span = state_span("tasks", row.state)
        ran = (row.ended_ms or now) - row.started_ms if row.started_ms and row.state != "pending" else None
        on = " · ".join(part for part in (row.instance, row.pool, row.definition) if part) or form.NONE
        facts: list[tuple[Any, ...]] = [
            ("state", span, (f"  {form.age(ran)}" if ran is not None else "", "dim")),
            ("try", (f"{row.attempt} of {row.max_attempts}", "text")),
            ("on", (clean(on), "text")),
            ("queue", (clean(row.queue), "text"), (f"  prio {row.priority}", "dim")),
            ("tokens", (f"{form.count(row.tokens_in)} in  {form.count(row.tokens_out)} out", "text")),
            ("submitted", (form.moment(row.submitted_ms, now), "text"), (f"  by {clean(row.by, 40)}", "dim")),
        ]
        if row.due_ms is not None and not TaskState(row.state).ended:
            facts.append(("due", (form.moment(row.due_ms, now), "text")))
        if row.cost_usd:
            facts.append(("cost", (f"${row.cost_usd:.4f}", "text")))
        if row.template:
            facts.append(("template", (clean(row.template), "text")))
        if row.after:
            facts.append(("after", (f"waits for {form.plural(row.after, 'other task')}", "held")))
        if row.fail and row.state == "failed":
            facts.append(("failure", (clean(row.fail, 40), "text"), ("  :failures", "dim")))
        if row.batch:
            facts.append(("batch", (clean(row.batch), "text")))
        detail = self.detail
        if detail is not None and detail.deadline_ms is not None:
            facts.append(("deadline", (form.moment(detail.deadline_ms, now), "text")))
        if detail is not None and detail.capabilities:
            facts.append(("needs", (clean(" ".join(detail.capabilities)), "text")))
        schema = detail.payload.get("schema") if detail is not None and isinstance(detail.payload, dict) else None
        if isinstance(schema, dict):
            facts.append(("answer in", (_schema_words(schema), "text")))
        adapters = detail.result.get("adapters") if detail is not None and isinstance(detail.result, dict) else None
        for use in adapters if isinstance(adapters, list) else ():
            facts.append(("adapter", (_adapter(use), "text")))
        return [*facts, *(_learned(detail.notes) if detail is not None else ())]

    def _to_explain(self) -> tuple[Explain, Record] | None:
        row = self.row
        settled = row is None or row.state in ("completed", "processing", "cancelled")
        return None if row is None or settled else (explain, row)

    # What the app asks

    lacks = NOT_ON_ITEMS | {"open"}

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


def _set_height(widget: Widget, lines: int) -> None:
    height = widget.styles.height
    if height is None or height.value != lines or height.unit is not Unit.CELLS:
        widget.styles.height = lines


def _ends(kind: str) -> bool:
    return kind.rpartition(".")[2] in ("completed", "failed", "cancelled")


def _fact(label: str, *spans: Span) -> Line:
    return ((f"{label:<11}", "dim"), *spans)


def _learned(notes: TaskNotes) -> list[tuple[Any, ...]]:
    """The lessons that a task was given, the last of what its worker noted, and what was said of it."""
    facts: list[tuple[Any, ...]] = [
        ("lesson", (clean(it.id, 12), "text"), (f"  {clean(it.title, 60)}", "dim")) for it in notes.lessons
    ]
    facts += [("insight", (clean(it.message, 80), "text")) for it in notes.insights[-3:]]
    for said in notes.feedback[:2]:
        rating = "no rating" if said.rating is None else f"{said.rating:.0%}"
        facts.append(("feedback", (rating, "text"), (f"  {clean(said.by, 24)}: {clean(said.comments, 80)}", "dim")))
    return facts


def _schema_words(schema: dict[str, Any]) -> str:
    """A schema in a few words: its title, else the properties of what it describes."""
    title, properties = schema.get("title"), schema.get("properties")
    if isinstance(title, str) and title:
        return f"schema {clean(title, 60)}"
    named = ", ".join(clean(name, 20) for name in list(properties)[:6]) if isinstance(properties, dict) else ""
    return f"JSON: {named}" if named else "JSON by a schema"


def _adapter(use: Any) -> str:
    if not isinstance(use, dict):
        return clean(str(use), 80)
    return clean(f"{use.get('name', '')} {str(use.get('digest', ''))[:8]} w {use.get('weight', 1)}", 80)


def _asked(payload: Any, cells: int) -> list[Line]:
    """The payload: a lone prompt as its text, anything else as JSON."""
    if isinstance(payload, dict) and set(payload) == {"prompt"} and isinstance(payload["prompt"], str):
        text = payload["prompt"]
    else:
        text = msgspec.json.format(msgspec.json.encode(payload), indent=2).decode()
    lines: list[Line] = []
    for each in clean_lines(text[:20_000])[:200]:
        lines += wrapped(((each, "text"),), cells, 0)
    return lines
