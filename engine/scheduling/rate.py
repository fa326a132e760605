"""What a definition's calls have used: a minute that slides and a day of the wall clock. Nothing here decides; it counts."""

from __future__ import annotations

from collections import deque
from typing import Final

from engine.scheduling.inputs import Now

DAY_MS: Final = 86_400_000
_DAY_NS = DAY_MS * 1_000_000
_MINUTE_MS = 60_000
MINUTE_NS: Final = _MINUTE_MS * 1_000_000
_SLOT_NS = 100_000_000


class Slot:
    """The calls of a tenth of a second."""

    __slots__ = ("calls", "leaves_ns", "tokens")

    def __init__(self, leaves_ns: int) -> None:
        self.leaves_ns = leaves_ns
        self.calls = 0
        self.tokens = 0


class Minute:
    """The calls of the last 60 s by the monotonic clock, in at most 601 slots. A call leaves up to 100 ms late, never early."""

    __slots__ = ("_slots", "calls", "tokens")

    def __init__(self) -> None:
        self._slots: deque[Slot] = deque()
        self.calls = 0
        self.tokens = 0

    def book(self, now: Now, calls: int, tokens: int, age_ms: int = 0) -> Slot:
        """Count a use of `age_ms` ago (older than none before); returns where, for `give_back`."""
        leaves_ns = ((now.mono_ns - age_ms * 1_000_000) // _SLOT_NS + 1) * _SLOT_NS + MINUTE_NS
        slots = self._slots
        if not slots or slots[-1].leaves_ns < leaves_ns:
            slots.append(Slot(leaves_ns))
        slot = slots[-1]
        slot.calls += calls
        slot.tokens += tokens
        self.calls += calls
        self.tokens += tokens
        return slot

    def give_back(self, slot: Slot, calls: int, tokens: int) -> None:
        """Take a use out again, if it has not left by itself."""
        if self._slots and slot.leaves_ns >= self._slots[0].leaves_ns:
            slot.calls -= calls
            slot.tokens -= tokens
            self.calls -= calls
            self.tokens -= tokens

    def pass_on(self, now: Now) -> None:
        """Let go what is older than a minute."""
        slots = self._slots
        while slots and slots[0].leaves_ns <= now.mono_ns:
            slot = slots.popleft()
            self.calls -= slot.calls
            self.tokens -= slot.tokens

    def opens_ns(self, calls: int, tokens: int) -> int | None:
        """When so many calls and tokens have left; None if there are not that many (what is over must come from calls yet to be made)."""
        for slot in self._slots:
            if calls <= 0 and tokens <= 0:
                break
            calls -= slot.calls
            tokens -= slot.tokens
            at = slot.leaves_ns
        else:
            if calls > 0 or tokens > 0 or not self._slots:
                return None
        return at

    def buckets(self, now: Now) -> dict[int, list[int]]:
        """Calls and tokens by the start of their minute, by the wall clock as it is now."""
        found: dict[int, list[int]] = {}
        for slot in self._slots:
            wall_ms = now.wall_ms - (now.mono_ns - slot.leaves_ns + MINUTE_NS) // 1_000_000
            bucket = found.setdefault(wall_ms // _MINUTE_MS * _MINUTE_MS, [0, 0])
            bucket[0] += slot.calls
            bucket[1] += slot.tokens
        return found


class Days:
    """Tokens by the day they were booked on.

    A day's use is what was booked on it, and what was booked on later days within the last 24 h of the monotonic clock: then the wall
    clock went back, and a day that was begun too early does not give its tokens a second time. A jump forward opens the new day; back
    from it, what was used there counts for 24 h and then no more."""

    __slots__ = ("_days", "offset_ms")

    def __init__(self, offset_ms: int) -> None:
        """`offset_ms`: local time minus UTC."""
        self.offset_ms = offset_ms
        self._days: dict[int, list[int]] = {}  # day -> [tokens, monotonic time of the last booking]

    def day(self, wall_ms: int) -> int:
        return (wall_ms + self.offset_ms) // DAY_MS

    def start_ms(self, day: int) -> int:
        """Unix ms of the day's midnight."""
        return day * DAY_MS - self.offset_ms

    def book(self, now: Now, tokens: int, day: int | None = None) -> int:
        """Count a use, now or on a given day; returns the day, for `give_back`."""
        day = self.day(now.wall_ms) if day is None else day
        record = self._days.setdefault(day, [0, now.mono_ns])
        record[0] += tokens
        record[1] = now.mono_ns
        if len(self._days) > 1:
            self._forget(now)
        return day

    def give_back(self, day: int, tokens: int) -> None:
        record = self._days.get(day)
        if record is not None:
            record[0] -= tokens

    def used(self, now: Now) -> int:
        today = self.day(now.wall_ms)
        since = now.mono_ns - _DAY_NS
        return sum(
            record[0] for day, record in self._days.items() if day == today or (day > today and record[1] > since)
        )

    def totals(self) -> dict[int, int]:
        """Tokens by day."""
        return {day: record[0] for day, record in self._days.items()}

    def _forget(self, now: Now) -> None:
        today, since = self.day(now.wall_ms), now.mono_ns - _DAY_NS
        for day in [day for day, record in self._days.items() if day != today and record[1] <= since]:
            del self._days[day]
