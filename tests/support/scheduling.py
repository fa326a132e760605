"""A scheduler on a bench: inputs in, decisions out, and a clock that only moves when it is told to."""

from __future__ import annotations

from typing import TypeVar

from engine.scheduling.decisions import Decision, SpawnInstance, StartTask
from engine.scheduling.inputs import (
    Input,
    InstanceReady,
    Now,
    Outcome,
    PoolChanged,
    QueueChanged,
    TaskEnded,
    TaskRef,
    TaskSubmitted,
    Tick,
)
from engine.scheduling.scheduler import Scheduler, SchedulerConfig

WALL_MS = 1_800_000_000_000
D = TypeVar("D")


class Bench:
    """`do` feeds one input and keeps what was decided; `took` returns the decisions of one kind since the last look."""

    def __init__(self, **config: int) -> None:
        self.scheduler = Scheduler(SchedulerConfig(**config))
        self.wall_ms = WALL_MS
        self.mono_ns = 0
        self.decided: list[Decision] = []
        self._instances = 0

    @property
    def now(self) -> Now:
        return Now(self.wall_ms, self.mono_ns)

    def do(self, *inputs: Input) -> list[Decision]:
        made = [decision for inp in inputs for decision in self.scheduler.step(inp, self.now)]
        self.decided += made
        return made

    def took(self, kind: type[D]) -> list[D]:
        found: list[D] = [decision for decision in self.decided if isinstance(decision, kind)]
        self.decided = [decision for decision in self.decided if not isinstance(decision, kind)]
        return found

    def wait(self, ms: int, *, wall_jump_ms: int = 0) -> list[Decision]:
        """Let time pass (and the wall clock jump), then tick."""
        self.mono_ns += ms * 1_000_000
        self.wall_ms += ms + wall_jump_ms
        return self.do(Tick())

    def serve(self, *pools: PoolChanged, queue: str = "q", paused: bool = False) -> None:
        """Pools, and one queue that they serve."""
        self.do(*pools, QueueChanged(queue, tuple(pool.name for pool in pools), paused=paused))

    def staff(self) -> None:
        """Every spawn comes up."""
        while spawns := self.took(SpawnInstance):
            for spawn in spawns:
                self._instances += 1
                self.do(InstanceReady(f"i-{self._instances}", spawn.pool))

    def submit(self, seq: int, rank: int | None = None, **more: object) -> list[Decision]:
        more.setdefault("queue", "q")
        return self.do(TaskSubmitted(TaskRef(seq=seq, rank=seq if rank is None else rank, **more)))  # type: ignore[arg-type]

    def end(self, start: StartTask, outcome: Outcome = "completed", *, retryable: bool = True) -> list[Decision]:
        return self.do(TaskEnded(start.seq, start.attempt, outcome, retryable))

    def started(self) -> list[int]:
        """The tasks that were started since the last look."""
        return [start.seq for start in self.took(StartTask)]

    def run_all(self) -> list[int]:
        """Complete whatever starts until nothing does; the order of starts."""
        order = []
        self.staff()
        while starts := self.took(StartTask):
            for start in starts:
                order.append(start.seq)
                self.end(start)
            self.staff()
        return order


def pool(name: str = "p", **more: object) -> PoolChanged:
    more.setdefault("definition", "goat")
    return PoolChanged(name, **more)  # type: ignore[arg-type]
