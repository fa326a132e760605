"""Requests about the engine itself: status, stop, doctor, configuration."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from engine import __version__
from engine.config import LoadedConfig
from engine.contract.errors import AiwmError, Code
from engine.contract.records import ModelRow
from engine.contract.requests import session as requests
from engine.contract.requests.session import EngineStatusResult, Finding, Setting, Stopping
from engine.contract.states import TaskState
from engine.control.manager import Manager
from engine.control.tally import WAITING
from engine.doctor import examine
from engine.inference.models.troubles import Trouble
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store.store import Store


class EngineOperations:
    """What the host answers for itself. `stop` begins the end and returns at once."""

    def __init__(
        self,
        home: Path,
        loaded: LoadedConfig,
        store: Store,
        manager: Manager,
        models: Callable[[], list[ModelRow]],
        clients: Callable[[], int],
        dispatching: Callable[[], bool],
        stop: Callable[[str], None],
        access: Callable[[], tuple[list[tuple[str, str, str]], list[tuple[str, str]]]],
        troubles: Callable[[], list[Trouble]],
    ) -> None:
        self._troubles = troubles
        self._access = access
        self._home = home
        self._loaded = loaded
        self._store = store
        self._manager = manager
        self._models = models
        self._clients = clients
        self._dispatching = dispatching
        self._stop = stop
        self._started_ms = time.time_ns() // 1_000_000

    def register(self, table: RequestTable) -> None:
        table.register(requests.EngineStatus, self.status)
        table.register(requests.EngineStop, self.stop)
        table.register(requests.EngineDoctor, self.doctor)
        table.register(requests.ConfigShow, self.config_show)

    async def status(self, _: requests.EngineStatus, __: Caller) -> EngineStatusResult:
        tally = self._manager.tally
        running, waiting = tally.total(TaskState.processing), tally.total(*WAITING)
        up_s = (time.time_ns() // 1_000_000 - self._started_ms) // 1000
        storage = self._store.journal.state
        lines = [
            f"engine   running, pid {os.getpid()}, aiwm {__version__}, up {_span(up_s)}",
            f"home     {self._home}",
            f"tasks    {running} running, {waiting} waiting, {tally.total(TaskState.failed)} failed",
            f"storage  {storage}, epoch {self._store.epoch}",
            f"clients  {self._clients()}",
        ]
        unwritten = self._manager.attempts.unwritten
        if unwritten:
            lines.append(f"unsaved  {unwritten} ends of tasks are not written yet: storage fails (aiwm doctor)")
        if not self._dispatching():
            lines.insert(1, "dispatch off: no command waits for work")
        maintenance = self._manager.dispatching.maintenance
        if maintenance is not None:
            since = datetime.fromtimestamp(maintenance.since_ms / 1000).isoformat(" ", "minutes")
            reason = f": {maintenance.reason}" if maintenance.reason else ""
            lines.insert(
                1, f"maintenance since {since} by {maintenance.by}{reason} (nothing starts; aiwm engine resume)"
            )
        return EngineStatusResult(
            version=__version__,
            pid=os.getpid(),
            home=str(self._home),
            epoch=self._store.epoch,
            started_ms=self._started_ms,
            dispatching=self._dispatching(),
            storage=storage,
            clients=self._clients(),
            running=running,
            waiting=waiting,
            commits=self._manager.commits,
            unwritten=unwritten,
            fenced=self._store.journal.fenced,
            text="\n".join(lines),
            maintenance=maintenance,
        )

    async def stop(self, request: requests.EngineStop, _: Caller) -> Stopping:
        if request.mode not in ("drain", "now"):
            raise AiwmError(Code.bad_request, f'mode is "{request.mode[:40]}"', field="mode", fix="drain or now")
        tally = self._manager.tally
        result = Stopping(mode=request.mode, running=len(self._manager.attempts), waiting=tally.total(*WAITING))
        self._stop(request.mode)
        return result

    async def doctor(self, _: requests.EngineDoctor, __: Caller) -> list[Finding]:
        keys, sources = await asyncio.to_thread(self._access)
        troubles = await asyncio.to_thread(self._troubles)
        return examine(self._home, self._models, self._store.journal.state, keys, sources, troubles)

    async def config_show(self, _: requests.ConfigShow, __: Caller) -> list[Setting]:
        return list(self._loaded.settings)


def _span(seconds: int) -> str:
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
