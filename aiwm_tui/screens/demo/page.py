"""The page of the toy model at work: how far it is, how many answers were right, the latest ones, and that nothing of it stays."""

from __future__ import annotations

import asyncio

from textual.app import ComposeResult

from aiwm_tui.live import format as form
from aiwm_tui.live.history import Place
from aiwm_tui.live.text import Line, clean, fit
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.screens.item.screen import Facts
from aiwm_tui.screens.page import NOT_ON_ITEMS, Page
from aiwm_tui.screens.start.ways import MESSAGES
from aiwm_tui.screens.wording import hints, refused
from aiwm_tui.trial import Trial
from engine.contract.query import Location

BAR = 40
_PROMPT, _SKILL = 44, 12


_IDLE: list[Line] = [
    ((" THE TOY MODEL AT WORK", "title"),),
    ((f"  {MESSAGES} messages with known answers, in a home of its own; nothing of it stays.", "text"),),
    hints(("  R", "runs them"), ("esc", "back")),
]


def trial_lines(trial: Trial) -> list[Line]:
    """How far a trial is, as lines. Pure."""
    ended = trial.ended
    right = sum(is_right for _, _, is_right in ended)
    total = len(trial.messages)
    done = BAR * len(ended) // total
    lines: list[Line] = [
        ((" THE TOY MODEL AT WORK", "title"),),
        (
            (f"  {len(ended)} of {total} answered", "strong"),
            (f"   {right} right", "works"),
            *_wrong(len(ended) - right),
            *_pace(trial),
        ),
        (("  ", ""), ("█" * done, "works"), ("░" * (BAR - done), "faint")),
        ((f"  {trial.stage}", "dim"),),
    ]
    if trial.error is not None:
        lines += [(), *refused(trial.error)]
    if trial.result is not None:
        lines += [(), *_verdict(trial)]
    if ended:
        lines += [(), ((" ANSWERS", "title"), ("  the latest first", "dim"))]
        lines += [_answer(message, outcome, it) for message, outcome, it in reversed(ended)]
    return lines


def _wrong(count: int) -> Line:
    return ((f"   {count} wrong", "wrong"),) if count else ()


def _pace(trial: Trial) -> Line:
    tokens = sum(it.tokens_out or 0 for it in trial.outcomes)
    speed = f"   {form.speed(tokens / trial.seconds)} tok/s" if trial.seconds and tokens else ""
    return ((f"{speed}   {form.span(trial.seconds * 1000)}" if trial.seconds else "", "dim"),)


def _verdict(trial: Trial) -> list[Line]:
    result = trial.result
    assert result is not None
    wide = max(map(len, result.per_skill))
    lines: list[Line] = [
        ((f"  {clean(name):<{wide}}", "text"), (f"  {skill.correct:>3} of {skill.submitted:>3} right", "dim"))
        for name, skill in result.per_skill.items()
    ]
    lines.append(
        (
            ("  A toy: it shows that queue, pool, model and results work together. For real work: ", "dim"),
            ("esc", "key"),
            (", then 2 or 3", "dim"),
        )
    )
    if trial.over:
        lines.append(hints(("  R", "again"), ("esc", "back to the start")))
    return lines


def _answer(message: object, outcome: object, right: bool) -> Line:
    result = getattr(outcome, "result", None)
    said = result.get("text") if isinstance(result, dict) else None
    got = said if isinstance(said, str) else getattr(outcome, "state", "")
    style = "done" if right else "broken"
    line: Line = (
        (f"  {'✓' if right else '✗'} ", style),
        (fit(clean(getattr(message, "skill", ""), 40), _SKILL) + " ", "dim"),
        (fit(clean(getattr(message, "prompt", ""), 200), _PROMPT) + "  ", "text"),
        (clean(got, 120), "strong" if right else "wrong"),
    )
    return line if right else (*line, ("  expected ", "dim"), (clean(getattr(message, "answer", ""), 80), "dim"))


class DemoPage(Page):
    """Ends with the page: whoever leaves early leaves nothing behind either. Opening it begins nothing: the first way and R do."""

    DEFAULT_CSS = "DemoPage { layout: vertical; }"
    lacks = NOT_ON_ITEMS | {"open", "why", "hold", "copy"}

    def __init__(self, place: Place, location: Location) -> None:
        super().__init__(place, location)
        self.body = Facts()
        self.trial: Trial | None = None
        self._work: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        yield self.body

    def on_mount(self) -> None:
        self.tick()

    def begin(self) -> None:
        self.screen.set_focus(self.body)

    def again(self) -> bool:
        """Begin, unless it is under way; whether it did."""
        if self._work is not None and not self._work.done():
            return False
        self.trial = Trial(MESSAGES, self._changed)
        self._work = self.console.look_after(self.trial.run())
        return True

    def _changed(self) -> None:
        if self.is_mounted:
            self.tick()

    def tick(self) -> None:
        cells = max(20, self.size.width)
        lines = trial_lines(self.trial) if self.trial is not None else _IDLE
        self.body.put([part for line in lines for part in wrapped(line, cells)])
        self.console.status_changed()

    def on_resize(self) -> None:
        self.tick()

    @property
    def table(self) -> str:
        return "demo"

    def status(self) -> Line:
        if self.trial is None or self.trial.home is None:
            return ()
        if self.trial.over:
            return (("over; its home is removed", "dim"),)
        return ((f"in {clean(str(self.trial.home), 60)}, removed at the end", "dim"),)

    def leave(self) -> None:
        if self._work is not None:
            self._work.cancel()
