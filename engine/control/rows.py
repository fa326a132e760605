"""What the manager knows, as rows of tables: pure functions over its state, called when a view or a list needs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import msgspec

from engine.contract.definitions import (
    DataSource,
    DefinitionStatus,
    PoolDefinition,
    QueueDefinition,
    Retirement,
    SourceType,
    TaskTemplate,
)
from engine.contract.models import model_name, needs_key
from engine.contract.records import InstanceRow, MachineRow, ModelRow, PoolRow, QueueRow, WorkerRow
from engine.contract.records.definitions import SourceRow, TemplateRow
from engine.contract.states import TaskState
from engine.contract.why import Why
from engine.control.catalogue import Catalogue
from engine.control.checks import Surroundings, check, referrers
from engine.control.definitions import Definitions, Kind, digest
from engine.control.instances import Instances
from engine.control.tally import Tally

HARMLESS_GATES = frozenset({"", "turn", "starting", "instance", "due"})
"""Gates at which waiting is the normal course of things, so nobody needs to be called."""


def first_gate(why: Why) -> str:
    """The first closed gate of an answer in one word, empty when nothing is closed."""
    return next((gate.name for gate in why.gates if gate.closed), "")


def queue_row(
    queue: QueueDefinition,
    tally: Tally,
    head_ms: int | None,
    gate: str,
    latency: tuple[float, float] | None,
    trend: tuple[int, ...],
) -> QueueRow:
    waiting = tally.waiting(queue.name)
    running = tally.count(queue.name, TaskState.processing)
    came, went = tally.rates(queue.name)
    return QueueRow(
        id=queue.name,
        state=_queue_state(queue, tally.count(queue.name, TaskState.pending), running, went, gate),
        waiting=waiting,
        running=running,
        scheduled=tally.count(queue.name, TaskState.scheduled),
        retrying=tally.count(queue.name, TaskState.retrying),
        completed=tally.count(queue.name, TaskState.completed),
        failed=tally.count(queue.name, TaskState.failed),
        cancelled=tally.count(queue.name, TaskState.cancelled),
        head_ms=head_ms if waiting else None,
        in_per_min=came,
        out_per_min=went,
        pools=queue.pools,
        durability=queue.durability.value,
        gate=gate if waiting else "",
        p50_ms=latency[0] if latency is not None else None,
        p95_ms=latency[1] if latency is not None else None,
        empty_ms=round(waiting * 60_000 / (went - came), 1) if waiting and went > came else None,
        trend=trend,
    )


def _queue_state(queue: QueueDefinition, pending: int, running: int, went: float, gate: str) -> str:
    """Stuck is what waits while nothing runs and nothing has ended in the last minute: between two tasks a queue only seems so."""
    if queue.paused:
        return "paused"
    if queue.draining:
        return "draining"
    if pending and not running and not went and gate not in HARMLESS_GATES:
        return "stuck"
    return "open"


def pool_row(
    pool: PoolDefinition,
    catalogue: Catalogue,
    instances: Instances,
    tally: Tally,
    starting: int,
    gate: str,
    head_ms: int | None,
    latency: tuple[float, float] | None,
    steps: tuple[int, int],
) -> PoolRow:
    mine = instances.of_pool(pool.name)
    busy = sum(instance.task is not None for instance in mine)
    queues = tuple(queue.name for queue in catalogue.queues.values() if pool.name in queue.pools)
    waiting = sum(tally.count(queue, TaskState.pending) for queue in queues)
    worker = catalogue.workers.get(pool.definition)
    active = worker is not None and worker.status is DefinitionStatus.active
    return PoolRow(
        id=pool.name,
        state=_pool_state(pool, len(mine), busy, waiting, gate) if worker is not None else "broken",
        definition=pool.definition,
        queues=queues,
        # A name that ends with # is that of a model whose key nobody has named: the workers' table says that it is missing.
        model=model_name(worker).removesuffix("#") if worker is not None else "",
        busy=busy,
        idle=len(mine) - busy,
        starting=starting,
        min_idle=pool.min_idle,
        max_total=pool.max_total,
        waiting=waiting,
        held_by="no definition" if worker is None else "disabled" if not active else gate if waiting else "",
        head_ms=head_ms,
        p50_ms=latency[0] if latency is not None else None,
        up_1h=steps[0],
        down_1h=steps[1],
    )


def _pool_state(pool: PoolDefinition, total: int, busy: int, waiting: int, gate: str) -> str:
    if waiting and gate == "pool max" and busy >= pool.max_total:
        return "at max"
    if waiting and gate not in HARMLESS_GATES:
        return "held"
    return "ok" if total else "empty"


def worker_rows(catalogue: Catalogue, key_status: Callable[[str], str]) -> list[WorkerRow]:
    return [
        WorkerRow(
            id=worker.name,
            kind=worker.kind,
            model=worker.model,
            capabilities=worker.capabilities,
            pools=tuple(pool.name for pool in catalogue.pools.values() if pool.definition == worker.name),
            digest=digest(worker),
            description=worker.description,
            provider=worker.provider.value,
            status=worker.status.value,
            interaction=worker.interaction.value,
            key=worker.key,
            key_status=key_status(worker.key) if worker.key or needs_key(worker.provider) else "",
        )
        for worker in catalogue.workers.values()
    ]


def template_row(template: TaskTemplate) -> TemplateRow:
    fields = template.payload_schema.get("properties")
    return TemplateRow(
        id=template.name,
        queue=template.queue,
        definition=template.definition,
        capabilities=template.capabilities,
        priority=template.priority,
        fields=tuple(fields) if isinstance(fields, dict) else (),
        digest=digest(template),
        description=template.description,
    )


def source_row(source: DataSource, among: Definitions, around: Surroundings) -> SourceRow:
    """Whether a data source can be read now: config.toml and the disk may have changed since it was made."""
    faults = [fault for fault in check(source, among, around) if not fault.warning]
    missing = source.type is SourceType.local_directory and not os.path.isdir(around.files / source.path)
    note = faults[0].message if faults else "the directory does not exist" if missing else ""
    return SourceRow(
        id=source.name,
        state="denied" if faults else "missing" if missing else "usable",
        type=source.type.value,
        path=source.path,
        external=source.external,
        read_only=source.read_only,
        filters=source.filters,
        target=source.target,
        used_by=tuple(referrers(Kind.source, source.name, among)),
        note=note,
        description=source.description,
    )


def instance_rows(instances: Instances, catalogue: Catalogue, now_ms: int) -> list[InstanceRow]:
    """Live instances. Those of pools with a retirement say how much they have before them."""
    found = []
    for instance in instances.all():
        row = instance.row()
        pool = catalogue.pools.get(instance.pool)
        if pool is not None and pool.retirement != Retirement():
            note = row.note or _retires(pool.retirement, row, now_ms)
            row = msgspec.structs.replace(row, max_tasks=pool.retirement.max_tasks, note=note)
        found.append(row)
    return found


def _retires(retirement: Retirement, row: InstanceRow, now_ms: int) -> str:
    """When an instance has served enough, by whichever comes first, in words."""
    words = []
    if retirement.max_tasks:
        words.append(f"in {max(0, retirement.max_tasks - row.done - row.failed)} tasks")
    if retirement.max_age_ms and row.spawned_ms is not None:
        left_s = max(0, row.spawned_ms + retirement.max_age_ms - now_ms) // 1000
        words.append(
            f"in {left_s // 3600}h{left_s % 3600 // 60:02d}m"
            if left_s >= 3600
            else f"in {left_s // 60}m{left_s % 60:02d}s"
        )
    return "retires " + " or ".join(words)


def machine_row(
    host: str,
    started_ms: int,
    tally: Tally,
    failed_today: int,
    models: Iterable[ModelRow],
    mode: str,
    asks: int,
    read_cpu: Callable[[], float | None],
    gpus: tuple[str, ...],
) -> MachineRow:
    return MachineRow(
        id=host,
        host=host,
        started_ms=started_ms,
        running=tally.total(TaskState.processing),
        waiting=tally.total(TaskState.pending, TaskState.scheduled, TaskState.retrying),
        fail_today=failed_today,
        tokens_per_s=sum(model.tokens_per_s for model in models),
        mode=mode,
        asks=asks,
        cpu_percent=read_cpu(),
        gpus=gpus,
    )
