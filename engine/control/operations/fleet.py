"""Requests about queues, pools and models. A definition is stored first and announced then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from engine.contract.definitions import PoolDefinition, QueueDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.records import PoolDetail, PoolRow, QueueDetail, QueueRow
from engine.contract.records.definitions import ScaleStep
from engine.contract.requests import definitions as changes
from engine.contract.requests import fleet as requests
from engine.contract.requests.session import EngineWhy
from engine.contract.why import Why
from engine.control.catalogue import Catalogue
from engine.control.definer import Definer
from engine.control.definitions import Kind, stable_id
from engine.control.dispatcher import Dispatcher
from engine.control.emptying import Emptying
from engine.control.offering import users
from engine.control.scaling import Scaling
from engine.control.tables import Tables
from engine.requests.caller import Caller
from engine.requests.table import RequestTable

_MAX_HISTORY = 1_000


class FleetOperations:
    """Lists and changes of what the scheduler works with. `check_model` raises for a model that is not here."""

    def __init__(
        self,
        catalogue: Catalogue,
        definer: Definer,
        dispatcher: Dispatcher,
        tables: Tables,
        scaling: Scaling,
        emptying: Emptying,
        check_model: Callable[[str], None],
    ) -> None:
        self._catalogue = catalogue
        self._definer = definer
        self._dispatcher = dispatcher
        self._tables = tables
        self._scaling = scaling
        self._emptying = emptying
        self._check_model = check_model

    def register(self, table: RequestTable) -> None:
        table.register(requests.QueueList, self.queue_list)
        table.register(requests.QueueShow, self.queue_show)
        table.register(requests.QueueCreate, self.queue_create)
        table.register(changes.QueueUpdate, self.queue_update)
        table.register(requests.QueuePause, self.queue_pause)
        table.register(requests.QueueResume, self.queue_resume)
        table.register(changes.QueueDrain, self.queue_drain)
        table.register(changes.QueueDelete, self.queue_delete)
        table.register(requests.QueueExplain, self.queue_explain)
        table.register(requests.PoolList, self.pool_list)
        table.register(requests.PoolShow, self.pool_show)
        table.register(requests.PoolCreate, self.pool_create)
        table.register(changes.PoolUpdate, self.pool_update)
        table.register(requests.PoolScale, self.pool_scale)
        table.register(changes.PoolDelete, self.pool_delete)
        table.register(changes.PoolHistory, self.pool_history)
        table.register(requests.PoolExplain, self.pool_explain)
        table.register(requests.ModelExplain, self.model_explain)
        table.register(EngineWhy, self.engine_why)

    # -- queues ----------------------------------------------------------------------------------------------------

    async def queue_list(self, _: requests.QueueList, __: Caller) -> list[QueueRow]:
        return self._tables.queues()

    async def queue_show(self, request: requests.QueueShow, _: Caller) -> QueueDetail:
        return self._queue(request.name)

    async def queue_create(self, request: requests.QueueCreate, _: Caller) -> QueueDetail:
        await self._definer.create(request.definition)
        return self._queue(request.definition.name)

    async def queue_update(self, request: changes.QueueUpdate, _: Caller) -> QueueDetail:
        await self._definer.update(Kind.queue, request.name, request.changes, request.clear)
        return self._queue(request.name)

    async def queue_pause(self, request: requests.QueuePause, _: Caller) -> QueueDetail:
        return await self._set_queue(request.name, paused=True, pause_reason=request.reason)

    async def queue_resume(self, request: requests.QueueResume, _: Caller) -> QueueDetail:
        return await self._set_queue(request.name, paused=False, draining=False, pause_reason="")

    async def queue_drain(self, request: changes.QueueDrain, _: Caller) -> QueueDetail:
        return await self._set_queue(request.name, draining=True, pause_reason=request.reason)

    async def queue_delete(self, request: changes.QueueDelete, caller: Caller) -> changes.Deleted:
        queue = self._catalogue.queue(request.name)
        with self._catalogue.closing((queue.name,)):
            return await self._queue_delete(queue, request, caller)

    async def _queue_delete(
        self, queue: QueueDefinition, request: changes.QueueDelete, caller: Caller
    ) -> changes.Deleted:
        name = queue.name
        self._definer.refuse_if_named(Kind.queue, name)
        if not request.cancel_tasks:
            self._refuse_if_held(name)
        # From here on nothing new comes, and what was on its way when this was stored is counted.
        await self._set_queue(name, draining=True, paused=True, pause_reason="it is being deleted")
        cancelled = stopped = 0
        if request.cancel_tasks:
            cancelled, stopped = await self._emptying.empty(name, caller)
        else:
            try:
                self._refuse_if_held(name)
            except AiwmError:
                await self._definer.amend(Kind.queue, name, lambda _: queue)
                raise
        await self._definer.delete(Kind.queue, name)
        return changes.Deleted(kind="queue", name=name, cancelled=cancelled, stopped=stopped)

    def _refuse_if_held(self, name: str) -> None:
        if self._emptying.held(name):
            raise AiwmError(
                Code.conflict,
                f'queue "{name}" has {self._emptying.told(name)}',
                field="name",
                fix=f"wait for them (aiwm queue drain {name}), or cancel them all with --cancel-tasks",
            )

    async def queue_explain(self, request: requests.QueueExplain, _: Caller) -> Why:
        return self._dispatcher.why_queue(self._catalogue.queue(request.name).name)

    async def _set_queue(self, name: str, **fields: Any) -> QueueDetail:
        await self._definer.amend(Kind.queue, name, lambda queue: msgspec.structs.replace(queue, **fields))
        return self._queue(name)

    def _queue(self, name: str) -> QueueDetail:
        queue: QueueDefinition = self._catalogue.queue(name)
        return QueueDetail(row=self._tables.queue(queue), definition=queue, uuid=stable_id(Kind.queue, queue.name))

    # -- pools -------------------------------------------------------------------------------------------------------

    async def pool_list(self, _: requests.PoolList, __: Caller) -> list[PoolRow]:
        return self._tables.pools()

    async def pool_show(self, request: requests.PoolShow, _: Caller) -> PoolDetail:
        return self._pool(request.name)

    async def pool_create(self, request: requests.PoolCreate, _: Caller) -> PoolDetail:
        await self._definer.create(request.definition)
        return self._pool(request.definition.name)

    async def pool_update(self, request: changes.PoolUpdate, _: Caller) -> PoolDetail:
        await self._definer.update(Kind.pool, request.name, request.changes, request.clear)
        return self._pool(request.name)

    async def pool_scale(self, request: requests.PoolScale, _: Caller) -> PoolDetail:
        said = {"min_idle": request.min_idle, "max_total": request.max_total}
        fields = {name: value for name, value in said.items() if value is not None}
        await self._definer.amend(
            Kind.pool, request.name, lambda pool: msgspec.structs.replace(pool, **fields), "definition."
        )
        return self._pool(request.name)

    async def pool_delete(self, request: changes.PoolDelete, _: Caller) -> changes.Deleted:
        name = self._catalogue.pool(request.name).name
        await self._definer.delete(Kind.pool, name)
        return changes.Deleted(kind="pool", name=name)

    async def pool_history(self, request: changes.PoolHistory, _: Caller) -> list[ScaleStep]:
        if not 1 <= request.limit <= _MAX_HISTORY:
            raise AiwmError(
                Code.bad_request, f"limit is {request.limit}, but must lie between 1 and {_MAX_HISTORY}", field="limit"
            )
        steps = self._scaling.history(self._catalogue.pool(request.name).name, request.limit)
        return self._scaling.effects(steps)

    async def pool_explain(self, request: requests.PoolExplain, _: Caller) -> Why:
        return self._dispatcher.why_pool(self._catalogue.pool(request.name).name)

    def _pool(self, name: str) -> PoolDetail:
        pool: PoolDefinition = self._catalogue.pool(name)
        return PoolDetail(row=self._tables.pool(pool), definition=pool, uuid=stable_id(Kind.pool, pool.name))

    # -- models and the engine ---------------------------------------------------------------------------------------

    async def model_explain(self, request: requests.ModelExplain, _: Caller) -> Why:
        if not users(request.name, self._catalogue.now)[0]:
            self._check_model(request.name)
        return self._dispatcher.why_model(request.name)

    async def engine_why(self, _: EngineWhy, __: Caller) -> Why:
        return self._dispatcher.why_engine()
