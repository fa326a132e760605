"""The world's model processes: slots that tasks and others hold, adapters that come and go, deaths, and more processes when work waits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.scheduling import decisions as decide
from engine.scheduling import inputs
from engine.scheduling.simulation.workforce import Run

if TYPE_CHECKING:
    from engine.scheduling.simulation.world import World

_SPELLINGS = "@v1"


class Process:
    """One replica. `total` is what it serves at once now, `used` what tasks hold of that, `outside` what others do. `shelf` are its
    adapters, the one that was used longest ago first; `told` is what the scheduler knows of them, `awaited` what it had brought since."""

    __slots__ = ("awaited", "busy", "coming", "model", "name", "outside", "shelf", "told", "total", "used")

    def __init__(self, model: str, name: str, total: int | None) -> None:
        self.model = model
        self.name = name
        self.total = total
        self.used = 0
        self.outside = 0
        self.shelf: OrderedDict[str, None] = OrderedDict()
        self.coming: dict[str, None] = {}
        self.busy: dict[str, int] = {}  # adapters of the tasks that it runs
        self.told: frozenset[str] = frozenset()
        self.awaited: set[str] = set()

    @property
    def full(self) -> bool:
        return self.total is not None and self.used + self.outside >= self.total

    def has(self, adapters: tuple[str, ...]) -> bool:
        """Whether the scheduler knows that all of these are there."""
        return self.told.issuperset(adapters)

    def will_have(self, adapters: tuple[str, ...]) -> bool:
        """Whether it knows that they are, or will be."""
        return self.total != 0 and all(name in self.told or name in self.awaited for name in adapters)


class Processes:
    """All of them, by model and by the name of the replica. They die with their engine."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.by_model: dict[str, dict[str, Process]] = {}

    def performers(self) -> dict[type[Any], Callable[[Any], None]]:
        return {decide.Prefetch: self._prefetch, decide.MoreReplicas: self._grow}

    def booted(self) -> list[inputs.Input]:
        """Every model begins with its first processes; what there is to tell of them."""
        plan = self._world.plan
        self.by_model = {
            model: {
                f"{model}.{number}": Process(model, f"{model}.{number}", total)
                for number in range(plan.replicas[model][0])
            }
            for model, total in plan.slots.items()
        }
        return [self._state(process) for process in self.all()]

    def all(self) -> list[Process]:
        return [process for processes in self.by_model.values() for process in processes.values()]

    def free(self, model: str) -> list[Process]:
        return [process for process in self.by_model[model].values() if not process.full]

    # -- tasks and others --------------------------------------------------------------------------------------------

    def take(self, run: Run, name: str, adapters: tuple[str, ...]) -> None:
        """A task starts here; its adapters are brought."""
        process = self.by_model[run.pool.model or ""][name]
        run.process, run.adapters = process, adapters
        process.used += 1
        process.awaited.update(name for name in adapters if name not in process.told)
        for adapter in adapters:
            process.busy[adapter] = process.busy.get(adapter, 0) + 1
            known = adapter in process.shelf
            self._world.counts["adapter hits" if known else "adapter misses"] += 1
            if known:
                process.shelf.move_to_end(adapter)
            else:
                self._bring(process, adapter)

    def give(self, run: Run) -> None:
        process, run.process = run.process, None
        if process is not None:
            process.used -= 1
            for adapter in run.adapters:
                process.busy[adapter] -= 1

    def talk(self) -> None:
        """Somebody takes a slot for a chat, or gives it back."""
        if found := self.all():
            process = self._world.rng.choice(found)
            process.outside = 1 - process.outside
            self._tell(process)

    # -- what the scheduler asks for ---------------------------------------------------------------------------------

    def _prefetch(self, decision: decide.Prefetch) -> None:
        self._world.counts["prefetches"] += 1
        process = self.by_model[decision.model].get(decision.replica)
        self._world.checks.prefetching(decision, process)
        if process is not None:
            if decision.first:
                process.awaited.update(decision.adapters)
            for adapter in decision.adapters:
                if decision.first or len(process.shelf) + len(process.coming) < self._world.plan.cache:
                    self._bring(process, adapter)

    def _grow(self, decision: decide.MoreReplicas) -> None:
        world = self._world
        world.counts["replicas asked for"] += 1
        processes = self.by_model[decision.model]
        world.checks.growing(decision, list(processes.values()))
        if len(processes) < world.plan.replicas[decision.model][1]:
            world.counts["replicas started"] += 1
            # A name of its own: tasks of one that is gone may not have ended yet.
            name = f"{decision.model}.more{world.counts['replicas started']}"
            processes[name] = Process(decision.model, name, 0)
            world.later(world.rng.expovariate(1 / 300.0), self._come_up, processes[name])

    # -- deaths ------------------------------------------------------------------------------------------------------

    def kill_one(self) -> None:
        """A process dies with the tasks that it runs, and comes back after a while; now and then it is gone meanwhile."""
        world = self._world
        found = self.all()
        if not found:
            return
        process = world.rng.choice(found)
        process.total = process.outside = 0
        process.shelf.clear()
        process.coming.clear()
        processes = self.by_model[process.model]
        if world.rng.random() < 0.3 and len(processes) > 1:
            del processes[process.name]
            process.told = frozenset()
            process.awaited.clear()
            world.feed(inputs.ReplicaGone(process.model, process.name))
        else:
            self._tell(process)
        for run in [run for run in world.runs.values() if run.process is process and not run.ended]:
            world.control.finish(run, "crashed")
        world.later(world.rng.expovariate(1 / 500.0), self._come_up, process)

    def _come_up(self, process: Process) -> None:
        if self.by_model[process.model].setdefault(process.name, process) is process:
            process.total = self._world.plan.slots[process.model]
            self._tell(process)

    def calm(self) -> None:
        """Everything is as planned again; nobody chats."""
        for model, total in self._world.plan.slots.items():
            for process in self.by_model[model].values():
                process.total, process.outside = total, 0
                self._tell(process)

    # -- adapters ----------------------------------------------------------------------------------------------------

    def _bring(self, process: Process, adapter: str) -> None:
        if adapter not in process.shelf and adapter not in process.coming:
            process.coming[adapter] = None
            self._world.later(
                self._world.rng.expovariate(1 / self._world.plan.load_ms), self._there, (process, adapter)
            )

    def _there(self, what: tuple[Process, str]) -> None:
        """An adapter has come; those that were used longest ago leave."""
        process, adapter = what
        if adapter not in process.coming:
            return
        del process.coming[adapter]
        process.shelf[adapter] = None
        for old in [name for name in process.shelf if not process.busy.get(name)]:
            if len(process.shelf) <= self._world.plan.cache:
                break
            del process.shelf[old]
        self._tell(process)

    def _tell(self, process: Process) -> None:
        if self.by_model[process.model].get(process.name) is process:
            self._world.feed(self._state(process))

    def _state(self, process: Process) -> inputs.ReplicaChanged:
        process.told = frozenset(process.shelf) | {name + _SPELLINGS for name in process.shelf}
        process.awaited = process.awaited - process.told if process.total != 0 else set()
        latency_ms = 20.0 * (1 + process.used)
        return inputs.ReplicaChanged(
            process.model, process.name, process.total, process.outside, process.told, latency_ms
        )
