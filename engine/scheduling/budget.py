"""Budgets: what the calls of a definition's model may use. A call is reserved by estimate before it is made and settled after it.

Callers that were denied stand in line and ask again. Nobody passes them: a newcomer gets what is free beyond what all of those need,
so small calls that keep coming cannot keep a large one out."""

from __future__ import annotations

from typing import Final

import msgspec

from engine.scheduling.decisions import Decision, DenyBudget, GrantBudget
from engine.scheduling.inputs import DefinitionChanged, Now
from engine.scheduling.rate import MINUTE_NS, Days, Minute, Slot

REQUESTS: Final = "requests per minute"
TOKENS: Final = "tokens per minute"
DAY: Final = "tokens per day"
DEFINITION: Final = "definition"

_MS = 1_000_000
_GRACE_NS = 5_000 * _MS
"""A denied caller that has not asked again so long after its time is gone, and its place with it."""


class WindowState(msgspec.Struct, frozen=True):
    """A window of a definition for a screen: `limit` 0 is none; `opens_ms` (Unix ms) when it has room again, None if it has."""

    name: str
    used: int
    limit: int
    opens_ms: int | None = None


class BudgetState(msgspec.Struct, frozen=True):
    """What a definition's calls use: its windows, how many reserved calls are under way, how many wait for room, and when the next call
    may be made (Unix ms, None: now, or never while it is not active)."""

    definition: str
    active: bool
    windows: tuple[WindowState, ...]
    under_way: int
    waiting: int
    free_ms: int | None = None


class _Call:
    """A granted call: where its estimate was booked."""

    __slots__ = ("budget", "day", "slot", "tokens")

    def __init__(self, budget: Budget, tokens: int, slot: Slot, day: int) -> None:
        self.budget = budget
        self.tokens = tokens
        self.slot = slot
        self.day = day


class _Place:
    """A denied caller's place in line."""

    __slots__ = ("asks_ns", "tokens", "window")

    def __init__(self, tokens: int, asks_ns: int, window: str) -> None:
        self.tokens = tokens
        self.asks_ns = asks_ns
        self.window = window


class Full(msgspec.Struct, frozen=True):
    """Which window has no room, and the monotonic and the wall time at which it has (None: nobody knows yet, or never)."""

    window: str
    limit: int
    opens_ns: int | None
    opens_ms: int | None


class Budget:
    """The windows of one definition, and the line before them."""

    def __init__(self, name: str, offset_ms: int) -> None:
        self.name = name
        self.limits = DefinitionChanged(name)
        self.minute = Minute()
        self.days = Days(offset_ms)
        self.under_way = 0
        self._line: dict[int, _Place] = {}

    @property
    def limited(self) -> bool:
        limits = self.limits
        return bool(limits.requests_per_minute or limits.tokens_per_minute or limits.tokens_per_day)

    @property
    def waiting(self) -> int:
        return len(self._line)

    def reserve(self, identifier: int, tokens: int, now: Now) -> _Call | DenyBudget:
        self._pass_on(now)
        place = self._line.get(identifier)
        if not self.limits.active:
            self._line.pop(identifier, None)
            return DenyBudget(identifier, None, DEFINITION, f'definition "{self.name}" is not active')
        never = self._never(tokens)
        if never is not None:
            self._line.pop(identifier, None)
            return DenyBudget(identifier, None, never[0], never[1])
        full = self.full(now, *self._ahead(identifier, now), 1, tokens)
        if full is None:
            if place is not None:
                del self._line[identifier]
            return self._book(tokens, now)
        opens_ns = now.mono_ns + 1_000 * _MS if full.opens_ns is None else full.opens_ns
        opens_ms = now.wall_ms + 1_000 if full.opens_ms is None else full.opens_ms
        self._line[identifier] = _Place(tokens, opens_ns, full.window)
        reason = f"{self.name} has used its {full.limit:,} {full.window}"
        return DenyBudget(identifier, opens_ms, full.window, reason)

    def settle(self, call: _Call, tokens: int, now: Now) -> None:
        self.under_way -= 1
        self._pass_on(now)
        over = tokens - call.tokens
        if over > 0:
            self.minute.book(now, 0, over)
            self.days.book(now, over)
        elif over < 0:
            self.minute.give_back(call.slot, 0, -over)
            self.days.give_back(call.day, -over)

    def cancel(self, call: _Call, now: Now) -> None:
        self.under_way -= 1
        self._pass_on(now)
        self.minute.give_back(call.slot, 1, call.tokens)
        self.days.give_back(call.day, call.tokens)

    def in_line(self, identifier: int) -> bool:
        """Whether this caller was denied and will ask again."""
        return identifier in self._line

    def leave(self, identifier: int) -> None:
        """Somebody stands in line no more."""
        self._line.pop(identifier, None)

    def full(self, now: Now, calls_ahead: int, tokens_ahead: int, calls: int, tokens: int) -> Full | None:
        """The window that has no room for so much beyond what goes ahead, the one that opens last if there are several."""
        limits, minute = self.limits, self.minute
        found: list[Full] = []
        over = minute.calls + calls_ahead + calls - limits.requests_per_minute
        if limits.requests_per_minute and over > 0:
            found.append(self._opening(REQUESTS, limits.requests_per_minute, over, now))
        over = minute.tokens + tokens_ahead + tokens - limits.tokens_per_minute
        if limits.tokens_per_minute and over > 0:
            found.append(self._opening(TOKENS, limits.tokens_per_minute, over, now))
        if limits.tokens_per_day and self.days.used(now) + tokens_ahead + tokens > limits.tokens_per_day:
            opens_ms = self.days.start_ms(self.days.day(now.wall_ms) + 1)
            opens_ns = now.mono_ns + (opens_ms - now.wall_ms) * _MS
            found.append(Full(DAY, limits.tokens_per_day, opens_ns, opens_ms))
        return max(found, key=lambda full: full.opens_ns or 0, default=None)

    def closed(self, now: Now, expected: int) -> Full | None:
        """The window that keeps tasks from starting: `expected` calls of tasks that have just started go ahead, and everybody in line."""
        if not self.limited:
            return None
        self._pass_on(now)
        calls, tokens = self._ahead(None, now)
        full = self.full(now, calls, tokens, 1, 1)
        if full is None and expected:
            full = self.full(now, calls + expected, tokens, 1, 1)
            if full is not None:
                full = Full(full.window, full.limit, None, None)
        return full

    def state(self, now: Now) -> BudgetState:
        self._pass_on(now)
        limits = self.limits
        calls, tokens = self._ahead(None, now)
        full = self.full(now, calls, tokens, 1, 1)
        windows = []
        for name, used, limit in (
            (REQUESTS, self.minute.calls, limits.requests_per_minute),
            (TOKENS, self.minute.tokens, limits.tokens_per_minute),
            (DAY, self.days.used(now), limits.tokens_per_day),
        ):
            opens_ms = None
            if limit and used >= limit:
                if name == DAY:
                    opens_ms = self.days.start_ms(self.days.day(now.wall_ms) + 1)
                else:
                    opens_ms = self._opening(name, limit, used + 1 - limit, now).opens_ms
            windows.append(WindowState(name, used, limit, opens_ms))
        free_ms = None if full is None else full.opens_ms
        return BudgetState(self.name, limits.active, tuple(windows), self.under_way, len(self._line), free_ms)

    def restore(self, buckets: tuple[tuple[int, int, int], ...], now: Now) -> None:
        """Take in what an earlier engine counted. Its calls count as made at the end of their minute, or now if that has not come yet."""
        for start_ms, calls, tokens in sorted(buckets):
            age_ms = now.wall_ms - start_ms - 60_000
            if age_ms < 60_000:
                self.minute.book(now, calls, tokens, max(age_ms, 0))
            self.days.book(now, tokens, self.days.day(start_ms))

    def buckets(self, now: Now) -> tuple[tuple[int, int, int], ...]:
        """What to store, so that `restore` knows it: the calls of the last minute by the minute they would have been
        in by the wall clock as it is now, and the rest of each day at its start. A jump of the clock within that minute counts it twice."""
        found = self.minute.buckets(now)
        rest = self.days.totals()
        for start_ms, (_, tokens) in found.items():
            day = self.days.day(start_ms)
            rest[day] = rest.get(day, 0) - tokens
        for day, tokens in rest.items():
            if tokens > 0:
                found.setdefault(self.days.start_ms(day), [0, 0])[1] += tokens
        return tuple(sorted((start_ms, calls, tokens) for start_ms, (calls, tokens) in found.items()))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _book(self, tokens: int, now: Now) -> _Call:
        self.under_way += 1
        return _Call(self, tokens, self.minute.book(now, 1, tokens), self.days.book(now, tokens))

    def _ahead(self, identifier: int | None, now: Now) -> tuple[int, int]:
        """The calls and tokens of those that stand in line before this caller. Those that wait for another day need nothing of this one."""
        calls = tokens = 0
        for other, place in self._line.items():
            if other == identifier:
                break
            if place.window == DAY and place.asks_ns > now.mono_ns:
                continue
            calls += 1
            tokens += place.tokens
        return calls, tokens

    def _never(self, tokens: int) -> tuple[str, str] | None:
        limits = self.limits
        for window, limit in ((TOKENS, limits.tokens_per_minute), (DAY, limits.tokens_per_day)):
            if limit and tokens > limit:
                return window, f"the call needs {tokens:,} tokens, {self.name} may use {limit:,} {window}"
        return None

    def _pass_on(self, now: Now) -> None:
        self.minute.pass_on(now)
        line = self._line
        if line:
            for identifier in [one for one, place in line.items() if place.asks_ns + _GRACE_NS < now.mono_ns]:
                del line[identifier]

    def _opening(self, window: str, limit: int, over: int, now: Now) -> Full:
        """When so much more than the limit has left. What those in line will use leaves a minute after what is there now."""
        rounds = (over - 1) // limit
        rest = over - rounds * limit
        opens_ns = self.minute.opens_ns(*((rest, 0) if window == REQUESTS else (0, rest)))
        if opens_ns is None:
            return Full(window, limit, None, None)
        opens_ns += rounds * MINUTE_NS
        return Full(window, limit, opens_ns, _wall_ms(opens_ns, now))


class Budgets:
    """The budgets of all definitions by name, and the calls that are under way."""

    def __init__(self, offset_ms: int) -> None:
        self.by_name: dict[str, Budget] = {}
        self._offset_ms = offset_ms
        self._calls: dict[int, _Call] = {}

    def of(self, name: str) -> Budget:
        budget = self.by_name.get(name)
        if budget is None:
            budget = self.by_name[name] = Budget(name, self._offset_ms)
        return budget

    def reserve(self, name: str, identifier: int, tokens: int, now: Now, out: list[Decision]) -> bool:
        """Grant or deny; True if this caller asked for the first time."""
        if identifier in self._calls:
            out.append(GrantBudget(identifier))
            return False
        budget = self.of(name)
        first = not budget.in_line(identifier)
        answer = budget.reserve(identifier, tokens, now)
        if isinstance(answer, DenyBudget):
            out.append(answer)
        else:
            self._calls[identifier] = answer
            out.append(GrantBudget(identifier))
        return first

    def settle(self, identifier: int, tokens: int, now: Now) -> str | None:
        """Returns the definition whose call it was, None for a call that nobody knows (a zombie's)."""
        call = self._calls.pop(identifier, None)
        if call is None:
            return None
        call.budget.settle(call, tokens, now)
        return call.budget.name

    def cancel(self, identifier: int, now: Now) -> str | None:
        """A call is not made, or not asked for any more; returns its definition."""
        call = self._calls.pop(identifier, None)
        if call is not None:
            call.budget.cancel(call, now)
            return call.budget.name
        for budget in self.by_name.values():
            if budget.in_line(identifier):
                budget.leave(identifier)
                return budget.name
        return None


def _wall_ms(mono_ns: int, now: Now) -> int:
    """The wall time of a monotonic one, rounded up."""
    return now.wall_ms - (now.mono_ns - mono_ns) // _MS
