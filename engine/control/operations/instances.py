"""Requests about instances: lists, and what is done with directly spawned ones."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.query import matches, parse, sort_records
from engine.contract.records import ChatTurn, InstanceDetail, InstanceRow, Record, RetiredRow
from engine.contract.requests import instances as requests
from engine.control.sessions.session import final_state
from engine.control.sessions.sessions import Sessions
from engine.control.tables import Tables
from engine.requests.caller import Caller
from engine.requests.table import RequestTable

_MOST = 10_000

Row = TypeVar("Row", bound=Record)


class InstanceOperations:
    """Spawn, talk, show, retire; and the lists of those that live and those that did."""

    def __init__(self, sessions: Sessions, tables: Tables, clock: Clock) -> None:
        self._sessions = sessions
        self._tables = tables
        self._clock = clock

    def register(self, table: RequestTable) -> None:
        table.register(requests.InstanceList, self.live)
        table.register(requests.InstanceRetired, self.retired)
        table.register(requests.InstanceShow, self.show)
        table.register(requests.InstanceSpawn, self.spawn)
        table.register(requests.InstanceSet, self.set)
        table.register(requests.InstanceRetire, self.retire)
        table.register(requests.InstanceChat, self.chat)
        table.register(requests.InstanceStop, self.stop)

    async def live(self, request: requests.InstanceList, _: Caller) -> list[InstanceRow]:
        return self._filtered("instances", request.where, self._tables.instances())

    async def retired(self, request: requests.InstanceRetired, _: Caller) -> list[RetiredRow]:
        if not 1 <= request.limit <= _MOST:
            raise AiwmError(Code.bad_request, f"limit is {request.limit}: 1 to {_MOST} rows", field="limit")
        return self._filtered("retired", request.where, self._tables.retired())[: request.limit]

    async def show(self, request: requests.InstanceShow, _: Caller) -> InstanceDetail:
        detail = self._sessions.detail(request.id)
        row = next((row for row in self._tables.instances() if row.id == request.id), None)
        return detail if row is None else msgspec.structs.replace(detail, row=row)

    async def spawn(self, request: requests.InstanceSpawn, caller: Caller) -> InstanceDetail:
        return await self._sessions.spawn(request, caller.principal)

    async def set(self, request: requests.InstanceSet, caller: Caller) -> InstanceDetail:
        return await self._sessions.set(request, caller.principal)

    async def retire(self, request: requests.InstanceRetire, caller: Caller) -> InstanceDetail:
        detail = self._sessions.detail(request.id)
        if detail.row is not None and detail.row.pool:
            return await self._sessions.retire_of_pool(request.id, request.reason, caller.principal)
        state = final_state(request.status)
        return await self._sessions.retire(request.id, state, request.reason, caller.principal)

    async def chat(self, request: requests.InstanceChat, caller: Caller) -> ChatTurn:
        return await self._sessions.chat(request, caller)

    async def stop(self, request: requests.InstanceStop, _: Caller) -> None:
        await self._sessions.stop(request.id)

    def _filtered(self, table: str, where: str, rows: list[Row]) -> list[Row]:
        location, now = parse(f":{table} {where}"), self._clock.wall_ms()
        found: list[Row] = sort_records(location, [row for row in rows if matches(location, row, now)])
        return found
