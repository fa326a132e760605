"""The definitions in force: worker definitions from their file (replaced whole or not at all), pools and queues from the store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.contract.definitions import (
    NAME_PATTERN,
    DataSource,
    PoolDefinition,
    QueueDefinition,
    TaskTemplate,
    WorkerDefinition,
)
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.invalid import invalid
from engine.contract.requests.fleet import Reloaded
from engine.contract.suggest import nearest
from engine.workers.registry import KindRegistry

MAX_INSTANCES = 1_000
_WEEK_MS = 7 * 86_400_000
FILE_NAME = "ai_worker_definitions.json"
SHIPPED_WORKERS = (
    WorkerDefinition(
        name="nano",
        kind="goat",
        model="aiwm-nano",
        description="the shipped toy model: sums, extraction, JSON; proves the machinery, no more",
        capabilities=("text",),
    ),
    WorkerDefinition(name="echo", kind="template", description="gives every task its payload back"),
)
SHIPPED_POOLS = (
    PoolDefinition(name="demo", definition="nano", min_idle=1, max_total=4),
    PoolDefinition(name="echo", definition="echo", max_total=4),
)
SHIPPED_QUEUES = (
    QueueDefinition(name="demo", pools=("demo",)),
    QueueDefinition(name="echo", pools=("echo",)),
)

Definition = TypeVar("Definition", WorkerDefinition, PoolDefinition, QueueDefinition, TaskTemplate, DataSource)


def digest(definition: msgspec.Struct) -> str:
    """The first 12 hex digits of the SHA-256 of a definition's canonical JSON: its exact content, named."""
    return hashlib.sha256(msgspec.json.encode(definition, order="sorted")).hexdigest()[:12]


class Catalogue:
    """Immutable snapshots of all definitions by name. `replace_*` swaps in a new snapshot; readers never see half of one."""

    def __init__(self, home: Path, kinds: KindRegistry) -> None:
        self._home = home
        self._kinds = kinds
        self.workers: Mapping[str, WorkerDefinition] = {}
        self.pools: Mapping[str, PoolDefinition] = {}
        self.queues: Mapping[str, QueueDefinition] = {}
        self.templates: Mapping[str, TaskTemplate] = {}
        self.sources: Mapping[str, DataSource] = {}

    @property
    def file(self) -> Path:
        return self._home / FILE_NAME

    def write_shipped(self) -> None:
        """Give a new home its definitions file."""
        document = {"workers": [msgspec.to_builtins(worker) for worker in SHIPPED_WORKERS]}
        text = msgspec.json.format(msgspec.json.encode(document), indent=2)
        temporary = self.file.with_suffix(".tmp")
        temporary.write_bytes(text + b"\n")
        temporary.replace(self.file)

    def load_workers(self) -> Reloaded:
        """Read the definitions file. Any error in it leaves the old set in force and is in the answer, all of them at once."""
        found, errors = read_workers(self.file, self._kinds)
        missing = sorted({pool.definition for pool in self.pools.values()} - found.keys())
        errors += [
            ErrorInfo(
                code=Code.definition_invalid,
                message=f'{FILE_NAME} has no worker "{name}", which a pool uses',
                field="workers",
                fix=nearest(name, found) or "add it, or change the pool first",
            )
            for name in missing
            if not errors
        ]
        if errors:
            return Reloaded(added=[], changed=[], removed=[], unchanged=len(self.workers), errors=errors)
        old, self.workers = self.workers, found
        return Reloaded(
            added=sorted(found.keys() - old.keys()),
            changed=sorted(name for name in found.keys() & old.keys() if found[name] != old[name]),
            removed=sorted(old.keys() - found.keys()),
            unchanged=sum(found[name] == old[name] for name in found.keys() & old.keys()),
        )

    def put_pool(self, pool: PoolDefinition) -> None:
        self.pools = {**self.pools, pool.name: pool}

    def put_queue(self, queue: QueueDefinition) -> None:
        self.queues = {**self.queues, queue.name: queue}

    def worker(self, name: str) -> WorkerDefinition:
        return _find("worker", name, self.workers)

    def pool(self, name: str) -> PoolDefinition:
        return _find("pool", name, self.pools)

    def queue(self, name: str) -> QueueDefinition:
        return _find("queue", name, self.queues)

    def template(self, name: str) -> TaskTemplate:
        return _find("template", name, self.templates)

    def source(self, name: str) -> DataSource:
        return _find("source", name, self.sources)

    def check_pool(self, pool: PoolDefinition) -> None:
        """Refuse a pool that cannot work."""
        _check_name("pool", pool.name)
        _find("worker", pool.definition, self.workers, field="definition.definition")
        _check_ranges(
            ("definition.min_idle", pool.min_idle, 0, pool.max_total),
            ("definition.max_total", pool.max_total, 1, MAX_INSTANCES),
        )

    def check_queue(self, queue: QueueDefinition) -> None:
        """Refuse a queue that cannot work."""
        _check_name("queue", queue.name)
        for pool in queue.pools:
            _find("pool", pool, self.pools, field="definition.pools")
        retry = queue.retry
        _check_ranges(
            ("definition.default_priority", queue.default_priority, -1000, 1000),
            ("definition.aging_ms", queue.aging_ms, 0, _WEEK_MS),
            ("definition.max_length", 1 if queue.max_length is None else queue.max_length, 1, 2**40),
            ("definition.retry.max_retries", retry.max_retries, 0, 1000),
            ("definition.retry.delay_ms", retry.delay_ms, 0, _WEEK_MS),
            ("definition.retry.max_delay_ms", retry.max_delay_ms, 0, 8 * _WEEK_MS),
            ("definition.retry.backoff", retry.backoff, 1, 1000),
            ("definition.retry.jitter", retry.jitter, 0, 1),
        )


def _find(what: str, name: str, known: Mapping[str, Definition], field: str = "name") -> Definition:
    definition = known.get(name)
    if definition is None:
        raise AiwmError(
            Code.not_found,
            f'{what} "{name[:80]}" does not exist',
            field=field,
            fix=nearest(name, known) or f"aiwm {what} list",
        )
    return definition


def _check_ranges(*numbers: tuple[str, float, float, float]) -> None:
    """Refuse the first (field, value, lowest, highest) that is out of range."""
    for field, value, low, high in numbers:
        if not low <= value <= high:
            raise AiwmError(
                Code.definition_invalid, f"{field} is {value:g}, but must lie between {low:g} and {high:g}", field=field
            )


def _check_name(what: str, name: str, field: str = "definition.name") -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise AiwmError(
            Code.definition_invalid,
            f'"{name[:80]}" is no name for a {what}: letters, digits, dot, dash and underscore, at most 64, a letter or digit first',
            field=field,
        )


def read_workers(path: Path, kinds: KindRegistry) -> tuple[dict[str, WorkerDefinition], list[ErrorInfo]]:
    """The worker definitions of a file, and everything that is wrong with it (then the definitions are not to be used)."""
    try:
        document = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        return {}, [_error(f"{path.name} cannot be read: {error.strerror}", None, "aiwm worker list")]
    except msgspec.DecodeError as error:
        return {}, [_error(f"{path.name} is not JSON: {error}", None, "correct it at that byte")]
    items = document.get("workers") if isinstance(document, dict) else None
    if not isinstance(items, list):
        return {}, [_error(f'{path.name} must be an object with a list "workers"', "workers", '{"workers": […]}')]
    errors = [
        _error(f'unknown key "{key}" in {path.name}', key, nearest(key, ("workers",)))
        for key in document
        if key != "workers"
    ]
    found: dict[str, WorkerDefinition] = {}
    for index, item in enumerate(items):
        try:
            worker = read_worker(item, f"workers[{index}]", kinds)
        except AiwmError as error:
            errors.append(error.info)
            continue
        if worker.name in found:
            errors.append(
                _error(f'two workers are named "{worker.name}"', f"workers[{index}].name", "names are unique")
            )
        found[worker.name] = worker
    return found, errors


def read_worker(item: Any, where: str, kinds: KindRegistry) -> WorkerDefinition:
    """One worker definition from parsed JSON. Raises `definition_invalid` naming the field, with the nearest known key."""
    try:
        worker = msgspec.convert(item, WorkerDefinition)
    except msgspec.ValidationError as error:
        raise invalid(error, WorkerDefinition, Code.definition_invalid, where) from None
    try:
        _check_name("worker", worker.name, "name")
        kinds.find(worker.kind)
        if kinds.third_party(worker.kind):
            return worker
        if kinds.load(worker.kind).uses_model and not worker.model:
            raise AiwmError(
                Code.definition_invalid,
                f'the kind "{worker.kind}" needs a model',
                field="model",
                fix='"model": "aiwm-nano"',
            )
    except AiwmError as error:
        field = f"{where}.{error.info.field}"
        raise AiwmError(
            Code.definition_invalid, f"{field}: {error.info.message}", field=field, fix=error.info.fix
        ) from None
    return worker


def _error(message: str, field: str | None, fix: str | None) -> ErrorInfo:
    return ErrorInfo(code=Code.definition_invalid, message=message, field=field, fix=fix)
