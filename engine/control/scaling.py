"""The history of scaling: every step of a pool with its reason and its effect, as an event and as a record that is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from engine.clock import Clock
from engine.contract.records.definitions import ScaleStep
from engine.contract.states import Durability
from engine.control.instances import Instances
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers

_KIND = "scale"
_KEPT = 1_000
_TRIM_EVERY = 100


class Scaling:
    """Writes steps and reads them again; of each pool the latest thousand or so are kept. `waiting` counts a pool's waiting tasks."""

    def __init__(
        self, journal: Journal, readers: Readers, instances: Instances, clock: Clock, waiting: Callable[[str], int]
    ) -> None:
        self._journal = journal
        self._readers = readers
        self._instances = instances
        self._clock = clock
        self._waiting = waiting
        self._steps: Counter[str] = Counter()

    def step(self, pool: str, change: int, instance: str, reason: str) -> None:
        """A pool has one instance more, one less, or (0) not the one it wanted."""
        now = self._clock.wall_ms()
        mine = self._instances.of_pool(pool)
        busy = sum(it.task is not None for it in mine)
        number = self._number(pool)
        step = ScaleStep(
            id=f"{pool}/{number}",
            at_ms=now,
            pool=pool,
            change=change,
            instance=instance,
            reason=reason,
            total=len(mine),
            idle=len(mine) - busy,
            busy=busy,
            waiting=self._waiting(pool),
        )
        text = (
            f"{'+' if change > 0 else '-' if change < 0 else '±'} {instance or 'nothing'}: {reason} (now {step.total})"
        )
        event = ops.AppendEvent(at_ms=now, level="info", type="pool.scaled", who="scheduler", about=pool, text=text)
        entry: list[ops.Op] = [ops.PutDocument(_KIND, _key(pool, number), pool, now, msgspec.json.encode(step)), event]
        if number > _KEPT and number % _TRIM_EVERY == 0:
            entry += [
                ops.DeleteDocument(_KIND, _key(pool, old))
                for old in range(number - _KEPT - _TRIM_EVERY, number - _KEPT)
            ]
        self._journal.write(entry, Durability.os)

    def history(self, pool: str, limit: int) -> list[ScaleStep]:
        """The latest steps of a pool, the latest first."""
        found = self._readers.documents(_KIND, ref=pool, limit=limit)
        return [msgspec.json.decode(document.json, type=ScaleStep) for document in found]

    def _number(self, pool: str) -> int:
        """The next step's number; numbers go on where an earlier engine's ended."""
        if pool not in self._steps:
            latest = self.history(pool, 1)
            self._steps[pool] = int(latest[0].id.rpartition("/")[2]) if latest else 0
        self._steps[pool] += 1
        return self._steps[pool]


def _key(pool: str, number: int) -> str:
    return f"{pool}/{number:012d}"
