"""What definitions and the engine as a whole may use: instances, and calls of their models."""

from __future__ import annotations

from engine.scheduling.budget import Budgets, BudgetState
from engine.scheduling.decisions import Decision
from engine.scheduling.definitions import Definition
from engine.scheduling.inputs import (
    BudgetCancel,
    BudgetInput,
    BudgetReserve,
    BudgetRestored,
    BudgetSettle,
    DefinitionChanged,
    InstancesOutside,
    Now,
)
from engine.scheduling.pools import Pool
from engine.scheduling.task import Task
from engine.scheduling.timers import Timers


class Quotas:
    """Definitions by name, and counts over all of them. `touched` is the fleet's: the pools that something happened to.

    `count` are the instances of pools, also those on their way; `leaving` those of them that take no further task; `outside` the
    instances of no pool."""

    def __init__(self, touched: dict[Pool, None], *, day_offset_ms: int, look_ms: int) -> None:
        self.by_name: dict[str, Definition] = {}
        self.max_instances = 0
        self.count = 0
        self.leaving = 0
        self.outside = 0
        self.timers: Timers[Definition] = Timers()
        self._budgets = Budgets(day_offset_ms)
        self._touched = touched
        self._look_ns = look_ms * 1_000_000

    @property
    def total(self) -> int:
        return self.count + self.outside

    def of(self, name: str) -> Definition:
        """The definition of this name; one that nobody told of is active and has no limits."""
        definition = self.by_name.get(name)
        if definition is None:
            definition = self.by_name[name] = Definition(name, self._budgets.of(name))
        return definition

    def changed(self, inp: DefinitionChanged, now: Now, *, known: bool = True) -> Definition:
        definition = self.of(inp.name)
        was_active = definition.active
        definition.known = known
        definition.budget.limits = inp
        if not inp.active and was_active:
            definition.since_ms = now.wall_ms
        elif inp.active and not was_active:
            definition.since_ms = None
        self.look(definition, now)
        self._touched.update(dict.fromkeys(definition.pools))
        return definition

    def instances_outside(self, inp: InstancesOutside) -> bool:
        """Returns whether there are fewer now."""
        definition = self.of(inp.definition)
        fewer = inp.count < definition.outside
        self.outside += inp.count - definition.outside
        definition.outside = inp.count
        return fewer

    def added(self, definition: Definition) -> None:
        """An instance of a pool exists, or will."""
        definition.count += 1
        self.count += 1

    def gone(self, definition: Definition, *, leaving: bool = False) -> None:
        definition.count -= 1
        self.count -= 1
        if leaving:
            definition.leaving -= 1
            self.leaving -= 1

    def leaves(self, definition: Definition) -> None:
        """An instance of a pool takes no further task."""
        definition.leaving += 1
        self.leaving += 1

    def surplus(self, definition: Definition) -> str | None:
        """Why there are too many instances, those left out that are leaving already."""
        limit = definition.max_instances
        if limit and definition.total - definition.leaving > limit:
            return f"{definition.name} has at most {limit} instances"
        if self.max_instances and self.total - self.leaving > self.max_instances:
            return f"the engine has at most {self.max_instances} instances"
        return None

    # -- calls -------------------------------------------------------------------------------------------------------

    def take(self, inp: BudgetInput, now: Now, out: list[Decision]) -> None:
        name: str | None
        match inp:
            case BudgetReserve():
                name = inp.definition
                if self._budgets.reserve(name, inp.id, inp.tokens, now, out) and self.of(name).expected:
                    self.of(name).expected -= 1
            case BudgetSettle():
                name = self._budgets.settle(inp.id, inp.tokens, now)
            case BudgetCancel():
                name = self._budgets.cancel(inp.id, now)
            case BudgetRestored():
                name = inp.definition
                self._budgets.of(name).restore(inp.buckets, now)
        if name is not None:
            self.look(self.of(name), now)

    def started(self, definition: Definition, task: Task, now: Now) -> None:
        """A task of a definition with windows starts, and will call its model soon."""
        task.definition = definition
        definition.running += 1
        definition.expected += 1
        self.look(definition, now)

    def ended(self, definition: Definition, task: Task, now: Now) -> None:
        task.definition = None
        definition.running -= 1
        definition.expected = min(definition.expected, definition.running)
        self.look(definition, now)

    def look(self, definition: Definition, now: Now) -> None:
        """See whether a definition's windows let tasks start, and when to look again."""
        if definition.look(now):
            self._touched.update(dict.fromkeys(definition.pools))
        full = definition.full
        if full is not None:
            # The wall clock may jump, and those in line may not come back: look again before the time that is promised, too.
            again_ns = now.mono_ns + self._look_ns
            self.timers.at(definition, again_ns if full.opens_ns is None else min(again_ns, full.opens_ns))

    def wake(self, now: Now) -> None:
        for definition in self.timers.due(now.mono_ns):
            self.look(definition, now)

    def state(self, name: str, now: Now) -> BudgetState:
        return self._budgets.of(name).state(now)

    def buckets(self, name: str, now: Now) -> tuple[tuple[int, int, int], ...]:
        return self._budgets.of(name).buckets(now)
