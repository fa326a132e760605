"""The calls that the world's instances make of their models: reserved before they are made, settled when they end, stored in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.scheduling import decisions as decide
from engine.scheduling import inputs
from engine.scheduling.simulation.journal import Op

if TYPE_CHECKING:
    from engine.scheduling.simulation.workforce import Run
    from engine.scheduling.simulation.world import World

_LONGEST_MS = 30_000.0


class Call:
    """A call that is asked for, or made. `then` is what the instance does once it may."""

    __slots__ = ("definition", "granted", "id", "real", "run", "then", "tokens")

    def __init__(
        self, identifier: int, run: Run, definition: str, tokens: int, real: int, then: Callable[[], None]
    ) -> None:
        self.id = identifier
        self.run = run
        self.definition = definition
        self.tokens = tokens
        self.real = real
        self.then = then
        self.granted = False


class Calls:
    """Asks for each call until it is granted, and makes it once the reservation is on disk."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._made = 0
        self._by_id: dict[int, Call] = {}

    def performers(self) -> dict[type[Any], Callable[[Any], None]]:
        return {decide.GrantBudget: self._granted, decide.DenyBudget: self._denied}

    def rebooted(self) -> None:
        self._by_id.clear()

    def begin(self, run: Run, then: Callable[[], None]) -> None:
        world = self._world
        tokens = world.rng.randint(1, 100)
        self._made += 1
        real = world.rng.randint(0, tokens + tokens // 2)
        call = run.call = self._by_id[self._made] = Call(self._made, run, run.pool.definition, tokens, real, then)
        world.later(0, self._ask, call)

    def end(self, run: Run) -> None:
        """The attempt is over, whether its call was made or not."""
        call, run.call = run.call, None
        if call is None or self._by_id.pop(call.id, None) is None:
            return
        world = self._world
        if not call.granted:
            world.feed(inputs.BudgetCancel(call.id))
            return
        world.checks.budget_settled(call.id, call.real)
        world.feed(inputs.BudgetSettle(call.id, call.real))
        at = world.now
        self._store(call.definition, lambda: world.checks.budget_over(call.definition, call.real - call.tokens, at))

    def _ask(self, call: Call) -> None:
        if call.id in self._by_id and not call.granted:
            self._world.feed(inputs.BudgetReserve(call.id, call.definition, call.tokens))

    def _granted(self, decision: decide.GrantBudget) -> None:
        world = self._world
        call = self._by_id[decision.id]
        world.checks.budget_granted(call.definition, call.id, call.tokens)
        call.granted = True
        world.counts["calls"] += 1
        self._store(call.definition, lambda: world.checks.budget_stored(call.id), call.then)

    def _denied(self, decision: decide.DenyBudget) -> None:
        world = self._world
        world.counts[f"denied: {decision.window}"] += 1
        call = self._by_id[decision.id]
        world.checks.budget_denied(call.definition, call.tokens, decision)
        if decision.until_ms is None:
            world.later(0, self._give_up, call)
        else:
            # The wall clock may jump meanwhile.
            wait_ms = min(max(0, decision.until_ms - world.now.wall_ms), _LONGEST_MS)
            world.later(wait_ms, self._ask, call)

    def _give_up(self, call: Call) -> None:
        if call.id in self._by_id and not call.run.ended:
            self._world.control.finish(call.run, "failed")

    def _store(self, definition: str, entered: Callable[[], None], then: Callable[[], None] = lambda: None) -> None:
        """What the scheduler counts goes to the disk, again and again until it does: `entered` in that transaction, `then` after it."""
        world = self._world
        if world.scheduler is None:
            return
        kept = (world.scheduler.budget_buckets(definition, world.now), world.wall_offset_ms)

        def keep() -> bool:
            world.kept[definition] = kept
            entered()
            return True

        def again(_: None) -> None:
            self._store(definition, entered, then)

        world.journal.write(Op(keep, lambda _: then(), lambda: world.later(20.0, again)))
