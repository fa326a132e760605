"""The prompt: `:` goes to a location, `/` filters, `T` talks. It stands on the last two lines; the second says what may follow or
what is wrong, with a mark under the offending token."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from enum import Enum

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from aiwm_tui.live.text import clean, width
from aiwm_tui.widgets.entry import Entry
from aiwm_tui.widgets.lines import TextLine
from engine.contract.errors import AiwmError


class Ask(Enum):
    jump = ":"
    filter = "/"
    talk = "T"
    search = "find"
    moment = "@"


Check = Callable[[str], object]
Complete = Callable[[str], Sequence[str]]
_COLUMN = re.compile(r': "((?:(?!: ").)*)" at column (\d+)$', re.DOTALL)


_SENDS = {
    Ask.talk: " ↵ say it   esc say nothing",
    Ask.search: ' word   !without   "these words"   is:fault   -C 3 only what matches and 3 lines around   ↵ go',
    Ask.moment: " a moment: 02:40   +5m  -30s   start  end   ↵ go   esc stay",
}


class PromptInput(Entry):
    """The line being edited."""

    async def on_key(self, event: events.Key) -> None:
        if event.key in ("escape", "tab", "shift+tab"):
            prompt = self.parent
            assert isinstance(prompt, Prompt)
            event.stop()
            event.prevent_default()
            if event.key == "escape":
                prompt.cancel()
            else:
                prompt.complete(1 if event.key == "tab" else -1)
            return
        await super().on_key(event)


class Prompt(Vertical):
    DEFAULT_CSS = """
    Prompt { height: 2; display: none; }
    Prompt PromptInput, Prompt PromptInput:focus {
        height: 1; border: none; padding: 0 0 0 1; background: $surface; color: $foreground;
    }
    """

    class Answered(Message):
        def __init__(self, ask: Ask, text: str) -> None:
            super().__init__()
            self.ask, self.text = ask, text

    class Cancelled(Message):
        pass

    class Refused(Message):
        """What was sent cannot be; it is still asked for."""

    def __init__(self) -> None:
        super().__init__(id="prompt")
        self.ask = Ask.jump
        self._check: Check = str
        self._complete: Complete = list
        self._tried: list[str] = []
        self._at = -1
        self._owed: tuple[int, str] | None = None

    def compose(self) -> ComposeResult:
        yield PromptInput(select_on_focus=False)
        yield TextLine(id="hint")

    @property
    def line(self) -> Input:
        return self.query_one(PromptInput)

    @property
    def hint(self) -> TextLine:
        return self.query_one("#hint", TextLine)

    def start(self, ask: Ask, text: str, check: Check, complete: Complete) -> None:
        """Ask. `check` raises an AiwmError for what cannot be; `complete` lists what the last token may become."""
        self.ask, self._check, self._complete = ask, check, complete
        self.display = True
        self.line.value = text
        self.line.cursor_position = len(text)
        self.screen.set_focus(self.line)
        self._tried, self._at, self._owed = [], -1, None
        self.review()

    def stop(self) -> None:
        self.display = False

    def cancel(self) -> None:
        self.stop()
        self.post_message(self.Cancelled())

    def complete(self, step: int) -> None:
        """What all candidates have in common is put in place of the last token; where that is nothing more, one after the other is."""
        text = self.line.value
        if not self._tried:
            candidates = list(self._complete(text))
            if not candidates:
                # What is being asked of the engine is completed when it comes.
                self._owed = (step, text)
                return
            token = last_token(text)
            common = _common(candidates)
            if len(candidates) == 1 or (common.startswith(token) and common != token):
                self._put(text, common)
                return
            self._tried = candidates
            self._at = -1 if step > 0 else 0
        self._at = (self._at + step) % len(self._tried)
        self._put(text, self._tried[self._at])

    def _put(self, text: str, token: str) -> None:
        self.line.value = text[: len(text) - len(last_token(text))] + token
        self.line.cursor_position = len(self.line.value)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.review()

    def arrived(self) -> None:
        """There is more to suggest."""
        owed, self._owed = self._owed, None
        if owed is not None and owed[1] == self.line.value:
            self.complete(owed[0])
        self.review()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        try:
            self._check(event.value)
        except AiwmError as error:
            self._point_at(error)
            self.post_message(self.Refused())
            return
        self.stop()
        self.post_message(self.Answered(self.ask, event.value))

    def review(self) -> None:
        """Say what may follow, or what is wrong with what is there."""
        text = self.line.value
        if self._tried and last_token(text) != self._tried[max(0, self._at)]:
            self._tried, self._at = [], -1
        if self._tried:
            self._suggest(self._tried)
            return
        candidates = self._complete(text)
        try:
            self._check(text)
        except AiwmError as error:
            # While a token is being typed, what it may become says more than that it is not finished.
            if not candidates or _place(error) < len(text) - len(last_token(text)):
                self._point_at(error)
                return
        self._suggest(candidates)

    def _suggest(self, candidates: Sequence[str]) -> None:
        line: list[tuple[str, str]] = [(" ", "")]
        # The one that stands in the line now is seen, and what came before and after it.
        first = max(0, self._at - 2)
        for place, candidate in enumerate(candidates[first : first + 40], first):
            line.append((clean(candidate, 40), "key" if place == self._at and self._tried else "dim"))
            line.append(("  ", ""))
        send = _SENDS.get(self.ask, " ↵ go   esc leave as it was")
        self.hint.show(tuple(line) if candidates else ((send, "dim"),))

    def _point_at(self, error: AiwmError) -> None:
        found = _COLUMN.search(error.info.message)
        fix = f": {error.info.fix}" if error.info.fix else ""
        if found is None:
            self.hint.show(((" ✗ ", "broken"), (clean(error.info.message + fix, 300), "text")))
            return
        column, token = int(found.group(2)) - 1, found.group(1)
        message = error.info.message[: found.start()].rstrip(": ")
        before = " " * (1 + width(clean(self.line.value[:column])))
        caret = "^" * max(1, width(clean(token)))
        self.hint.show(((before, ""), (caret, "broken"), (f" {clean(message + fix, 300)}", "text")))


def last_token(text: str) -> str:
    """What is being typed: the part after the last space that stands in no quotes."""
    at, quoted = 0, False
    for place, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == " " and not quoted:
            at = place + 1
    return text[at:]


def _common(words: Sequence[str]) -> str:
    common = words[0]
    for word in words[1:]:
        while not word.startswith(common):
            common = common[:-1]
    return common


def _place(error: AiwmError) -> int:
    """The column that an error names, from 0; that of what is typed last where it names none."""
    found = _COLUMN.search(error.info.message)
    return int(found.group(2)) - 1 if found is not None else sys.maxsize
