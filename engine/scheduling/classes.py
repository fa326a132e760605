"""Classes of ready tasks: same queue, tenant and criteria. Each holds a window of its first tasks; the table holds so many classes."""

from __future__ import annotations

from engine.scheduling.inputs import ClassKey, Criteria
from engine.scheduling.pools import Pool
from engine.scheduling.task import Task
from engine.scheduling.window import Window


class ReadyClass:
    """Pending tasks in (rank, seq) order and the pools that may run them.

    `open`: its queue lets tasks start and a pool serves it. `offered`: those pools know of it, as it is open and its window not empty."""

    __slots__ = (
        "active_ns",
        "announced",
        "criteria",
        "key",
        "offered",
        "open",
        "parked",
        "pools",
        "since_ms",
        "window",
    )

    def __init__(self, key: ClassKey, window: int, *, unknown: bool) -> None:
        self.key = key
        self.criteria = Criteria.parse(key.criteria)
        self.window: Window[Task] = Window(window, unknown=unknown)
        self.pools: list[Pool] = []
        self.open = False
        self.offered = False
        self.parked: str | None = None  # the gate that keeps everybody from serving it
        self.announced = False  # ParkClass was decided
        self.since_ms = 0  # Unix ms since when it has been parked
        self.active_ns = 0  # monotonic time of its last start, or of its coming into memory

    def __lt__(self, other: object) -> bool:
        # Only ever asked for two heap entries of one task, from before and after its class left memory.
        return False

    @property
    def waiting(self) -> int:
        """Pending tasks, here and on disk as far as known."""
        return len(self.window) + self.window.beyond


class ClassTable:
    """At most `limit` classes. When there are more, the rest stays on disk and takes turns, in key order.

    `rested` are the classes in memory that have nothing waiting: the first to go when room is needed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.by_key: dict[tuple[str, str, str], ReadyClass] = {}
        self.rested: dict[tuple[str, str, str], None] = {}
        self.overflow = False  # classes with waiting tasks may be on disk only
        self.cursor: ClassKey | None = None  # the last class key that this round has looked at
        self.load = 0
        self.round_missed = False  # something was left out since the round began
        self.started = False  # a task was taken since the last part of a round
        self.next_ns = 0  # when the next part of a round is due

    def room(self) -> bool:
        """Whether a class may be added, after dropping one that has nothing waiting if need be."""
        if len(self.by_key) < self.limit:
            return True
        if self.rested:
            oldest = next(iter(self.rested))
            del self.rested[oldest]
            del self.by_key[oldest]
            return True
        return False

    def missed(self) -> None:
        """A class with waiting tasks is on disk only."""
        self.overflow = True
        self.round_missed = True

    def end_load(self, last: ClassKey | None) -> None:
        """A part of the round arrived; `last` is its last key, None at the end of the round."""
        self.load = 0
        self.cursor = last
        if last is None:
            self.overflow = self.round_missed
            self.round_missed = False

    def victims(self, before_ns: int) -> list[ReadyClass]:
        """The classes that may make room for others, best first at the end: those that nothing can start from, then those from which
        nothing has started since `before_ns`, the longest ago first."""
        resting = [cls for cls in self.by_key.values() if not cls.open or cls.active_ns < before_ns]
        resting.sort(key=lambda cls: (not cls.open, -cls.active_ns))
        return resting
