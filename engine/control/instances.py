"""Live instances: each a worker of one definition that does one thing at a time, a pool's task or a turn of a chat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.contract.definitions import WorkerDefinition
from engine.contract.ids import instance_id
from engine.contract.records import InstanceRow, RetiredRow
from engine.contract.states import InstanceState
from engine.control.budget import Held
from engine.control.metering import Pulse
from engine.control.numbering import Numbering
from engine.home import log_path
from engine.scheduling.budget import DAY
from engine.workers.isolated import IsolatedWorker, worker_for
from engine.workers.registry import KindRegistry
from engine.workers.template import WorkerTemplate


class Instance:
    """One live session of a definition. `since_ms` is when it took its present state; `task` the id of the task it holds; `context`
    how many tokens its last call had, of `context_max` (0: not known); `until_ms` when the window opens that it waits for."""

    def __init__(
        self, identifier: str, pool: str, definition: WorkerDefinition, worker: WorkerTemplate, now_ms: int
    ) -> None:
        self.id = identifier
        self.pool = pool
        self.definition = definition
        self.worker = worker
        self.state = InstanceState.idle
        self.spawned_ms = self.since_ms = now_ms
        self.task: str | None = None
        self.done = 0
        self.failed = 0
        self.tokens_in = 0
        self.tokens_out = 0
        self.cost_usd = 0.0
        self.context = 0
        self.context_max = 0
        self.until_ms: int | None = None
        self.by = ""
        self.note = ""
        self.pulse = Pulse()
        self._limited = ""

    def take(self, task: str | None, now_ms: int) -> None:
        self.state, self.task, self.since_ms = InstanceState.busy, task, now_ms

    def release(self, now_ms: int, state: InstanceState = InstanceState.idle) -> None:
        self.state, self.task, self.since_ms = state, None, now_ms
        self.until_ms, self._limited = None, ""

    def hold(self, held: Held | None, now_ms: int) -> None:
        """A call of its waits for the budget, or (None) does so no longer."""
        if held is not None:
            state = InstanceState.spent if held.window == DAY else InstanceState.limited
            if state is not self.state:
                self.since_ms = now_ms
            self.state, self.until_ms, self._limited = state, held.until_ms, held.reason
        elif self.until_ms is not None:
            self.state, self.since_ms, self.until_ms, self._limited = InstanceState.busy, now_ms, None, ""

    def used(self, tokens_in: int, tokens_out: int, cost_usd: float) -> None:
        """Count what a task or a turn took."""
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        self.cost_usd += cost_usd

    def retired(self, reason: str, now_ms: int) -> RetiredRow:
        """What is kept of an instance of a pool that is no more."""
        worn = reason.startswith(("it has run ", "it is ", "its definition "))
        return RetiredRow(
            id=self.id,
            state=(InstanceState.exhausted if worn else InstanceState.completed).value,
            pool=self.pool,
            definition=self.definition.name,
            reason=reason,
            spawned_ms=self.spawned_ms,
            retired_ms=now_ms,
            done=self.done,
            failed=self.failed,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            cost_usd=self.cost_usd,
            files=self.definition.files,
        )

    def row(self) -> InstanceRow:
        stuck = self.pulse.stuck() if self.state is InstanceState.busy else ""
        return InstanceRow(
            id=self.id,
            state=(InstanceState.stuck if stuck else self.state).value,
            pool=self.pool,
            definition=self.definition.name,
            kind=self.definition.kind,
            task=self.task,
            since_ms=self.since_ms,
            done=self.done,
            failed=self.failed,
            tokens=self.tokens_in + self.tokens_out,
            note=stuck or self._limited or self.note,
            spawned_ms=self.spawned_ms,
            context=self.context,
            context_max=self.context_max,
            until_ms=self.until_ms,
            by=self.by,
        )


class Instances:
    """All live instances by id; `changed` is told when a row looks different though no task began or ended."""

    def __init__(
        self,
        home: Path,
        kinds: KindRegistry,
        now_ms: Callable[[], int],
        numbering: Numbering,
        changed: Callable[[], None],
    ) -> None:
        self._home = home
        self._kinds = kinds
        self._now_ms = now_ms
        self._numbering = numbering
        self.changed = changed
        self._live: dict[str, Instance] = {}

    def spawn(self, pool: str, definition: WorkerDefinition) -> Instance:
        """Make an instance; `pool` is "" for one of its own. Raises AiwmError when its kind cannot be loaded."""
        instance = self.adopt(instance_id(self._numbering.made + 1), pool, definition)
        self._numbering.spawned(definition.name, pool)
        return instance

    def adopt(self, identifier: str, pool: str, definition: WorkerDefinition) -> Instance:
        """Make an instance that has its id already."""
        worker = worker_for(self._kinds, definition, log_path(self._home, f"kind-{identifier}"))
        instance = Instance(identifier, pool, definition, worker, self._now_ms())
        self._live[identifier] = instance
        return instance

    def hold(self, instance: Instance, held: Held | None) -> None:
        """A call of an instance waits for the budget, or does so no longer."""
        before = (instance.state, instance.until_ms)
        instance.hold(held, self._now_ms())
        if (instance.state, instance.until_ms) != before:
            self.changed()

    def retire(self, identifier: str, reason: str = "") -> Instance | None:
        """Let an instance go; its process, if it has one, ends. With a reason, one of a pool goes into the history."""
        instance = self._live.pop(identifier, None)
        if instance is not None and instance.pool and reason:
            self._numbering.retired(instance.retired(reason, self._now_ms()))
        if instance is not None and isinstance(instance.worker, IsolatedWorker):
            instance.worker.close()
        return instance

    def get(self, identifier: str) -> Instance | None:
        return self._live.get(identifier)

    def of_pool(self, pool: str) -> list[Instance]:
        return [instance for instance in self._live.values() if instance.pool == pool]

    def all(self) -> list[Instance]:
        return list(self._live.values())

    def close(self) -> None:
        for identifier in list(self._live):
            self.retire(identifier)
