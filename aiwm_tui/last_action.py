"""The last-action line: what was said last, and how long it can still be taken back."""

from __future__ import annotations

from collections.abc import Callable

from aiwm_tui.live.text import Line


class LastAction:
    """`show` puts a line on the screen, `key` takes back. `operation` is what it takes back: the last one that was done here, empty when
    there is none."""

    def __init__(self, show: Callable[[Line], None], key: str) -> None:
        self._show = show
        self._key = key
        self.operation = ""
        self._undo: tuple[int | None, Line] | None = None

    @property
    def counts_down(self) -> bool:
        """Whether the line says something else every second."""
        return self._undo is not None and self._undo[0] is not None

    def say(self, line: Line, now: int) -> None:
        """Say something. What stood there, a countdown too, is over."""
        if self._undo is not None and self._undo[1] == line:
            self._say_undo(*self._undo, now)
            return
        self._undo = None
        self._show(line)

    def remember(self, operation: str, due_ms: int | None, line: Line) -> None:
        """What is about to be said with `line` is an operation that `Z` takes back; until it is due (Unix ms) the line counts down."""
        self.operation = operation
        self._undo = (due_ms, line)

    def tick(self, now: int) -> None:
        """It is `now` (Unix ms): go on counting down."""
        if self._undo is not None and self._undo[0] is not None:
            self._say_undo(*self._undo, now)

    def _say_undo(self, due_ms: int | None, line: Line, now: int) -> None:
        left = None if due_ms is None else due_ms - now
        if left is None:
            self._show((*line, (f"   {self._key}", "key"), (" takes it back", "dim")))
        elif left > 0:
            self._show((*line, (f"   {self._key}", "key"), (f" takes it back, {(left + 999) // 1000} s", "dim")))
        else:
            self.say((*line, ("   done", "dim")), now)
