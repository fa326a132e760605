"""What is told to somebody who looks elsewhere, and when. Pure.

Of things alike only the first is told for a while, several at once are told together, and no more than a few a minute: the rest is
counted and told with the next one. All of them stay in `:events`, told or not."""

from __future__ import annotations

from collections import OrderedDict, deque

import msgspec

from aiwm_tui.live.text import clean
from engine.contract.records import EventRow

REPEAT_MS = 600_000
"""The same again is told after this."""

TOGETHER_MS = 1_000
"""What comes within this time of the first is told with it."""

_KINDS = 1_024
_SHOWN = 3


class Wanted(msgspec.Struct, frozen=True):
    """Of which levels of events one is told, by which ways (toast, bell, terminal), and how often at most."""

    levels: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    per_minute: int = 6


NOTHING_WANTED = Wanted()


class Notice(msgspec.Struct, frozen=True):
    """What is told at once. `title` and `lines` are harmless; `level` is that of the worst of it, `count` of how many it speaks."""

    level: str
    title: str
    lines: tuple[str, ...]
    count: int

    @property
    def short(self) -> str:
        """In one line, for the terminal's own notification."""
        return f"{self.title}: {self.lines[0]}" if self.lines else self.title


class Notices:
    """Times are Unix ms. `note` what happened, `take` what is to be told now."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._seen: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._told: deque[int] = deque()
        self._waiting: list[EventRow] = []
        self._counted = 0
        self._since = 0

    def note(self, event: EventRow, now: int) -> None:
        """Something happened."""
        kind = (event.type, event.text[:80] if event.task else event.about)
        last = self._seen.get(kind)
        if last is not None and now - last < REPEAT_MS:
            self._counted += 1
            return
        self._seen[kind] = now
        self._seen.move_to_end(kind)
        if len(self._seen) > _KINDS:
            self._seen.popitem(last=False)
        if not self._waiting:
            self._since = now
        self._waiting.append(event)

    def due(self, now: int) -> int | None:
        """In how many ms there is something to tell; None when there is nothing."""
        if not self._waiting:
            return None
        while self._told and self._told[0] <= now - 60_000:
            self._told.popleft()
        wait = self._since + TOGETHER_MS - now
        if len(self._told) >= self._per_minute:
            wait = max(wait, self._told[0] + 60_000 - now)
        return max(0, wait)

    def take(self, now: int) -> Notice | None:
        """What is to be told now, if its time has come."""
        if self.due(now) != 0:
            return None
        events, self._waiting = self._waiting, []
        counted, self._counted = self._counted, 0
        self._told.append(now)
        level = "error" if any(event.level == "error" for event in events) else events[0].level
        count = len(events) + counted
        if count == 1:
            return Notice(level, _about(events[0]), (_said(events[0]),), 1)
        lines = [f"{_about(event)}: {_said(event)}" for event in events[:_SHOWN]]
        if count > len(lines):
            lines.append(f"and {count - len(lines):,} more: 9")
        return Notice(level, f"{count:,} things need you", tuple(lines), count)


def _about(event: EventRow) -> str:
    return clean(event.about or event.type, 60)


def _said(event: EventRow) -> str:
    return clean(event.text or event.type, 160)
