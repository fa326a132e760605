"""When a task may go before others because nothing must be loaded for it: the rule again, over the world's own books."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.scheduling.affinity import CANDIDATES
from engine.scheduling.inputs import PoolChanged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.scheduling.simulation.disk import Row
    from engine.scheduling.simulation.processes import Process
    from engine.scheduling.simulation.world import World

_MS = 1_000_000


class Passing:
    """Remembers since when each waiting task has been passed, as long as the scheduler has it in memory."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since: dict[int, tuple[object, int]] = {}

    def rebooted(self) -> None:
        self._since.clear()

    def slack_ms(self, process: Process | None) -> int:
        """How much later than others a task that starts here may stand: 0 if it may pass nobody."""
        plan = self._world.plan
        return 0 if process is None or not plan.adapters else plan.config.affinity_wait_ms

    def refusal(self, row: Row, pool: PoolChanged, process: Process | None, passed: list[Row]) -> str | None:
        """Why a task may not go before these tasks of its class; None if it may, which is noted."""
        world = self._world
        wait_ms = self.slack_ms(process)
        if not wait_ms or process is None:
            return "nobody may pass"
        wanted = world.adapters_of(row, pool)
        ready = process.has(wanted)
        if not ready and self._elsewhere(process, wanted):
            return f"{wanted} would be loaded twice"
        if len(passed) >= CANDIDATES:
            return f"{len(passed)} go before it"
        free = world.processes.free(process.model)
        for other in passed:
            if row.rank - other.rank > wait_ms:
                return f"task {other.seq} is {row.rank - other.rank} ms older"
            if any(one.has(world.adapters_of(other, pool)) for one in free):
                return f"nothing must be loaded for task {other.seq} either"
            if not ready and not self._twice(free, process.model, world.adapters_of(other, pool)):
                return f"task {other.seq} must have its adapters loaded, too"
            since_ns = self._since_ns(other.seq)
            if world.ns - since_ns > wait_ms * _MS:
                return f"task {other.seq} has been passed for {(world.ns - since_ns) / _MS:.0f} ms"
        world.counts["passed"] += len(passed)
        return None

    def _elsewhere(self, process: Process, adapters: tuple[str, ...]) -> bool:
        others = self._world.processes.by_model[process.model].values()
        return not process.will_have(adapters) and any(other.will_have(adapters) for other in others)

    def _twice(self, free: Sequence[Process], model: str, adapters: tuple[str, ...]) -> bool:
        """Whether a task with these adapters would have them loaded a second time, on a process that it can get: which one that would be
        is the scheduler's choice, and need not be the one that another task got."""
        everyone = self._world.processes.by_model[model].values()
        return any(one.will_have(adapters) for one in everyone) and any(not one.will_have(adapters) for one in free)

    def _since_ns(self, seq: int) -> int:
        assert self._world.scheduler is not None
        held = self._world.scheduler.backlog.tasks[seq]
        known = self._since.get(seq)
        # One that was left to the disk, and came back from there, begins anew.
        if known is None or known[0] is not held:
            known = self._since[seq] = (held, self._world.ns)
        return known[1]
