"""Worker definitions as the scheduler knows them: whether they may be used, how many instances there are, what their calls have used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.scheduling.budget import Budget, Full
from engine.scheduling.inputs import Now

if TYPE_CHECKING:
    from engine.scheduling.pools import Pool


class Definition:
    """One worker definition. `count` are the instances of all pools that exist or are on their way, `outside` those of no pool."""

    __slots__ = (
        "budget",
        "count",
        "expected",
        "full",
        "known",
        "leaving",
        "name",
        "outside",
        "pools",
        "running",
        "since_ms",
    )

    def __init__(self, name: str, budget: Budget) -> None:
        self.name = name
        self.budget = budget
        self.known = True  # False once it was removed
        self.count = 0
        self.leaving = 0  # of `count`, those that take no further task
        self.outside = 0
        self.pools: list[Pool] = []
        self.running = 0  # tasks from StartTask to their end
        self.expected = 0  # those of them that have not made a call yet, as far as can be told
        self.full: Full | None = None  # the window that keeps its tasks from starting
        self.since_ms: int | None = None  # since when `full`, or since when it has not been active

    @property
    def active(self) -> bool:
        return self.budget.limits.active

    @property
    def total(self) -> int:
        return self.count + self.outside

    @property
    def max_instances(self) -> int:
        """At most so many instances; 0 is no limit."""
        return self.budget.limits.max_instances

    def look(self, now: Now) -> bool:
        """See whether its windows let tasks start; True if that has changed."""
        full = self.budget.closed(now, self.expected)
        changed = (full is None) != (self.full is None)
        self.full = full
        if changed and self.active:
            self.since_ms = None if full is None else now.wall_ms
        return changed
