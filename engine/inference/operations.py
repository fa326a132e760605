"""Requests about model processes and their memory."""

from __future__ import annotations

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.records import DeviceRow, ModelRow
from engine.contract.requests import memory as requests
from engine.contract.requests.metrics import Metrics, MetricsRead
from engine.contract.suggest import nearest
from engine.inference.keeping import ALWAYS
from engine.inference.loading import Loading, plan_of
from engine.inference.local import LocalModel
from engine.inference.metrics import metrics_of
from engine.inference.served import Managed, Process
from engine.inference.service import InferenceService
from engine.inference.supervisor import ModelProcess
from engine.requests.caller import Caller
from engine.requests.table import RequestTable

_MOST_CRASHES = 100


class ModelOperations:
    """What is running, and what one may do to it."""

    def __init__(self, models: InferenceService, clock: Clock) -> None:
        self._models = models
        self._clock = clock
        self._loading = Loading(models)

    def register(self, table: RequestTable) -> None:
        table.register(requests.DeviceList, self.devices)
        table.register(requests.ModelPlan, self.plan)
        table.register(requests.ModelLoad, self.load)
        table.register(requests.ModelUnload, self.unload)
        table.register(requests.ModelKeep, self.keep)
        table.register(requests.ModelRestart, self.restart)
        table.register(requests.ModelCrashes, self.crashes)
        table.register(requests.ModelStatus, self.status)
        table.register(MetricsRead, self.metrics)

    async def devices(self, _: requests.DeviceList, __: Caller) -> list[DeviceRow]:
        await self._models.ledger.strangers(self._models.situation.pids())
        return self._models.devices()

    async def plan(self, request: requests.ModelPlan, _: Caller) -> requests.MemoryPlan:
        model = self._model(request.name)
        if request.context < 0:
            raise AiwmError(
                Code.bad_request, f"context is {request.context}", field="context", fix="a number of tokens"
            )
        plan = await self._models.situation.plan(model, request.context)
        return plan_of(plan, model, self._models, self._clock.wall_ms(), request.context)

    async def load(self, request: requests.ModelLoad, _: Caller) -> requests.ModelLoaded:
        return await self._loading.load(self._model(request.name), request)

    async def unload(self, request: requests.ModelUnload, caller: Caller) -> requests.ModelStopped:
        model, processes = self._found(request.name)
        _as_defined(model)
        if request.hold:
            self._models.keeping.hold(model, f"stopped by {caller.principal}: {request.hold[:200]}")
        return _told_to_go(model, processes, now=request.now)

    async def keep(self, request: requests.ModelKeep, _: Caller) -> requests.ModelKept:
        model = self._model(request.name)
        if request.keep_ms < ALWAYS:
            raise AiwmError(
                Code.bad_request,
                f"keep_ms is {request.keep_ms}",
                field="keep_ms",
                fix="a time, -1 (always) or 0 (no longer)",
            )
        lasting = self._clock.wall_ms() + request.keep_ms if request.keep_ms > 0 else ALWAYS
        self._models.keeping.keep(model, lasting if request.keep_ms else None)
        until = model.keep_ms
        return requests.ModelKept(
            model=request.name, until_ms=0 if until is None else None if until == ALWAYS else until
        )

    async def restart(self, request: requests.ModelRestart, _: Caller) -> requests.ModelStopped:
        model, processes = self._found(request.name)
        _as_defined(model)
        self._models.keeping.hold(model, "")
        for process in processes:
            if isinstance(process, ModelProcess):
                process.forgive()
        told = _told_to_go(model, processes, now=request.now)
        self._models.start_again(model, processes)
        return told

    async def crashes(self, request: requests.ModelCrashes, _: Caller) -> list[requests.Crash]:
        if not 1 <= request.limit <= _MOST_CRASHES:
            raise AiwmError(
                Code.bad_request, f"limit is {request.limit}, but must lie between 1 and {_MOST_CRASHES}", field="limit"
            )
        found = self._models.crashes(request.name, request.limit)
        if not found:
            self._found(request.name)  # says if there is no such model
        return found

    async def status(self, request: requests.ModelStatus, _: Caller) -> list[ModelRow]:
        rows = [row for row in self._models.rows() if request.name in (row.model, row.id)]
        if not rows:
            self._models.check(request.name)
        return rows

    async def metrics(self, _: MetricsRead, __: Caller) -> Metrics:
        return metrics_of(self._models.rows(), self._models.figures())

    # -- inside --------------------------------------------------------------------------------------------------------

    def _model(self, name: str) -> Managed:
        return self._models.local(name)

    def _found(self, name: str) -> tuple[Managed, list[Process]]:
        """A model by its name, or one process of it by its id. Raises model_not_found."""
        for model in self._models.managed():
            for process in model.processes:
                if process.id == name:
                    return model, [process]
        try:
            model = self._models.local(name)
        except AiwmError as error:
            ids = [process.id for model in self._models.managed() for process in model.processes]
            near = nearest(name, ids)
            if error.code != Code.model_not_found or near is None:
                raise
            raise AiwmError(Code.model_not_found, error.info.message, field="name", fix=near) from None
        return model, model.processes


def _as_defined(model: Managed) -> None:
    """What somebody wanted for the time being (`load --ctx`, a way of a plan) ends with the processes that were started so."""
    if isinstance(model, LocalModel):
        model.with_context(0)
        model.with_devices(model.definition.devices)


def _told_to_go(model: Managed, processes: list[Process], *, now: bool) -> requests.ModelStopped:
    leaving = [it for it in processes if not it.startable]
    running = sum(it.requests for it in leaving)
    for process in leaving:
        if now or not process.requests:
            process.stop()
        else:
            process.drain()
    return requests.ModelStopped(model=model.definition.name, processes=tuple(it.id for it in leaving), running=running)
