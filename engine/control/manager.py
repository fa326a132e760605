"""The manager as a whole: builds the control room's parts around the dispatcher and starts and stops them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from engine.clock import Clock, local_offset_ms
from engine.config import Config
from engine.contract.definitions import RateLimits, WorkerDefinition
from engine.contract.errors import AiwmError
from engine.contract.records import ModelRow
from engine.contract.states import Durability, InstanceState, TaskState
from engine.control.attempts import Attempts
from engine.control.book import Book, Brief
from engine.control.budget import Budget
from engine.control.catalogue import Catalogue
from engine.control.contexts import Contexts
from engine.control.desk import Desk
from engine.control.dispatcher import Dispatcher
from engine.control.execution import Ended
from engine.control.failures import Failures
from engine.control.fleet import Fleet, ModelKeeper
from engine.control.instances import Instance, Instances
from engine.control.library import Library
from engine.control.loading import Loading
from engine.control.maintenance import Dispatching
from engine.control.numbering import Numbering
from engine.control.operations.instances import InstanceOperations
from engine.control.operations.maintenance import MaintenanceOperations
from engine.control.operations.performance import PerformanceOperations
from engine.control.performance import Performance
from engine.control.sampling import STEPS_MS
from engine.control.scaling import Scaling
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
from engine.ports import ContextFile, EventSink, Keys, Models, Texts, ToolBox
from engine.requests.table import RequestTable
from engine.scheduling.inputs import EngineLimits, Recover, StorageFailed, StorageRecovered
from engine.scheduling.scheduler import Scheduler, SchedulerConfig
from engine.store.commit import CommittedBatch
from engine.store.store import Store
from engine.tools.service import Rights
from engine.workers.registry import KindRegistry

_RELEASE_S = 5.0


_SAMPLED_OF_MODELS = ("tokens_per_s", "running", "waiting", "rss_bytes", "hits", "misses", "evictions")
"""What is sampled of each model process, by the names of its row."""


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
        self._read_file = read_file
        self._toolbox = toolbox
        self._store = store
        self._clock = clock
        self._events = events
        self._changed = changed
        self._texts = texts
        self._mode = mode
        self.commits = 0
        self._hurry = asyncio.Event()
        self.kinds = KindRegistry()
        self.catalogue = Catalogue()
        self.tally = Tally(store.counters(), clock)
        self.tempo = Tempo(clock)
        trends = Trends(lambda queue, since_ms: store.readers.samples(f"queue.{queue}.waiting", STEPS_MS[1], since_ms))
        self.waiters = Waiters()
        scheduling = config.scheduling
        scheduler = Scheduler(
            SchedulerConfig(
                window=scheduling.page_size,
                classes=scheduling.max_classes,
                max_crashes=scheduling.max_crashes,
                affinity_wait_ms=scheduling.affinity_wait_ms,
                day_offset_ms=local_offset_ms(clock.wall_ms()),
            )
        )
        self.dispatcher = Dispatcher(scheduler, clock)
        self.dispatcher.stored = self._stored_waiting
        self.contexts = Contexts(self.catalogue, store.readers)
        self.numbering = Numbering(store.journal, store.readers, clock)
        self.instances = Instances(
            home, self.kinds, clock.wall_ms, self.numbering, lambda: self._touch("instances", "pools", "retired")
        )
        self.budget = Budget(self.dispatcher, store.journal, store.readers, clock, self._limits)
        self.slots = Slots(self.dispatcher)
        book = Book(self._read_brief)
        failures = Failures(store.readers)
        self.supervision = Supervision(
            home,
            store,
            self.catalogue,
            self.kinds,
            models,
            self.budget,
            self.slots,
            keeper,
            clock,
            lambda: self.sessions,
            lambda identifier: self.instances.get(identifier) is not None,
            self._tools_as_supervisor,
            changed,
        )
        self.attempts = Attempts(
            self.dispatcher,
            store.journal,
            book,
            self.instances,
            models,
            self.budget,
            texts,
            failures,
            clock,
            max_result_bytes=config.queues.max_result_bytes,
            keep_prompt_chars=config.models.keep_prompt_chars,
            tools=self._tools_of,
            keys=keys,
            files=self._files_of,
            ended=self._task_ended,
            tempo=self.tempo,
            care=self.supervision.care,
        )
        Loading(self.dispatcher, store.journal, store.readers, clock)
        self.scaling = Scaling(store.journal, store.readers, self.instances, clock, self._waiting_for, self.tempo.out)
        self.fleet = Fleet(
            self.dispatcher, self.catalogue, self.instances, keeper, events, self.scaling, self._definitions_changed
        )
        self.library = Library(
            home, config, self.catalogue, self.kinds, store, clock, events, keeper.check, self.fleet.announce
        )
        self.dispatching = Dispatching(
            self.dispatcher, self.library.keeping, lambda: self._touch("machine", "queues", "pools", "needs")
        )
        self._max_instances = scheduling.max_total_instances
        self.sessions = Sessions(
            self.dispatcher,
            SessionStore(store.journal, store.readers, store.windows, clock),
            self.catalogue,
            self.kinds,
            self.instances,
            Talk(
                models,
                self.budget,
                self.instances,
                clock,
                max_result_bytes=config.queues.max_result_bytes,
                tools=self._tools_as,
                keys=keys,
                files=self._files_as,
            ),
            self.slots,
            keeper,
            clock,
            scheduling.max_total_instances,
            lambda: self.dispatching.mode(),
        )
        self.performance = Performance(store.journal, store.readers, store.windows, clock)
        self.tables = Tables(
            self.catalogue,
            self.instances,
            self.tally,
            self.tempo,
            trends,
            self.scaling,
            self.dispatcher,
            store.readers,
            model_rows,
            clock,
            home,
            mode,
            self.library.around,
        )
        self.tables.maintenance = lambda: self.dispatching.maintenance
        self.desk = Desk(
            store,
            clock,
            self.catalogue,
            self.kinds,
            book,
            self.tally,
            self.tempo,
            trends,
            self.dispatcher,
            self.attempts,
            self.waiters,
            failures,
            texts,
            max_payload_bytes=config.queues.max_payload_bytes,
            is_instance=lambda identifier: self.instances.get(identifier) is not None,
            chats=self.sessions.store,
            tokens_per_s=lambda: sum(row.tokens_per_s for row in model_rows()),
            series=lambda: self._series(model_rows()),
            with_reasons=self.tables.with_reasons,
            notes=self.supervision.notes.of,
            changed=changed,
        )
        self.tables.held = self.desk.operation_log.held
        self.submission = self.desk.submission
        store.journal.on_commit(self._committed)
        store.journal.on_failed(self._storage_failed)
        store.journal.on_recovered(self._storage_recovered)

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
        self.dispatcher.feed(EngineLimits(self._max_instances))
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

    def _series(self, models: list[ModelRow]) -> dict[str, float]:
        """What is sampled of pools and models."""
        found = {
            f"model.{row.id}.{field}": float(getattr(row, field)) for row in models for field in _SAMPLED_OF_MODELS
        }
        for pool in self.catalogue.pools:
            mine = self.instances.of_pool(pool)
            found[f"pool.{pool}.instances"] = float(len(mine))
            found[f"pool.{pool}.busy"] = float(sum(instance.state is InstanceState.busy for instance in mine))
            found[f"pool.{pool}.waiting"] = float(self._waiting_for(pool))
            found[f"pool.{pool}.out"] = self.tempo.out(pool)
        return found

    def _waiting_for(self, pool: str) -> int:
        """Tasks that wait for a pool, among others perhaps."""
        queues = [queue.name for queue in self.catalogue.queues.values() if pool in queue.pools]
        return sum(self.tally.count(queue, TaskState.pending) for queue in queues)

    def _stored_waiting(self, queue: str | None) -> int:
        """How many tasks of a queue (None: of all) wait, on disk and in memory."""
        return self.tally.total(*WAITING) if queue is None else self.tally.waiting(queue)

    def _tools_of(self, seq: int, instance: Instance) -> ToolBox | None:
        """The tools of a task that starts on an instance."""
        rights = self.contexts.rights(seq, instance.definition, instance.pool)
        return None if rights is None or self._toolbox is None else self._toolbox(rights)

    async def _files_of(self, seq: int, instance: Instance) -> tuple[ContextFile, ...]:
        """The file contexts of a task that starts on an instance."""
        rights = self.contexts.rights(seq, instance.definition, instance.pool)
        return () if rights is None else await self._files(rights, instance.definition.files)

    async def _files_as(
        self, definition: WorkerDefinition, principal: str, files: tuple[str, ...]
    ) -> tuple[ContextFile, ...]:
        """The file contexts of a chat."""
        return await self._files(self.contexts.rights_as(definition, principal), files)

    async def _files(self, rights: Rights, files: tuple[str, ...]) -> tuple[ContextFile, ...]:
        if self._read_file is None:
            return ()
        return tuple([ContextFile(name=name, text=await self._read_file(rights, name)) for name in files])

    def _tools_as(self, definition: WorkerDefinition, principal: str) -> ToolBox | None:
        """The tools of a definition that works outside of any task: in a chat, or as a supervisor of others."""
        if self._toolbox is None or not definition.tools_allow:
            return None
        return self._toolbox(self.contexts.rights_as(definition, principal))

    def _tools_as_supervisor(self, definition: WorkerDefinition) -> ToolBox | None:
        """The tools of a definition that reviews the work of others: its own, whoever's work it is."""
        return self._tools_as(definition, f"supervisor:{definition.name}")

    def _definitions_changed(self) -> None:
        self.budget.look()
        self.sessions.look()
        self._touch("pools", "instances", "queues", "workers", "templates", "sources")

    def _limits(self, definition: str) -> RateLimits:
        worker = self.catalogue.workers.get(definition)
        return RateLimits() if worker is None else worker.limits

    def _read_brief(self, seq: int) -> Brief | None:
        row = self._store.readers.task(seq)
        payload = self._store.readers.payload(seq)
        if row is None or payload is None:
            return None
        return Brief(row.queue, payload, Durability(row.durability), row.deadline_ms, row.template, row.supervisor)

    def _task_ended(self, seq: int, attempt: int, ended: Ended) -> None:
        self.waiters.ended(seq, attempt, ended)
        self.supervision.reviews.ended(seq)

    def _committed(self, batch: CommittedBatch) -> None:
        self.commits += 1
        self.tally.apply(batch.changed)
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
