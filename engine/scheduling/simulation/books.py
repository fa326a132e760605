"""What definitions' calls have used, in the world's own books: every use with its time, added up anew whenever it matters."""

from __future__ import annotations

from collections import defaultdict

from engine.scheduling.inputs import DefinitionChanged, Now

_MINUTE_NS = 60_000_000_000
_DAY_MS = 86_400_000


class _Use:
    """A call, or what one took beyond its estimate."""

    __slots__ = ("calls", "day", "ns", "stored", "tokens")

    def __init__(self, now: Now, calls: int, tokens: int, *, stored: bool) -> None:
        self.stored = stored  # a reservation that is not on disk yet: its call is not made if the engine dies
        self.ns = now.mono_ns
        self.day = now.wall_ms // _DAY_MS
        self.calls = calls
        self.tokens = tokens


class Books:
    """Uses by definition. `granted` are the calls under way, by their number."""

    def __init__(self) -> None:
        self._uses: defaultdict[str, list[_Use]] = defaultdict(list)
        self._granted: dict[int, _Use] = {}

    def rebooted(self, unknown: set[str]) -> None:
        """An engine starts. Of the definitions in `unknown`, the clock has jumped since their use was stored: nobody can tell any more how
        long ago their last minute was."""
        self._granted.clear()
        for uses in self._uses.values():
            uses[:] = [use for use in uses if use.stored]
        for name in unknown:
            for use in self._uses[name]:
                use.ns -= _MINUTE_NS

    def grant(self, limits: DefinitionChanged, number: int, tokens: int, now: Now) -> str | None:
        """Enter a granted call; returns which limit it passes, if it does."""
        uses = self._uses[limits.name]
        use = self._granted[number] = _Use(now, 1, tokens, stored=False)
        uses.append(use)
        self._forget(uses, now)
        minute = [use for use in uses if use.ns > now.mono_ns - _MINUTE_NS]
        if limits.requests_per_minute and (calls := sum(use.calls for use in minute)) > limits.requests_per_minute:
            return f"{calls} calls in a minute, {limits.requests_per_minute} allowed"
        if limits.tokens_per_minute and (used := sum(use.tokens for use in minute)) > limits.tokens_per_minute:
            return f"{used} tokens in a minute, {limits.tokens_per_minute} allowed"
        # A wall clock that went back does not begin a day anew.
        if limits.tokens_per_day and (used := self._day(uses, now)) > limits.tokens_per_day:
            return f"{used} tokens in a day, {limits.tokens_per_day} allowed"
        return None

    def stored(self, number: int) -> None:
        if number in self._granted:
            self._granted[number].stored = True

    def settle(self, number: int, tokens: int) -> None:
        """A call took less than its estimate."""
        use = self._granted.pop(number, None)
        if use is not None:
            use.tokens = min(use.tokens, tokens)

    def over(self, name: str, tokens: int, at: Now) -> None:
        """A call took that much more than its estimate."""
        if tokens > 0:
            self._uses[name].append(_Use(at, 0, tokens, stored=True))

    @staticmethod
    def _day(uses: list[_Use], now: Now) -> int:
        today, since = now.wall_ms // _DAY_MS, now.mono_ns - _DAY_MS * 1_000_000
        return sum(use.tokens for use in uses if use.day == today or (use.day > today and use.ns > since))

    @staticmethod
    def _forget(uses: list[_Use], now: Now) -> None:
        if len(uses) % 256 == 0:
            today, since = now.wall_ms // _DAY_MS, now.mono_ns - _DAY_MS * 1_000_000
            uses[:] = [use for use in uses if use.day >= today - 2 or use.ns > since]
