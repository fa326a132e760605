"""The definitions in force: one immutable snapshot at a time. What makes a snapshot is elsewhere: `checks`, `bundles`, `keeping`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from engine.contract.definitions import DataSource, PoolDefinition, QueueDefinition, TaskTemplate, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest
from engine.control.definitions import Definitions, Kind, stable_id

SHIPPED = (
    Definitions()
    .put(
        WorkerDefinition(
            name="nano",
            kind="goat",
            model="aiwm-nano",
            description="the shipped toy model: sums, extraction, JSON; proves the machinery, no more",
            capabilities=("text",),
        )
    )
    .put(WorkerDefinition(name="echo", kind="template", description="gives every task its payload back"))
    .put(PoolDefinition(name="demo", definition="nano", min_idle=1, max_total=4))
    .put(PoolDefinition(name="echo", definition="echo", max_total=4))
    .put(QueueDefinition(name="demo", pools=("demo",)))
    .put(QueueDefinition(name="echo", pools=("echo",)))
)
"""What a new home begins with."""

Found = TypeVar("Found", WorkerDefinition, PoolDefinition, QueueDefinition, TaskTemplate, DataSource)


class Catalogue:
    """All definitions by name. `activate` swaps in a whole new snapshot; readers never see half of one."""

    def __init__(self) -> None:
        self.now = Definitions()
        self._closing: set[str] = set()

    @property
    def workers(self) -> Mapping[str, WorkerDefinition]:
        return self.now.workers

    @property
    def pools(self) -> Mapping[str, PoolDefinition]:
        return self.now.pools

    @property
    def queues(self) -> Mapping[str, QueueDefinition]:
        return self.now.queues

    @property
    def templates(self) -> Mapping[str, TaskTemplate]:
        return self.now.templates

    @property
    def sources(self) -> Mapping[str, DataSource]:
        return self.now.sources

    def activate(self, definitions: Definitions) -> None:
        self.now = definitions

    def worker(self, name: str) -> WorkerDefinition:
        """By name or id; raises `not_found` with the nearest name. So do the others."""
        return _find(Kind.worker, name, self.workers)

    def pool(self, name: str) -> PoolDefinition:
        return _find(Kind.pool, name, self.pools)

    def queue(self, name: str) -> QueueDefinition:
        return _find(Kind.queue, name, self.queues)

    def open_queue(self, name: str) -> QueueDefinition:
        """A queue that tasks may come into: `conflict` for one that is about to go."""
        queue = self.queue(name)
        if queue.name in self._closing:
            raise AiwmError(
                Code.conflict,
                f'queue "{queue.name}" is being deleted: it takes nothing new',
                field="queue",
                fix="aiwm queue list",
                retryable=True,
            )
        return queue

    @contextmanager
    def closing(self, queues: Iterable[str]) -> Iterator[None]:
        """While these queues may go, nothing comes into them: what is counted after the next commit is all that they have."""
        names = set(queues) - self._closing
        self._closing |= names
        try:
            yield
        finally:
            self._closing -= names

    def template(self, name: str) -> TaskTemplate:
        return _find(Kind.template, name, self.templates)

    def retention_ms(self, queue: str) -> int | None:
        """How long a queue wants its ended tasks kept, None if it does not say."""
        definition = self.queues.get(queue)
        return None if definition is None else definition.retention_ms

    def source(self, name: str) -> DataSource:
        return _find(Kind.source, name, self.sources)


def _find(kind: Kind, name: str, known: Mapping[str, Found]) -> Found:
    definition = known.get(name)
    if definition is not None:
        return definition
    if len(name) == 36:
        for other in known:
            if stable_id(kind, other) == name:
                return known[other]
    raise AiwmError(
        Code.not_found,
        f'{kind} "{name[:80]}" does not exist',
        field="name",
        fix=nearest(name, known) or f"aiwm {kind} list",
    )
