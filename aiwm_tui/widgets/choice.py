"""One of a few words: `(•) disk  ( ) os  ( ) memory`."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from aiwm_tui.live.text import Line, Span, clean, width
from aiwm_tui.widgets.paint import palette_of, strip_of


class Choice(Widget, can_focus=True):
    """←, → and space choose; the rest of the keys are the form's."""

    DEFAULT_CSS = "Choice { height: 1; width: 1fr; }"

    class Changed(Message):
        def __init__(self, choice: Choice) -> None:
            super().__init__()
            self.choice = choice

    def __init__(self, words: Sequence[str], value: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._words = tuple(words)
        self._at = self._words.index(value) if value in self._words else 0

    @property
    def value(self) -> str:
        return self._words[self._at]

    @value.setter
    def value(self, word: str) -> None:
        self._take(self._words.index(word))

    def _take(self, at: int) -> None:
        if at != self._at:
            self._at = at
            self.refresh()
            self.post_message(self.Changed(self))

    def on_key(self, event: events.Key) -> None:
        step = {"left": -1, "right": 1, "space": 1}.get(event.key)
        if step is not None:
            event.stop()
            event.prevent_default()
            self._take((self._at + step) % len(self._words))

    def on_click(self, event: events.Click) -> None:
        at = 1
        for place, word in enumerate(self._words):
            at += width(clean(word)) + 6
            if event.x < at:
                self._take(place)
                return

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def render_line(self, y: int) -> Strip:
        line: list[Span] = [(" ", "")]
        for place, word in enumerate(self._words):
            chosen = place == self._at
            style = "strong" if chosen else "dim"
            line.append((f"({'•' if chosen else ' '}) {clean(word)}  ", style))
        shown: Line = tuple(line)
        return strip_of(
            shown if y == 0 else (), palette_of(self), self.size.width, over="cursor" if self.has_focus else "panel"
        )
