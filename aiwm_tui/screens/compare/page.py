"""The page that compares: one prompt with base and with an adapter, whose weight a slider sets; words that differ are marked.

What was asked once is not asked again: every answer is kept by adapter and weight while the page stands."""

from __future__ import annotations

import asyncio
from typing import Any

from textual.app import ComposeResult
from textual.timer import Timer
from textual.widget import Widget

from aiwm_tui.live.comparing import difference
from aiwm_tui.live.history import Place
from aiwm_tui.live.link import Phase
from aiwm_tui.live.text import Line, clean, clean_lines, cut
from aiwm_tui.screens.compare.weighing import MOST, Weighing, side_by_side, slider
from aiwm_tui.screens.item.screen import Facts
from aiwm_tui.screens.page import NOT_ON_ITEMS, Page
from aiwm_tui.screens.wording import hints, refused
from aiwm_tui.widgets.lines import TextBlock, TextLine
from engine.contract.errors import AiwmError
from engine.contract.query import Location
from engine.contract.requests.adapters import AdapterList, AdapterVersions
from engine.contract.requests.comparisons import AdapterCompare, Answer, Comparison, TaskCompare
from engine.contract.requests.tasks import TaskShow

REST_S = 0.35
"""The slider must rest for so long before the model is asked."""
_PROMPT_LINES = 4
_PLOT_LINES = 9
_PLOT_ROOM = 32
_PLOT_POINTS = 3


class Slid(Facts):
    """The answers: they scroll, and ← → move the slider."""

    def sideways(self, columns: int) -> None:
        page: Any = self.parent
        page.slide(columns)


class ComparePage(Page):
    DEFAULT_CSS = """
    ComparePage { layout: vertical; }
    ComparePage #prompt { height: auto; }
    ComparePage #plot { display: none; }
    """

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.about = str(location.item or "")
        self.is_task = self.about.startswith("t-")
        self.prompt_text = ""
        self.weighing = Weighing(() if self.is_task or not self.about else (self.about,))
        self.found: Comparison | None = None
        self.error: AiwmError | None = None
        self.base: Answer | None = None
        self.known: dict[tuple[str, float], Answer] = {}
        self._head = TextBlock(id="prompt")
        self._slider = TextLine(id="slider")
        self.answers = Slid()
        self._plot: Any = None
        self._begun = False
        self._timer: Timer | None = None
        self._asking: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        yield self._head
        yield self._slider
        yield self.answers

    def on_mount(self) -> None:
        self.console.link.listeners.append(self._phase)
        self._show()
        self._phase(self.console.link.phase)

    def _phase(self, phase: Phase) -> None:
        """Begin when the engine is there; go on when it is back."""
        if phase is Phase.live and self._asking is None:
            if not self._begun:
                self._asking = asyncio.create_task(self._begin())
            else:
                self._ask()

    def begin(self) -> None:
        self.screen.set_focus(self.answers)

    def on_resize(self) -> None:
        self._show()

    # Asking

    async def _begin(self) -> None:
        """Find what may be compared; for a task, ask at once."""
        try:
            adapters = await (self._of_task() if self.is_task else self._of_adapter())
            chosen = adapters.index(self.about) if self.about in adapters else 0
            self.weighing, self.error = Weighing(adapters, chosen), None
        except AiwmError as error:
            self.error = error
        self._asking, self._begun = None, self.error is None
        if self.is_mounted:
            self._show()
            if self._begun and self.is_task:
                self._ask()

    async def _of_task(self) -> tuple[str, ...]:
        """The adapters of the task together, then every other current one."""
        row = (await self.console.link.call(TaskShow(id=self.about))).row
        own = ["+".join(row.adapter.split(","))] if row.adapter else []
        rows = await self.console.link.call(AdapterList(where="!state:refused current:true"))
        return tuple(dict.fromkeys([*own, *(it.id for it in rows)]))

    async def _of_adapter(self) -> tuple[str, ...]:
        versions = await self.console.link.call(AdapterVersions(name=self.about.partition("@")[0]))
        return tuple(it.name for it in versions if it.state != "refused")

    def ask_about(self, prompt: str) -> None:
        """Compare another prompt: nothing that was answered before holds for it."""
        if self._begun and self._asking is not None:
            self._asking.cancel()
            self._asking = None
        self.prompt_text, self.is_task = prompt, False
        self.known, self.base, self.found, self.error = {}, None, None, None
        self._show()
        self._ask()

    def slide(self, steps: int) -> None:
        """Move the slider; the model is asked when it rests."""
        self.weighing = self.weighing.moved(steps)
        self._wait()

    def next_part(self) -> None:
        self.weighing = self.weighing.next()
        self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(REST_S, self._ask)
        self._show()

    def _ask(self) -> None:
        key = (self.weighing.adapter, self.weighing.weight)
        ready = self.is_task or bool(self.prompt_text)
        if self._asking is None and ready and self.weighing.adapter and key not in self.known:
            self._asking = asyncio.create_task(self._load(*key))
            self._show()

    async def _load(self, adapter: str, weight: float) -> None:
        variant = "+".join(f"{part}:{weight:g}" for part in adapter.split("+"))
        try:
            found = await self.console.link.call(self._request(variant), timeout_s=None)
            self.found, self.error = self.found or found, None
            if self.base is None:
                self.base = found.answers[0]
            self.known[adapter, weight] = found.answers[-1]
        except AiwmError as error:
            self.error = error
        self._asking = None
        if self.is_mounted:
            self._show()
            if self.error is None:
                self._ask()

    def _request(self, variant: str) -> Any:
        """Base is asked for once; all that follows draws with the seed of the first."""
        names = (variant,) if self.base is not None else ("base", variant)
        seed = self.found.seed if self.found is not None else None
        if self.is_task:
            return TaskCompare(id=self.about, adapters=names, seed=seed)
        # A single name would be compared with base again: its weight is said apart.
        if len(names) == 1:
            return AdapterCompare(names=names, prompt=self.prompt_text, weights=(1.0,), seed=seed)
        return AdapterCompare(names=names, prompt=self.prompt_text, seed=seed)

    # Showing

    def _show(self) -> None:
        cells = max(40, self.size.width or self.app.size.width)
        head = self._prompt_lines(cells)
        if self._head.styles.height is None or self._head.styles.height.value != len(head):
            self._head.styles.height = len(head)
        self._head.show(head)
        self._slider.show(slider(self.weighing))
        self.answers.put(self._answer_lines(cells))
        self._show_plot()
        self.console.status_changed()

    def _prompt_lines(self, cells: int) -> list[Line]:
        prompt = self.found.prompt if self.found is not None else self.prompt_text
        if not prompt:
            return [(), hints((" T", "types a prompt")), ()] if not self.is_task else [()]
        assert prompt
        kept = self.found is not None and self.found.kept
        title = "the prompt as it was read" if kept else "the prompt"
        of = f" of {clean(self.found.model, 40)}, seed {self.found.seed}" if self.found is not None else ""
        shown = clean_lines(prompt)
        lines: list[Line] = [((f" {title}", "title"), (f"{of}, {len(prompt):,} characters", "dim"))]
        lines += [((f"  {cut(text, cells - 4)}", "text"),) for text in shown[:_PROMPT_LINES]]
        if len(shown) > _PROMPT_LINES:
            lines.append(((f"  … {len(shown) - _PROMPT_LINES} more lines", "dim"),))
        return [*lines, ()]

    def _answer_lines(self, cells: int) -> list[Line]:
        lines: list[Line] = list(refused(self.error)) if self.error is not None else []
        if self.base is None and self._asking is None:
            return lines
        adapted = self.known.get((self.weighing.adapter, self.weighing.weight))
        return [*lines, (), *side_by_side([self.base, adapted], cells)]

    def _points(self) -> list[tuple[float, float]]:
        """By weight, the share of words that differ from base, in percent: of this adapter."""
        if self.base is None:
            return []
        found = []
        for (adapter, weight), answer in sorted(self.known.items()):
            if adapter == self.weighing.adapter and answer.error is None:
                changed, words = difference(self.base.text, answer.text)
                found.append((weight, 100 * changed / max(1, words)))
        return found

    def _show_plot(self) -> None:
        """Where the answer turns: a plot, once there are some weights to draw, and room for it."""
        points = self._points()
        wanted = len(points) >= _PLOT_POINTS and self.size.height >= _PLOT_ROOM
        if self._plot is None and wanted:
            self._plot = _plot_widget()
            self.mount(self._plot)
        if self._plot is not None:
            self._plot.display = wanted
            if wanted:
                _draw(self._plot, points, self.weighing.weight)

    # What the app asks

    lacks = (NOT_ON_ITEMS | {"open", "why", "hold", "events"}) - {"left", "right", "pane"}

    @property
    def table(self) -> str:
        return "compare"

    def status(self) -> Line:
        if self._asking is not None:
            return (("asks the model …", "coming"),)
        count = len(self.known)
        return ((f"{count} {'answer' if count == 1 else 'answers'} beside base", "dim"),) if count else ()

    def leave(self) -> None:
        if self._phase in self.console.link.listeners:
            self.console.link.listeners.remove(self._phase)
        if self._timer is not None:
            self._timer.stop()
        if self._asking is not None:
            self._asking.cancel()


def _plot_widget() -> Widget:
    from textual_plotext import PlotextPlot

    plot: Widget = PlotextPlot(id="plot")
    plot.styles.height = _PLOT_LINES
    return plot


def _draw(plot: Any, points: list[tuple[float, float]], weight: float) -> None:
    canvas = plot.plt
    canvas.clear_data()
    canvas.title("words that differ from base, %, by weight")
    canvas.plot([at for at, _ in points], [share for _, share in points], marker="dot")
    canvas.scatter([at for at, _ in points if at == weight], [share for at, share in points if at == weight])
    canvas.xlim(0, MOST)
    canvas.ylim(0, 100)
    plot.refresh()
