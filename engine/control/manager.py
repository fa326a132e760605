"""The manager as a whole: builds the control room's parts around the dispatcher and starts and stops them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.clock import Clock
from engine.config import Config
from engine.contract.definitions import PoolDefinition, QueueDefinition, WorkerDefinition
from engine.contract.errors import AiwmError
from engine.contract.records import ModelRow
from engine.contract.states import Durability, TaskState
from engine.control.attempts import Attempts
from engine.control.book import Book, Brief
from engine.control.catalogue import SHIPPED_POOLS, SHIPPED_QUEUES, Catalogue, digest
from engine.control.dispatcher import Dispatcher
from engine.control.fleet import Fleet, ModelKeeper
from engine.control.instances import Instances
from engine.control.loading import Loading
from engine.control.operations.fleet import FleetOperations
from engine.control.operations.tasks import TaskOperations
from engine.control.submission import Submission
from engine.control.tables import Tables
from engine.control.tally import Tally
from engine.control.waiters import Waiters
from engine.ports import EventSink, Models, Texts
from engine.requests.table import RequestTable
from engine.scheduling.inputs import DispatchEnabled, Recover, StorageFailed, StorageRecovered
from engine.scheduling.scheduler import Scheduler, SchedulerConfig
from engine.store import ops
from engine.store.commit import CommittedBatch
from engine.store.store import Store
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
    ) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._changed = changed
        self._texts = texts
        self._mode = mode
        self.commits = 0
        self._hurry = asyncio.Event()
        self.kinds = KindRegistry()
        self.catalogue = Catalogue(home, self.kinds)
        self.tally = Tally(store.counters(), clock)
        self.waiters = Waiters()
        scheduling = config.scheduling
        scheduler = Scheduler(
            SchedulerConfig(
                window=scheduling.page_size, classes=scheduling.max_classes, max_crashes=scheduling.max_crashes
            )
        )
        self.dispatcher = Dispatcher(scheduler, clock)
        self.instances = Instances(home, self.kinds, clock.wall_ms)
        book = Book(self._read_brief)
        self.attempts = Attempts(
            self.dispatcher,
            store.journal,
            book,
            self.instances,
            models,
            texts,
            clock,
            max_result_bytes=config.queues.max_result_bytes,
            ended=self.waiters.ended,
        )
        Loading(self.dispatcher, store.journal, store.readers, clock)
        self.fleet = Fleet(
            self.dispatcher, self.catalogue, self.instances, keeper, events, lambda: self._touch("pools", "instances")
        )
        self.submission = Submission(
            self.catalogue,
            self.kinds,
            store.journal,
            store.readers,
            book,
            self.tally,
            self.dispatcher,
            clock,
            max_payload_bytes=config.queues.max_payload_bytes,
        )
        self.tables = Tables(
            self.catalogue, self.instances, self.tally, self.dispatcher, store.readers, model_rows, clock, home, mode
        )
        store.journal.on_commit(self._committed)
        store.journal.on_failed(self._storage_failed)
        store.journal.on_recovered(self._storage_recovered)

    def register(self, table: RequestTable) -> None:
        """Answer the control room's requests."""
        TaskOperations(
            self.submission,
            self.waiters,
            self.attempts,
            self.dispatcher,
            self._store.journal,
            self._store.readers,
            self._store.windows,
            self.catalogue,
            self._clock,
            self.tables.with_reasons,
            self._texts,
        ).register(table)
        FleetOperations(
            self.catalogue,
            self.dispatcher,
            self.fleet,
            self.tables,
            self._store.journal,
            self._clock,
            self.store_definitions,
        ).register(table)

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self, *, dispatch: bool) -> None:
        """Load the definitions, tell the scheduler what there is, and let it look for what the last engine left."""
        await self._load_definitions()
        if not dispatch:
            self.dispatcher.feed(DispatchEnabled(False, "no command waits for work"))
        self.fleet.announce_all()
        self.dispatcher.feed(Recover())

    def enable(self, enabled: bool, reason: str = "") -> None:
        """Let tasks start, or let none start."""
        self.dispatcher.feed(DispatchEnabled(enabled, reason))
        self._touch("machine", "queues", "pools", "needs")

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
        self.attempts.release_all()
        try:
            # Without storage their give-back cannot be written; the next start takes them back anyway.
            async with asyncio.timeout(_RELEASE_S):
                await self.attempts.idle.wait()
        except TimeoutError:
            pass
        self.dispatcher.close()
        self.instances.close()

    @property
    def busy(self) -> bool:
        """Whether there is work: running, or waiting and able to run by itself soon."""
        return bool(len(self.attempts)) or self.tally.total(TaskState.pending, TaskState.retrying) > 0

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _load_definitions(self) -> None:
        """Worker definitions from their file; if that is broken, the set that was in force last, and an alarm."""
        readers = self._store.readers
        for stored in readers.definitions("pool"):
            self.catalogue.put_pool(msgspec.json.decode(stored.json, type=PoolDefinition))
        for stored in readers.definitions("queue"):
            self.catalogue.put_queue(msgspec.json.decode(stored.json, type=QueueDefinition))
        fresh = not self.catalogue.pools and not self.catalogue.queues
        if fresh:
            for pool in SHIPPED_POOLS:
                self.catalogue.put_pool(pool)
            for queue in SHIPPED_QUEUES:
                self.catalogue.put_queue(queue)
        if not self.catalogue.file.exists():
            self.catalogue.write_shipped()
        loaded = self.catalogue.load_workers()
        if loaded.errors:
            last = {
                row.name: msgspec.json.decode(row.json, type=WorkerDefinition) for row in readers.definitions("worker")
            }
            if not last:
                raise AiwmError.of(loaded.errors[0])
            self.catalogue.workers = last
            for error in loaded.errors:
                self._events.emit("error", "worker.refused", self.catalogue.file.name, error.message)
        await self.store_definitions(everything=fresh)

    async def store_definitions(self, *, everything: bool = False) -> None:
        """Remember the worker definitions in force (and, in a new home, pools and queues), to fall back on."""
        now = self._clock.wall_ms()
        named: list[tuple[str, str, msgspec.Struct]] = [
            ("worker", name, it) for name, it in self.catalogue.workers.items()
        ]
        if everything:
            named += [("pool", name, it) for name, it in self.catalogue.pools.items()]
            named += [("queue", name, it) for name, it in self.catalogue.queues.items()]
        known = {row.name: row.digest for row in self._store.readers.definitions("worker")}
        entry: list[ops.Op] = [
            ops.PutDefinition(kind, name, msgspec.json.encode(it), digest(it), now)
            for kind, name, it in named
            if kind != "worker" or known.get(name) != digest(it)
        ]
        entry += [ops.DeleteDefinition("worker", name) for name in known if name not in self.catalogue.workers]
        if entry:
            await self._store.journal.write(entry, Durability.disk)

    def _read_brief(self, seq: int) -> Brief | None:
        row = self._store.readers.task(seq)
        payload = self._store.readers.payload(seq)
        if row is None or payload is None:
            return None
        return Brief(row.queue, payload, Durability(row.durability), row.deadline_ms)

    def _committed(self, batch: CommittedBatch) -> None:
        self.commits += 1
        self.tally.apply((change.queue, change.before, change.after) for change in batch.changed)
        if batch.changed:
            self._touch("machine", "queues", "pools", "instances", "needs")

    def _storage_failed(self, _: AiwmError) -> None:
        self.tables.storage_failed_ms = self._clock.wall_ms()
        self.dispatcher.feed(StorageFailed())
        self._touch("machine", "needs")

    def _storage_recovered(self) -> None:
        self.tables.storage_failed_ms = None
        self.dispatcher.feed(StorageRecovered())
        self.attempts.write_again()
        self._events.emit("warn", "storage.recovered", "storage", "the database takes writes again")
        self._touch("machine", "needs")

    def _touch(self, *tables: str) -> None:
        for table in tables:
            self._changed(table)
