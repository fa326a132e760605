"""Live instances: each a worker of one definition that processes one task at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.contract.definitions import WorkerDefinition
from engine.contract.ids import instance_id
from engine.contract.records import InstanceRow
from engine.contract.states import InstanceState
from engine.home import log_path
from engine.workers.isolated import IsolatedWorker, worker_for
from engine.workers.registry import KindRegistry
from engine.workers.template import WorkerTemplate


class Instance:
    """One live session of a definition. `since_ms` is when it took its present state; `task` the id of the task it holds."""

    def __init__(
        self, identifier: str, pool: str, definition: WorkerDefinition, worker: WorkerTemplate, now_ms: int
    ) -> None:
        self.id = identifier
        self.pool = pool
        self.definition = definition
        self.worker = worker
        self.state = InstanceState.idle
        self.since_ms = now_ms
        self.task: str | None = None
        self.done = 0
        self.failed = 0
        self.tokens = 0
        self.note = ""

    def take(self, task: str, now_ms: int) -> None:
        self.state, self.task, self.since_ms = InstanceState.busy, task, now_ms

    def release(self, now_ms: int) -> None:
        self.state, self.task, self.since_ms = InstanceState.idle, None, now_ms

    def row(self) -> InstanceRow:
        return InstanceRow(
            id=self.id,
            state=self.state.value,
            pool=self.pool,
            definition=self.definition.name,
            kind=self.definition.kind,
            task=self.task,
            since_ms=self.since_ms,
            done=self.done,
            failed=self.failed,
            tokens=self.tokens,
            note=self.note,
        )


class Instances:
    """All live instances by id. Numbers are never used twice in an engine's life."""

    def __init__(self, home: Path, kinds: KindRegistry, now_ms: Callable[[], int]) -> None:
        self._home = home
        self._kinds = kinds
        self._now_ms = now_ms
        self._made = 0
        self._live: dict[str, Instance] = {}

    def spawn(self, pool: str, definition: WorkerDefinition) -> Instance:
        """Make an instance. Raises AiwmError when its kind cannot be loaded."""
        self._made += 1
        identifier = instance_id(self._made)
        worker = worker_for(self._kinds, definition, log_path(self._home, f"kind-{identifier}"))
        instance = Instance(identifier, pool, definition, worker, self._now_ms())
        self._live[identifier] = instance
        return instance

    def retire(self, identifier: str) -> Instance | None:
        """Let an instance go; its process, if it has one, ends."""
        instance = self._live.pop(identifier, None)
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
