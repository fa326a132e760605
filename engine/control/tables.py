"""The manager's tables: rows made on demand from what is in memory, for lists and views alike."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from engine.clock import Clock
from engine.contract.definitions import DataSource, PoolDefinition, QueueDefinition
from engine.contract.ids import task_seq
from engine.contract.records import (
    InstanceRow,
    MachineRow,
    ModelRow,
    NeedRow,
    PoolRow,
    QueueRow,
    RetiredRow,
    TaskRow,
    WorkerRow,
)
from engine.contract.records.definitions import SourceRow, TemplateRow
from engine.contract.records.operations import OperationRow
from engine.contract.requests.maintenance import Maintenance
from engine.contract.states import TaskState
from engine.control import rows
from engine.control.alike import FailedAlike
from engine.control.catalogue import Catalogue
from engine.control.checks import Surroundings
from engine.control.dispatcher import Dispatcher
from engine.control.failures import kept as failure_kept
from engine.control.instances import Instances
from engine.control.needs import Failed, Standing, need_rows, of_queues
from engine.control.numbering import RETIRED
from engine.control.scaling import Scaling
from engine.control.sessions.store import Retired
from engine.control.tally import WAITING, Tally
from engine.control.tempo import Tempo
from engine.control.trends import Trends
from engine.store.readers import Readers

_MOST_RETIRED = 10_000
_WAITING = frozenset(state.value for state in WAITING)


class Tables:
    """All tables but tasks and events, which the store serves. `mode` is the machine line's word for how the engine is.
    `key_status` says of an API key by its name whether it is found; whoever has the keys sets it. So do those who know of `maintenance`,
    of operations that are `held`, of how much `asks` for a decision, and of the `gpus`."""

    def __init__(
        self,
        catalogue: Catalogue,
        instances: Instances,
        tally: Tally,
        tempo: Tempo,
        trends: Trends,
        scaling: Scaling,
        dispatcher: Dispatcher,
        readers: Readers,
        model_rows: Callable[[], list[ModelRow]],
        clock: Clock,
        home: Path,
        mode: Callable[[], str],
        around: Surroundings,
    ) -> None:
        self._catalogue = catalogue
        self._instances = instances
        self._tally = tally
        self._tempo = tempo
        self._trends = trends
        self._scaling = scaling
        self._dispatcher = dispatcher
        self._readers = readers
        self.failed_alike = FailedAlike(readers)
        self._model_rows = model_rows
        self._clock = clock
        self._home = home
        self._mode = mode
        self._around = around
        self.key_status: Callable[[str], str] = lambda _: ""
        self._started_ms = clock.wall_ms()
        self._host = socket.gethostname()
        self._cpu = _CpuMeter()
        self.storage_failed_ms: int | None = None
        self.maintenance: Callable[[], Maintenance | None] = lambda: None
        self.held: Callable[[], list[OperationRow]] = list
        self.asks: Callable[[], int] = lambda: 0
        self.gpus: Callable[[], tuple[str, ...]] = tuple

    def queue(self, queue: QueueDefinition) -> QueueRow:
        waiting = self._tally.waiting(queue.name)
        gate = rows.first_gate(self._dispatcher.why_queue(queue.name)) if waiting else ""
        head_ms = self._readers.head_ms(queue.name) if waiting else None
        trend = self._trends.of(queue.name, self._clock.wall_ms(), waiting)
        return rows.queue_row(queue, self._tally, head_ms, gate, self._tempo.latency(queue.name), trend)

    def queues(self) -> list[QueueRow]:
        return [self.queue(queue) for queue in self._catalogue.queues.values()]

    def pool(self, pool: PoolDefinition) -> PoolRow:
        waiting = [
            queue.name
            for queue in self._catalogue.queues.values()
            if pool.name in queue.pools and self._tally.count(queue.name, TaskState.pending)
        ]
        gate = rows.first_gate(self._dispatcher.why_pool(pool.name)) if waiting else ""
        heads = [head_ms for queue in waiting if (head_ms := self._readers.head_ms(queue)) is not None]
        return rows.pool_row(
            pool,
            self._catalogue,
            self._instances,
            self._tally,
            self._dispatcher.starting(pool.name),
            gate,
            min(heads, default=None),
            self._tempo.pool_latency(pool.name),
            self._scaling.lately(pool.name),
        )

    def pools(self) -> list[PoolRow]:
        return [self.pool(pool) for pool in self._catalogue.pools.values()]

    def instances(self) -> list[InstanceRow]:
        return rows.instance_rows(self._instances, self._catalogue, self._clock.wall_ms())

    def retired(self) -> list[RetiredRow]:
        """The latest instances that are no more."""
        found = self._readers.documents(RETIRED, limit=_MOST_RETIRED)
        return [msgspec.json.decode(document.json, type=Retired).row for document in found]

    def workers(self) -> list[WorkerRow]:
        return rows.worker_rows(self._catalogue, self.key_status)

    def templates(self) -> list[TemplateRow]:
        return [rows.template_row(template) for template in self._catalogue.templates.values()]

    def sources(self) -> list[SourceRow]:
        return [self.source(source) for source in self._catalogue.sources.values()]

    def source(self, source: DataSource) -> SourceRow:
        return rows.source_row(source, self._catalogue.now, self._around)

    def machine(self) -> list[MachineRow]:
        return [
            rows.machine_row(
                self._host,
                self._started_ms,
                self._tally,
                self._readers.failed_since(self._midnight_ms()),
                self._model_rows(),
                self._mode(),
                self.asks(),
                self._cpu.percent,
                self.gpus(),
            )
        ]

    def needs(self) -> list[NeedRow]:
        return need_rows(self._standing(self._model_rows(), self._failed(), self.held()))

    def queue_needs(self) -> list[NeedRow]:
        """Those of queues: they are looked at while nobody looks, and cost what is in memory; thousands of failures are only counted
        for somebody."""
        return of_queues(self._standing((), (), ()))

    def _standing(self, models: Sequence[ModelRow], failed: Sequence[Failed], held: Sequence[OperationRow]) -> Standing:
        return Standing(
            queues=self.queues(),
            pools=self.pools,
            models=models,
            failed=failed,
            held=held,
            why=self._dispatcher.why_queue,
            maintenance=self.maintenance(),
            storage_failed_ms=self.storage_failed_ms,
            home=self._home,
            now_ms=self._clock.wall_ms(),
        )

    def _failed(self) -> list[Failed]:
        """What has failed since midnight and is failed still, in the words of its failure where these are kept."""
        found = []
        for fail, error, count, since_ms in self.failed_alike.since(self._midnight_ms()):
            known = failure_kept(self._readers, fail) if fail else None
            text = known.message if known is not None else error
            worker = f"{known.definition}: " if known is not None and known.definition else ""
            found.append(Failed(fail, f"{worker}{text}", count, since_ms))
        return found

    def with_reasons(self, found: list[TaskRow]) -> list[TaskRow]:
        """Task rows whose `reason` says, for those that wait, which gate holds them."""
        out: list[TaskRow] = []
        for row in found:
            if row.state in _WAITING:
                gate = "after" if row.after else self._dispatcher.gate(task_seq(row.id))
                reason = " · ".join(part for part in (gate or "", row.reason) if part)
                out.append(msgspec.structs.replace(row, reason=reason))
            else:
                out.append(row)
        return out

    def _midnight_ms(self) -> int:
        now = datetime.fromtimestamp(self._clock.wall_ms() / 1000)
        return int(now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)


class _CpuMeter:
    """This process's CPU use since the last look, in percent of one core."""

    def __init__(self) -> None:
        self._wall = time.monotonic()
        self._cpu = time.process_time()
        self._last: float | None = None

    def percent(self) -> float | None:
        wall, cpu = time.monotonic(), time.process_time()
        if wall - self._wall >= 0.5:
            self._last = round((cpu - self._cpu) / (wall - self._wall) * 100)
            self._wall, self._cpu = wall, cpu
        return self._last
