"""The history of scaling: every step of a pool with its reason and its effect, as an event and as a record that is kept."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

import msgspec

from engine.clock import Clock
from engine.contract.records.definitions import ScaleStep
from engine.contract.states import Durability
from engine.control.instances import Instances
from engine.control.sampling import STEPS_MS
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers

_KIND = "scale"
_KEPT = 1_000
_TRIM_EVERY = 100
_HOUR_MS = 3_600_000
EFFECT_MS = 60_000
"""Rates look a minute back: so long after a step its effect is seen."""
_LATE_MS = 2_000


class Scaling:
    """Writes steps and reads them again; of each pool the latest thousand or so are kept. `waiting` counts a pool's waiting tasks,
    `out` those that ended in it during the last minute."""

    def __init__(
        self,
        journal: Journal,
        readers: Readers,
        instances: Instances,
        clock: Clock,
        waiting: Callable[[str], int],
        out: Callable[[str], float],
    ) -> None:
        self._journal = journal
        self._readers = readers
        self._instances = instances
        self._clock = clock
        self._waiting = waiting
        self._out = out
        self._steps: Counter[str] = Counter()
        self._lately: dict[str, deque[tuple[int, int]]] = {}

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
            out_before=self._out(pool),
        )
        self._recent(pool).append((now, change))
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

    def effects(self, steps: list[ScaleStep]) -> list[ScaleStep]:
        """The same steps (the latest first) with `out_after`: what ended in the minute after each, from the samples. Of steps within one
        minute only the last has an effect of its own."""
        now = self._clock.wall_ms()
        found: list[ScaleStep] = []
        following: int | None = None
        for step in steps:
            after_ms = step.at_ms + EFFECT_MS
            if after_ms <= now and (following is None or following >= after_ms):
                step = msgspec.structs.replace(step, out_after=self._sampled(step.pool, after_ms))
            following = step.at_ms
            found.append(step)
        return found

    def lately(self, pool: str) -> tuple[int, int]:
        """How many instances came and went during the last hour."""
        since = self._clock.wall_ms() - _HOUR_MS
        recent = self._recent(pool)
        while recent and recent[0][0] < since:
            recent.popleft()
        return sum(change > 0 for _, change in recent), sum(change < 0 for _, change in recent)

    def _recent(self, pool: str) -> deque[tuple[int, int]]:
        """The latest steps (time, change), the oldest first; those that an earlier engine made are read once."""
        if pool not in self._lately:
            known = reversed(self.history(pool, _KEPT))
            self._lately[pool] = deque(((step.at_ms, step.change) for step in known), maxlen=_KEPT)
        return self._lately[pool]

    def _sampled(self, pool: str, at_ms: int) -> float | None:
        """What the finest sample at a time says of a pool's throughput; None when nothing was sampled then."""
        for step_ms in STEPS_MS:
            value = self._readers.sample_at(f"pool.{pool}.out", step_ms, at_ms - step_ms + 1, at_ms + _LATE_MS)
            if value is not None:
                return value
        return None

    def _number(self, pool: str) -> int:
        """The next step's number; numbers go on where an earlier engine's ended."""
        if pool not in self._steps:
            latest = self.history(pool, 1)
            self._steps[pool] = int(latest[0].id.rpartition("/")[2]) if latest else 0
        self._steps[pool] += 1
        return self._steps[pool]


def _key(pool: str, number: int) -> str:
    return f"{pool}/{number:012d}"
