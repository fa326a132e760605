"""The manager as a whole: builds the control room's parts around the dispatcher and starts and stops them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from engine.clock import Clock, local_offset_ms
from engine.config import Config
from engine.contract.definitions import RateLimits
from engine.contract.errors import AiwmError
from engine.contract.records import ModelRow
from engine.contract.states import TaskState
from engine.control.attempts import Attempts
from engine.control.book import Book, stored_brief
from engine.control.budget import Budget
from engine.control.catalogue import Catalogue
from engine.control.contexts import Contexts
from engine.control.desk import Desk
from engine.control.dispatcher import Dispatcher
from engine.control.execution import Ended
from engine.control.failures import Failures
from engine.control.fleet import Fleet, ModelKeeper
from engine.control.instances import Instances
from engine.control.library import Library
from engine.control.loading import Loading
from engine.control.maintenance import Dispatching
from engine.control.numbering import Numbering
from engine.control.operations.instances import InstanceOperations
from engine.control.operations.maintenance import MaintenanceOperations
from engine.control.operations.performance import PerformanceOperations
from engine.control.performance import Performance
from engine.control.provision import Provision
from engine.control.sampling import STEPS_MS
from engine.control.scaling import Scaling
from engine.control.series import Series
from engine.control.sessions.chat import Talk
from engine.control.sessions.sessions import Sessions
from engine.control.sessions.store import SessionStore
from engine.control.slots import Slots
from engine.control.supervision.room import Supervision
from engine.control.tables import Tables
from engine.control.tally import WAITING, Tally
from engine.control.tempo import Tempo
from engine.control.trends import Trends
from engine.control.waiters import Waiters
from engine.ports import EventSink, Keys, Models, Texts, ToolBox
from engine.requests.table import RequestTable
from engine.scheduling.inputs import EngineLimits, Recover, StorageFailed, StorageRecovered
from engine.scheduling.scheduler import Scheduler, SchedulerConfig
from engine.store.commit import CommittedBatch
from engine.store.store import Store
from engine.tools.service import Rights
from engine.workers.registry import KindRegistry

_RELEASE_S = 5.0


class Manager:
    """Owns everything of control. `changed(table)` tells the views which tables may look different."""

    def __init__(
        self,
        home: Path,
        config: Config,
        store: Store,
        clock: Clock,
        events: EventSink,
        models: Models,
        keeper: ModelKeeper,
        texts: Texts,
        model_rows: Callable[[], list[ModelRow]],
        changed: Callable[[str], None],
        mode: Callable[[], str],
        toolbox: Callable[[Rights], ToolBox] | None = None,
        keys: Keys | None = None,
        read_file: Callable[[Rights, str], Awaitable[str]] | None = None,
    ) -> None:
        self._home = home
        self._config = config
        self._store = store
        self._clock = clock
        self._events = events
        self._models = models
        self._keeper = keeper
        self._texts = texts
        self._keys = keys
        self._changed = changed
        self.commits = 0
        self._hurry = asyncio.Event()
        journal, readers = store.journal, store.readers
        self.kinds = KindRegistry()
        self.catalogue = Catalogue()
        self.tally = Tally(store.counters(), clock)
        self.tempo = Tempo(clock)
        self._trends = Trends(lambda queue, since_ms: readers.samples(f"queue.{queue}.waiting", STEPS_MS[1], since_ms))
        self.waiters = Waiters()
        self._book = Book(partial(stored_brief, readers))
        self._failures = Failures(readers)
        self.dispatcher = Dispatcher(_scheduler(config, clock), clock)
        self.dispatcher.stored = self._stored_waiting
        self.contexts = Contexts(self.catalogue, readers)
        self._provision = Provision(self.contexts, toolbox, read_file)
        self.numbering = Numbering(journal, readers, clock)
        self.instances = Instances(
            home, self.kinds, clock.wall_ms, self.numbering, lambda: self._touch("instances", "pools", "retired")
        )
        self._series = Series(self.catalogue, self.instances, self.tally, self.tempo, model_rows)
        self.budget = Budget(self.dispatcher, journal, readers, clock, self._limits)
        self.slots = Slots(self.dispatcher)
        self.supervision = self._supervision()
        self.attempts = self._attempts()
        Loading(self.dispatcher, journal, readers, clock)
        self.scaling = Scaling(journal, readers, self.instances, clock, self._series.waiting_for, self.tempo.out)
        self.fleet = Fleet(
            self.dispatcher, self.catalogue, self.instances, keeper, events, self.scaling, self._definitions_changed
        )
        self.library = Library(
            home, config, self.catalogue, self.kinds, store, clock, events, keeper.check, self.fleet.announce
        )
        self.dispatching = Dispatching(
            self.dispatcher, self.library.keeping, lambda: self._touch("machine", "queues", "pools", "needs")
        )
        self.sessions = self._sessions()
        self.performance = Performance(journal, readers, store.windows, clock)
        self.tables = self._tables(model_rows, mode)
        self.desk = self._desk()
        self.tables.held = self.desk.operation_log.held
        self.submission = self.desk.submission
        journal.on_commit(self._committed)
        journal.on_failed(self._storage_failed)
        journal.on_recovered(self._storage_recovered)

    def _supervision(self) -> Supervision:
        return Supervision(
            self._home,
            self._store,
            self.catalogue,
            self.kinds,
            self._models,
            self.budget,
            self.slots,
            self._keeper,
            self._clock,
            lambda: self.sessions,
            self._is_instance,
            self._provision.tools_as_supervisor,
            self._changed,
        )

    def _attempts(self) -> Attempts:
        return Attempts(
            self.dispatcher,
            self._store.journal,
            self._book,
            self.instances,
            self._models,
            self.budget,
            self._texts,
            self._failures,
            self._clock,
            max_result_bytes=self._config.queues.max_result_bytes,
            keep_prompt_chars=self._config.models.keep_prompt_chars,
            tools=self._provision.tools_of,
            keys=self._keys,
            files=self._provision.files_of,
            ended=self._task_ended,
            tempo=self.tempo,
            care=self.supervision.care,
        )

    def _sessions(self) -> Sessions:
        store = self._store
        talk = Talk(
            self._models,
            self.budget,
            self.instances,
            self._clock,
            max_result_bytes=self._config.queues.max_result_bytes,
            tools=self._provision.tools_as,
            keys=self._keys,
            files=self._provision.files_as,
        )
        return Sessions(
            self.dispatcher,
            SessionStore(store.journal, store.readers, store.windows, self._clock),
            self.catalogue,
            self.kinds,
            self.instances,
            talk,
            self.slots,
            self._keeper,
            self._clock,
            self._config.scheduling.max_total_instances,
            lambda: self.dispatching.mode(),
        )

    def _tables(self, model_rows: Callable[[], list[ModelRow]], mode: Callable[[], str]) -> Tables:
        tables = Tables(
            self.catalogue,
            self.instances,
            self.tally,
            self.tempo,
            self._trends,
            self.scaling,
            self.dispatcher,
            self._store.readers,
            model_rows,
            self._clock,
            self._home,
            mode,
            self.library.around,
        )
        tables.maintenance = lambda: self.dispatching.maintenance
        return tables

    def _desk(self) -> Desk:
        return Desk(
            self._store,
            self._clock,
            self.catalogue,
            self.kinds,
            self._book,
            self.tally,
            self.tempo,
            self._trends,
            self.dispatcher,
            self.attempts,
            self.waiters,
            self._failures,
            self._texts,
            max_payload_bytes=self._config.queues.max_payload_bytes,
            is_instance=self._is_instance,
            chats=self.sessions.store,
            tokens_per_s=self._series.tokens_per_s,
            series=self._series.values,
            with_reasons=self.tables.with_reasons,
            notes=self.supervision.notes.of,
            changed=self._changed,
        )

    def register(self, table: RequestTable) -> None:
        """Answer the control room's requests."""
        self.desk.register(table)
        InstanceOperations(self.sessions, self.tables, self._clock).register(table)
        PerformanceOperations(
            self.performance,
            self.sessions.store,
            self._store.windows,
            self.catalogue,
            self.instances,
            self.numbering,
            self.dispatcher,
            self.budget,
            self._clock,
        ).register(table)
        self.supervision.register(table)
        self.library.register(table, self.dispatcher, self.tables, self.scaling, self.tally)
        MaintenanceOperations(
            self.dispatching,
            self.instances,
            self.attempts.idle,
            lambda: self.tally.total(*WAITING),
            self._clock.wall_ms,
        ).register(table)

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self, *, dispatch: bool) -> None:
        """Load the definitions, tell the scheduler what there is, and let it look for what the last engine left."""
        if not dispatch:
            self.enable(False, "no command waits for work")
        self.dispatching.begin()
        self.dispatcher.feed(EngineLimits(self._config.scheduling.max_total_instances))
        await self.library.begin()
        self.budget.restore()
        await self.sessions.restore()
        self.dispatcher.feed(Recover())
        self.desk.start()
        if dispatch:
            self.supervision.reviews.start()

    def enable(self, enabled: bool, reason: str = "") -> None:
        """Let tasks start, or let none start."""
        self.dispatching.enable(enabled, reason)
        if enabled:
            self.supervision.reviews.start()

    async def drain(self) -> None:
        """Start nothing more and wait for what runs."""
        self.enable(False, "the engine is stopping")
        waits = [asyncio.ensure_future(event.wait()) for event in (self.attempts.idle, self._hurry)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def hurry(self) -> None:
        """End a drain now: what runs is given back."""
        self._hurry.set()

    async def stop(self) -> None:
        """Give back what runs, wait until that is on disk, and let the instances go."""
        self.enable(False, "the engine is stopping")
        await self.supervision.reviews.close()
        await self.sessions.close()
        self.attempts.release_all()
        try:
            # Without storage their give-back cannot be written; the next start takes them back anyway.
            async with asyncio.timeout(_RELEASE_S):
                await self.attempts.idle.wait()
        except TimeoutError:
            pass
        self.desk.close()
        self.dispatcher.close()
        self.instances.close()

    @property
    def busy(self) -> bool:
        """Whether there is work: running, or waiting and able to run by itself soon."""
        return (
            bool(len(self.attempts))
            or self.supervision.reviews.busy
            or self.tally.total(TaskState.pending, TaskState.retrying) > 0
        )

    # -- inside ------------------------------------------------------------------------------------------------------

    def _is_instance(self, identifier: str) -> bool:
        return self.instances.get(identifier) is not None

    def _stored_waiting(self, queue: str | None) -> int:
        """How many tasks of a queue (None: of all) wait, on disk and in memory."""
        return self.tally.total(*WAITING) if queue is None else self.tally.waiting(queue)

    def _definitions_changed(self) -> None:
        self.budget.look()
        self.sessions.look()
        self._touch("pools", "instances", "queues", "workers", "templates", "sources")

    def _limits(self, definition: str) -> RateLimits:
        worker = self.catalogue.workers.get(definition)
        return RateLimits() if worker is None else worker.limits

    def _task_ended(self, seq: int, attempt: int, ended: Ended) -> None:
        self.waiters.ended(seq, attempt, ended)
        self.supervision.reviews.ended(seq)

    def _committed(self, batch: CommittedBatch) -> None:
        self.commits += 1
        self.tally.apply(batch.changed)
        self.tables.failed_alike.committed(batch.changed)
        self.desk.committed(batch)
        if batch.changed:
            self._touch("machine", "queues", "pools", "instances", "needs")

    def _storage_failed(self, _: AiwmError) -> None:
        self.tables.storage_failed_ms = self._clock.wall_ms()
        self.desk.failures.forget()
        self.dispatcher.feed(StorageFailed())
        self._touch("machine", "needs")

    def _storage_recovered(self) -> None:
        self.tables.storage_failed_ms = None
        self.dispatcher.feed(StorageRecovered())
        self.attempts.write_again()
        self.desk.storage_recovered()
        self._events.emit("warn", "storage.recovered", "storage", "the database takes writes again")
        self._touch("machine", "needs")

    def _touch(self, *tables: str) -> None:
        for table in tables:
            self._changed(table)


def _scheduler(config: Config, clock: Clock) -> Scheduler:
    scheduling = config.scheduling
    return Scheduler(
        SchedulerConfig(
            window=scheduling.page_size,
            classes=scheduling.max_classes,
            max_crashes=scheduling.max_crashes,
            affinity_wait_ms=scheduling.affinity_wait_ms,
            day_offset_ms=local_offset_ms(clock.wall_ms()),
        )
    )
