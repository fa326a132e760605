"""What models shall make ready for: the adapters of the next tasks in line, and another replica where slots have been short for a while."""

from __future__ import annotations

from typing import Final

from engine.scheduling import gates
from engine.scheduling.decisions import Decision, MoreReplicas, Prefetch
from engine.scheduling.inputs import Now
from engine.scheduling.pools import Pool
from engine.scheduling.replicas import Model
from engine.scheduling.routing import choose
from engine.scheduling.task import ASKED, ASKED_FIRST
from engine.scheduling.timers import Timers

LOOK_AHEAD: Final = 4
"""For the adapters of so many tasks in line a model makes ready."""
SHORT_MS: Final = 1_000
"""A model has been short of slots for this long before another replica is asked for."""
AGAIN_MS: Final = 5_000
"""And it is asked for again after this, while it is so."""
_MS: Final = 1_000_000


class Ahead:
    """Looks at models after their tasks have been started. `adapters`: some task or pool has asked for adapters."""

    def __init__(self) -> None:
        self.timers: Timers[Model] = Timers()
        self.adapters = False

    def look(self, model: Model, now: Now, out: list[Decision]) -> None:
        """What waits for this model now?"""
        waiting = _waiting(model)
        if not waiting or model.free != 0:
            model.short_ns = None
        elif model.short_ns is None:
            model.short_ns = now.mono_ns
            self.timers.at(model, now.mono_ns + SHORT_MS * _MS)
        if waiting and self.adapters:
            _prefetch(model, waiting, out)

    def wake(self, now: Now, out: list[Decision]) -> None:
        for model in self.timers.due(now.mono_ns):
            waiting = _waiting(model)
            if model.short_ns is None or not waiting:
                model.short_ns = None
            elif now.mono_ns < (ripe_ns := model.short_ns + SHORT_MS * _MS):
                self.timers.at(model, ripe_ns)
            else:
                count = sum(cls.waiting for cls in {cls for pool in waiting for cls in pool.offered})
                out.append(MoreReplicas(model.name, count, (now.mono_ns - model.short_ns) // _MS))
                self.timers.at(model, now.mono_ns + AGAIN_MS * _MS)


def _waiting(model: Model) -> list[Pool]:
    """The pools whose tasks wait for a slot or an instance, and for nothing else."""
    return [pool for pool in model.pools if pool.offered and gates.open_pool_gate(pool) in (None, gates.SLOTS)]


def _prefetch(model: Model, waiting: list[Pool], out: list[Decision]) -> None:
    """Ask for what the next tasks need, if no replica has it. For each task once, and once more when it is the first in line: then others
    may have to leave for it. Not again after that: two adapters that there is no room for together would take turns for ever.

    While fewer tasks wait than there are replicas, nothing is asked for: the first replica with a free slot gets the task, whichever
    that is, and its adapters would be loaded twice (measured: `aiwm simulate --adapters`)."""
    ready = [one for one in model.replicas.values() if one.total != 0]
    ahead = max(LOOK_AHEAD, len(ready))
    line = [
        (rank, seq, task, pool.adapters_of(task.ref))
        for pool in waiting
        if (cls := pool.best()) is not None
        for rank, seq, task in cls.window.head(ahead)
    ]
    if len(line) < len(ready):
        return
    seen: set[tuple[str, ...]] = set()
    for place, (_, _, task, adapters) in enumerate(sorted(line)[:LOOK_AHEAD]):
        first = place == 0
        asks = ASKED_FIRST if first else ASKED
        if not adapters or task.asked >= asks or any(one.has(adapters) for one in ready):
            continue
        if not first and (adapters in seen or any(one.will_have(adapters) for one in ready)):
            continue
        seen.add(adapters)
        best = choose(model, adapters, free=False)
        if best is not None and best.total != 0:
            task.asked = asks
            out.append(Prefetch(model.name, best.name, best.missing(adapters), first))
            if first:
                best.expect(adapters)
