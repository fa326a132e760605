"""Requests about maintenance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.contract.errors import AiwmError, Code
from engine.contract.requests import maintenance as requests
from engine.control.instances import Instances
from engine.control.maintenance import Dispatching
from engine.requests.caller import Caller
from engine.requests.table import RequestTable

_LONGEST_MS = 24 * 3_600_000


class MaintenanceOperations:
    """Drain and resume. `idle` is set while nothing runs, `waiting` counts waiting tasks."""

    def __init__(
        self,
        dispatching: Dispatching,
        instances: Instances,
        idle: asyncio.Event,
        waiting: Callable[[], int],
        now_ms: Callable[[], int],
    ) -> None:
        self._dispatching = dispatching
        self._instances = instances
        self._idle = idle
        self._waiting = waiting
        self._now_ms = now_ms

    def register(self, table: RequestTable) -> None:
        table.register(requests.EngineDrain, self.drain)
        table.register(requests.EngineResume, self.resume)

    async def drain(self, request: requests.EngineDrain, caller: Caller) -> requests.Drained:
        if not 0 <= request.wait_ms <= _LONGEST_MS:
            raise AiwmError(
                Code.bad_request,
                f"wait_ms is {request.wait_ms}, but must lie between 0 and {_LONGEST_MS}",
                field="wait_ms",
            )
        before = self._dispatching.maintenance
        wanted = requests.Maintenance(reason=request.reason, by=caller.principal, since_ms=self._now_ms())
        if before is None or request.reason not in ("", before.reason):
            await self._dispatching.maintain(wanted)
        try:
            async with asyncio.timeout(request.wait_ms / 1000):
                await self._idle.wait()
        except TimeoutError:
            pass
        return self._drained(self._dispatching.maintenance or wanted)

    async def resume(self, _: requests.EngineResume, __: Caller) -> requests.Resumed:
        before = self._dispatching.maintenance
        if before is not None:
            await self._dispatching.maintain(None)
        return requests.Resumed(maintenance=before, waiting=self._waiting())

    def _drained(self, maintenance: requests.Maintenance) -> requests.Drained:
        now = self._now_ms()
        running = [
            requests.RunningTask(
                id=instance.task,
                instance=instance.id,
                definition=instance.definition.name,
                kind=instance.definition.kind,
                idempotent=instance.worker.idempotent,
                for_ms=max(0, now - instance.since_ms),
            )
            for instance in self._instances.all()
            if instance.task is not None
        ]
        return requests.Drained(
            maintenance=maintenance,
            idle=not running,
            running=running,
            risky=sorted({task.kind for task in running if not task.idempotent}),
            waiting=self._waiting(),
        )
