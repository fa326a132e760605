"""Requests about API keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from engine.contract.definitions import WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.keys import KeyCheck, KeyList, KeyRow, KeyStatus
from engine.contract.suggest import nearest
from engine.keys.ring import KeyRing
from engine.requests.caller import Caller
from engine.requests.table import RequestTable


class KeyOperations:
    """List and check. `workers` gives the definitions in force."""

    def __init__(self, ring: KeyRing, workers: Callable[[], Mapping[str, WorkerDefinition]]) -> None:
        self._ring = ring
        self._workers = workers

    def register(self, table: RequestTable) -> None:
        table.register(KeyList, self.list)
        table.register(KeyCheck, self.check)

    async def list(self, _: KeyList, __: Caller) -> list[KeyRow]:
        named = {worker.key for worker in self._workers().values() if worker.key}
        names = sorted(self._ring.keys.keys() | named)
        return await asyncio.to_thread(lambda: [self._row(name, self._ring.status(name)) for name in names])

    async def check(self, request: KeyCheck, _: Caller) -> KeyRow:
        name = request.name
        used = any(worker.key == name for worker in self._workers().values())
        if name not in self._ring.keys and not used:
            raise AiwmError(
                Code.key_not_found,
                f'config.toml has no key "{name[:64]}"',
                field="name",
                fix=nearest(name, self._ring.keys) or "aiwm key list",
            )
        return self._row(name, await asyncio.to_thread(self._ring.check, name))

    def _row(self, name: str, status: tuple[KeyStatus, str]) -> KeyRow:
        key = self._ring.keys.get(name)
        return KeyRow(
            id=name,
            method=key.method.value if key is not None else "",
            status=status[0].value,
            hosts=key.hosts if key is not None else (),
            workers=tuple(sorted(worker.name for worker in self._workers().values() if worker.key == name)),
            note=status[1],
        )
