"""Requests about queues, pools, instances, worker definitions and models."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from engine.clock import Clock
from engine.contract.definitions import PoolDefinition, QueueDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.records import (
    InstanceRow,
    ModelRow,
    PoolDetail,
    PoolRow,
    QueueDetail,
    QueueRow,
    WorkerDetail,
    WorkerRow,
)
from engine.contract.requests import fleet as requests
from engine.contract.requests.session import EngineWhy
from engine.contract.states import Durability
from engine.contract.why import Why
from engine.control.catalogue import Catalogue, digest
from engine.control.dispatcher import Dispatcher
from engine.control.fleet import Fleet
from engine.control.tables import Tables
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store import ops
from engine.store.journal import Journal


class FleetOperations:
    """Lists and changes of what the scheduler works with. A definition is stored first and announced then."""

    def __init__(
        self,
        catalogue: Catalogue,
        dispatcher: Dispatcher,
        fleet: Fleet,
        tables: Tables,
        journal: Journal,
        clock: Clock,
        remember: Callable[[], Awaitable[None]],
    ) -> None:
        self._catalogue = catalogue
        self._dispatcher = dispatcher
        self._fleet = fleet
        self._tables = tables
        self._journal = journal
        self._clock = clock
        self._remember = remember
        # One change at a time: two operators who change one definition must not undo each other's half.
        self._changing = asyncio.Lock()

    def register(self, table: RequestTable) -> None:
        table.register(requests.QueueList, self.queue_list)
        table.register(requests.QueueShow, self.queue_show)
        table.register(requests.QueueCreate, self.queue_create)
        table.register(requests.QueuePause, self.queue_pause)
        table.register(requests.QueueResume, self.queue_resume)
        table.register(requests.QueueExplain, self.queue_explain)
        table.register(requests.PoolList, self.pool_list)
        table.register(requests.PoolShow, self.pool_show)
        table.register(requests.PoolCreate, self.pool_create)
        table.register(requests.PoolScale, self.pool_scale)
        table.register(requests.PoolExplain, self.pool_explain)
        table.register(requests.InstanceList, self.instance_list)
        table.register(requests.WorkerList, self.worker_list)
        table.register(requests.WorkerShow, self.worker_show)
        table.register(requests.WorkerReload, self.worker_reload)
        table.register(requests.ModelList, self.model_list)
        table.register(requests.ModelExplain, self.model_explain)
        table.register(EngineWhy, self.engine_why)

    # -- queues ----------------------------------------------------------------------------------------------------

    async def queue_list(self, _: requests.QueueList, __: Caller) -> list[QueueRow]:
        return self._tables.queues()

    async def queue_show(self, request: requests.QueueShow, _: Caller) -> QueueDetail:
        return self._queue(self._catalogue.queue(request.name))

    async def queue_create(self, request: requests.QueueCreate, _: Caller) -> QueueDetail:
        queue = request.definition
        async with self._changing:
            self._catalogue.check_queue(queue)
            if queue.name in self._catalogue.queues:
                raise AiwmError(
                    Code.conflict,
                    f'queue "{queue.name}" exists already',
                    field="definition.name",
                    fix="choose another name",
                )
            return await self._put_queue(queue)

    async def queue_pause(self, request: requests.QueuePause, _: Caller) -> QueueDetail:
        return await self._set_paused(request.name, True)

    async def queue_resume(self, request: requests.QueueResume, _: Caller) -> QueueDetail:
        return await self._set_paused(request.name, False)

    async def _set_paused(self, name: str, paused: bool) -> QueueDetail:
        async with self._changing:
            queue = self._catalogue.queue(name)
            return await self._put_queue(msgspec.structs.replace(queue, paused=paused))

    async def queue_explain(self, request: requests.QueueExplain, _: Caller) -> Why:
        return self._dispatcher.why_queue(self._catalogue.queue(request.name).name)

    async def _put_queue(self, queue: QueueDefinition) -> QueueDetail:
        await self._store("queue", queue.name, queue)
        self._catalogue.put_queue(queue)
        self._fleet.announce_queue(queue)
        return self._queue(queue)

    def _queue(self, queue: QueueDefinition) -> QueueDetail:
        return QueueDetail(row=self._tables.queue(queue), definition=queue)

    # -- pools and instances -----------------------------------------------------------------------------------------

    async def pool_list(self, _: requests.PoolList, __: Caller) -> list[PoolRow]:
        return self._tables.pools()

    async def pool_show(self, request: requests.PoolShow, _: Caller) -> PoolDetail:
        return self._pool(self._catalogue.pool(request.name))

    async def pool_create(self, request: requests.PoolCreate, _: Caller) -> PoolDetail:
        pool = request.definition
        async with self._changing:
            if pool.name in self._catalogue.pools:
                raise AiwmError(
                    Code.conflict, f'pool "{pool.name}" exists already', field="definition.name", fix="aiwm pool scale"
                )
            return await self._put_pool(pool)

    async def pool_scale(self, request: requests.PoolScale, _: Caller) -> PoolDetail:
        async with self._changing:
            pool = self._catalogue.pool(request.name)
            low = pool.min_idle if request.min_idle is None else request.min_idle
            high = pool.max_total if request.max_total is None else request.max_total
            return await self._put_pool(msgspec.structs.replace(pool, min_idle=low, max_total=high))

    async def pool_explain(self, request: requests.PoolExplain, _: Caller) -> Why:
        return self._dispatcher.why_pool(self._catalogue.pool(request.name).name)

    async def instance_list(self, _: requests.InstanceList, __: Caller) -> list[InstanceRow]:
        return self._tables.instances()

    async def _put_pool(self, pool: PoolDefinition) -> PoolDetail:
        self._catalogue.check_pool(pool)
        await self._store("pool", pool.name, pool)
        self._catalogue.put_pool(pool)
        self._fleet.announce_pool(pool)
        return self._pool(pool)

    def _pool(self, pool: PoolDefinition) -> PoolDetail:
        return PoolDetail(row=self._tables.pool(pool), definition=pool)

    # -- worker definitions and models -------------------------------------------------------------------------------

    async def worker_list(self, _: requests.WorkerList, __: Caller) -> list[WorkerRow]:
        return self._tables.workers()

    async def worker_show(self, request: requests.WorkerShow, _: Caller) -> WorkerDetail:
        worker = self._catalogue.worker(request.name)
        row = next(row for row in self._tables.workers() if row.id == worker.name)
        return WorkerDetail(row=row, definition=worker)

    async def worker_reload(self, _: requests.WorkerReload, __: Caller) -> requests.Reloaded:
        async with self._changing:
            result = self._catalogue.load_workers()
            if not result.errors:
                # What is in force now is what a later start falls back on.
                await self._remember()
                for pool in self._catalogue.pools.values():
                    self._fleet.announce_pool(pool)
            return result

    async def model_list(self, _: requests.ModelList, __: Caller) -> list[ModelRow]:
        return self._tables.models()

    async def model_explain(self, request: requests.ModelExplain, _: Caller) -> Why:
        return self._dispatcher.why_model(request.name)

    async def engine_why(self, _: EngineWhy, __: Caller) -> Why:
        return self._dispatcher.why_engine()

    async def _store(self, kind: str, name: str, definition: msgspec.Struct) -> None:
        put = ops.PutDefinition(kind, name, msgspec.json.encode(definition), digest(definition), self._clock.wall_ms())
        await self._journal.write((put,), Durability.disk)
