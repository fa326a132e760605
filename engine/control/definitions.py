"""All definitions in force as one immutable value, and what is common to their kinds: names, digests, ids."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from engine.contract.definitions import DataSource, PoolDefinition, QueueDefinition, TaskTemplate, WorkerDefinition

Definition = WorkerDefinition | PoolDefinition | QueueDefinition | TaskTemplate | DataSource

_IDS = uuid.UUID("8f0c3a52-6a0e-5d0b-9a6e-0d5f6b1d6a77")


class Kind(StrEnum):
    """The kinds in the order in which they refer to each other: a later one names earlier ones."""

    source = "source"
    worker = "worker"
    pool = "pool"
    queue = "queue"
    template = "template"

    @property
    def plural(self) -> str:
        return f"{self.value}s"


TYPES: Mapping[Kind, type[msgspec.Struct]] = {
    Kind.source: DataSource,
    Kind.worker: WorkerDefinition,
    Kind.pool: PoolDefinition,
    Kind.queue: QueueDefinition,
    Kind.template: TaskTemplate,
}


class Definitions(msgspec.Struct, frozen=True):
    """Every definition by kind and name. Never changed: `put`, `without` and `with_all` make another one."""

    sources: Mapping[str, DataSource] = {}
    workers: Mapping[str, WorkerDefinition] = {}
    pools: Mapping[str, PoolDefinition] = {}
    queues: Mapping[str, QueueDefinition] = {}
    templates: Mapping[str, TaskTemplate] = {}

    def of(self, kind: Kind) -> Mapping[str, Any]:
        found: Mapping[str, Any] = getattr(self, kind.plural)
        return found

    def put(self, definition: Definition) -> Definitions:
        """With this one in it, in the place of one of the same name."""
        kind = kind_of(definition)
        return self.with_all(kind, {**self.of(kind), definition.name: definition})

    def without(self, kind: Kind, name: str) -> Definitions:
        return self.with_all(kind, {known: it for known, it in self.of(kind).items() if known != name})

    def with_all(self, kind: Kind, definitions: Mapping[str, Any]) -> Definitions:
        """With exactly these of one kind."""
        return msgspec.structs.replace(self, **{kind.plural: definitions})


def kind_of(definition: Definition) -> Kind:
    return next(kind for kind, known in TYPES.items() if isinstance(definition, known))


def digest(definition: msgspec.Struct) -> str:
    """The first 12 hex digits of the SHA-256 of a definition's canonical JSON: its exact content, named."""
    return hashlib.sha256(msgspec.json.encode(definition, order="sorted")).hexdigest()[:12]


def stable_id(kind: Kind, name: str) -> str:
    """The UUID of a definition. It follows from its name, so that a reload, an export and another home agree on it."""
    return str(uuid.uuid5(_IDS, f"{kind.value}/{name}"))
