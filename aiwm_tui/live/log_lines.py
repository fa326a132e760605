"""The lines of a log, and which of them are shown. Pure; nothing here costs more for a hundred thousand lines than for a hundred, but
a new search, which reads them all once.

A line has a number that it keeps while lines are added at either end: higher ones are later. What is dropped when there are too many
are the oldest."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable

from aiwm_tui.live.log_search import Search
from aiwm_tui.live.text import Line

LIMIT = 100_000
LONGEST = 20_000
"""Characters of one line that are kept; of a longer one its beginning."""

_MIDDLE = 1_000_000_000
_SPARE = 1_000
_COLOURS = re.compile("\x1b\\[[0-9;:]*[mK]")


class LogLines:
    """`first` is the number of the oldest line, `end` that behind the latest. A gap in what is shown is the negative number of the line
    that it stands above."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._texts: list[str] = []
        self._times: list[int] = []
        self._rules: dict[int, Line] = {}
        self._open = ""
        self.first = _MIDDLE
        self.search = Search()
        self.hits: list[int] = []
        self._shown: list[int] = []
        self.until: int | None = None

    @property
    def end(self) -> int:
        return self.first + len(self._texts)

    # What comes

    def append(self, text: str, at_ms: int = 0) -> None:
        """More at the end, as it was written; what is behind the last line end goes on with the next piece."""
        times = [self._reopen()] if self._open else []
        *whole, rest = (self._open + text).split("\n")
        # A progress bar writes over itself for hours: only what it says now is kept.
        self._open = rest[rest.rstrip("\r").rfind("\r") + 1 :][:LONGEST]
        start = self.end
        added = [kept(line) for line in whole] + ([kept(rest)] if rest else [])
        self._texts += added
        self._times += times[: len(added)] + [at_ms] * (len(added) - len(times))
        self._found(range(start, self.end))
        self._drop()

    def _reopen(self) -> int:
        """Take back the last line, which goes on; when it came."""
        self._texts.pop()
        if self.hits and self.hits[-1] == self.end:
            self.hits.pop()
        while self._shown and abs(self._shown[-1]) >= self.end:
            self._shown.pop()
        return self._times.pop()

    def prepend(self, text: str, at_ms: int = 0) -> None:
        """Whole lines that stand before the first one; the newest of them, as far as there is room."""
        lines = text.split("\n")
        if lines and not lines[-1]:
            lines.pop()
        lines = lines[-max(0, self._limit - len(self._texts)) :] if len(self._texts) < self._limit else []
        self._texts[:0] = [kept(line) for line in lines]
        self._times[:0] = [0] * (len(lines) - 1) + [at_ms] if lines else []
        self.first -= len(lines)
        self._refind()

    def rule(self, line: Line, *, above: bool = False) -> int:
        """A line of ours at the end, or `above` the first; its number."""
        if above:
            self._texts.insert(0, "")
            self._times.insert(0, 0)
            self.first -= 1
            self._rules[self.first] = line
            self._refind()
            return self.first
        self._open = ""
        self._texts.append("")
        self._times.append(0)
        number = self.end - 1
        self._rules[number] = line
        self._found((number,))
        return number

    def reword(self, number: int, line: Line) -> None:
        """What a line of ours says is known better now."""
        if number in self._rules:
            self._rules[number] = line

    @property
    def full(self) -> bool:
        """Whether there is no room for older lines."""
        return len(self._texts) >= self._limit

    def _drop(self) -> None:
        many = len(self._texts) - self._limit
        if many < _SPARE:
            return
        del self._texts[:many], self._times[:many]
        self.first += many
        self._rules = {number: line for number, line in self._rules.items() if number >= self.first}
        del self.hits[: bisect_left(self.hits, self.first)]
        del self._shown[: bisect_left(self._shown, self.first, key=abs)]

    # What is looked for

    def look_for(self, search: Search) -> None:
        """Another search: reads every line."""
        self.search = search
        self._refind()

    @property
    def picks(self) -> bool:
        """Whether only lines that match, and those around them, are shown."""
        return self.search.looks and self.search.context is not None

    def _refind(self) -> None:
        self.hits, self._shown = [], []
        if self.search.looks:
            self._found(range(self.first, self.end))

    def _found(self, numbers: Iterable[int]) -> None:
        """Look at new lines at the end."""
        if not self.search.looks:
            return
        texts, first, matches = self._texts, self.first, self.search.matches
        context = self.search.context
        for number in numbers:
            if number in self._rules:
                # Where a life ended is said of those in which something was found.
                before = max((rule for rule in self._rules if rule < number), default=0)
                if self.hits and self.hits[-1] > before:
                    self._show(number, number)
            elif matches(texts[number - first]):
                self.hits.append(number)
                self._show(number - (context or 0), number)
            elif context and self.hits and number - self.hits[-1] <= context:
                self._show(number, number)

    def _show(self, start: int, end: int) -> None:
        if self.search.context is None:
            return
        last = self._shown[-1] if self._shown else self.first - 1
        start = max(start, last + 1, self.first)
        if start > last + 1 and self._shown:
            self._shown.append(-start)
        self._shown += range(start, end + 1)

    def next_hit(self, number: int, direction: int) -> tuple[int, bool]:
        """The match behind (1) or before (-1) a line, and whether it was found from the other end. There must be one."""
        hits = self.hits
        place = bisect_left(hits, number + 1) if direction > 0 else bisect_left(hits, number) - 1
        if self.until is not None:
            hits = hits[: bisect_left(hits, self.until)] or hits
        return (hits[place], False) if 0 <= place < len(hits) else (hits[0 if direction > 0 else -1], True)

    @property
    def waiting(self) -> int:
        """Lines that came since the view was held."""
        return 0 if self.until is None else max(0, self.end - self.until)

    # What is shown

    def __len__(self) -> int:
        """Lines that are shown, with a gap counted as one."""
        end = self.end if self.until is None else min(self.until, self.end)
        if self.picks:
            return bisect_left(self._shown, end, key=abs)
        return max(0, end - self.first)

    def at(self, index: int) -> int:
        """The number of a shown line by its index from 0; negative for a gap."""
        return self._shown[index] if self.picks else self.first + index

    def index(self, number: int) -> int:
        """Where a line stands, or the next one that is shown."""
        if self.picks:
            place = bisect_left(self._shown, abs(number), key=abs)
            if number > 0 and place < len(self._shown) and self._shown[place] == -number:
                place += 1
        else:
            place = abs(number) - self.first
        return max(0, min(place, len(self) - 1))

    def text(self, number: int) -> str:
        """What a line says, not yet harmless."""
        return self._texts[number - self.first]

    def time(self, number: int) -> int:
        """When a line came, in Unix ms; 0 when that is not known."""
        return self._times[number - self.first]

    def own(self, number: int) -> Line | None:
        """A line of ours: where a life ended."""
        return self._rules.get(number)

    def hit(self, number: int) -> bool:
        """Whether a line is looked for."""
        place = bisect_left(self.hits, number)
        return place < len(self.hits) and self.hits[place] == number

    def gap(self, index: int) -> int:
        """How many lines a gap leaves out."""
        return abs(self._shown[index]) - abs(self._shown[index - 1]) - 1 if index else 0


def kept(line: str) -> str:
    """A line as it is kept: what a carriage return wrote over is gone, colours too, and of a very long one the beginning stays."""
    if "\r" in line:
        line = line.rstrip("\r")
        line = line[line.rfind("\r") + 1 :]
    if "\x1b" in line:
        line = _COLOURS.sub("", line)
    if len(line) > LONGEST:
        line = f"{line[:LONGEST]} … {len(line) - LONGEST:,} more characters"
    return line
