"""Requests about lessons."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_seq
from engine.contract.query import matches, parse, sort_records
from engine.contract.records.knowledge import LessonDetail, LessonRow
from engine.contract.requests import lessons as requests
from engine.knowledge.lessons import Lessons
from engine.knowledge.matching import Facts
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store.readers import Readers


class LessonOperations:
    """`capabilities` answers what a worker definition can do."""

    def __init__(
        self, lessons: Lessons, readers: Readers, clock: Clock, capabilities: Callable[[str], Iterable[str]]
    ) -> None:
        self._lessons = lessons
        self._readers = readers
        self._clock = clock
        self._capabilities = capabilities

    def register(self, table: RequestTable) -> None:
        table.register(requests.LessonSubmit, self.submit)
        table.register(requests.LessonList, self.some)
        table.register(requests.LessonShow, self.show)
        table.register(requests.LessonQuery, self.query)
        table.register(requests.LessonDelete, self.delete)

    async def submit(self, request: requests.LessonSubmit, caller: Caller) -> requests.Taught:
        row = await self._lessons.submit(request, caller.principal)
        return requests.Taught(id=row.id, version=row.version)

    async def some(self, request: requests.LessonList, _: Caller) -> list[LessonRow]:
        location, now = parse(f":lessons {request.where}"), self._clock.wall_ms()
        return sort_records(location, [row for row in self._lessons.rows() if matches(location, row, now)])

    async def show(self, request: requests.LessonShow, _: Caller) -> LessonDetail:
        return self._lessons.detail(request.id)

    async def query(self, request: requests.LessonQuery, _: Caller) -> list[LessonRow]:
        if request.task:
            return self._lessons.query(self._facts(request.task))
        capabilities = {*request.capabilities, *self._capabilities(request.definition)}
        return self._lessons.query(
            Facts(
                template=request.template,
                queue=request.queue,
                definition=request.definition,
                capabilities=frozenset(capabilities),
                payload=lambda: request.payload,
                error=lambda: request.error,
            )
        )

    def _facts(self, identifier: str) -> Facts:
        seq = task_seq(identifier)
        stored = self._readers.task(seq)
        if stored is None:
            raise AiwmError(
                Code.not_found, f'task "{identifier[:40]}" does not exist', field="task", fix="aiwm task list"
            )
        definition = stored.definition or ""
        return Facts(
            template=stored.template or "",
            queue=stored.queue,
            definition=definition,
            capabilities=frozenset({*stored.capabilities, *self._capabilities(definition)}),
            payload=lambda: msgspec.json.decode(self._readers.payload(seq) or b"{}"),
            error=lambda: (self._readers.result(seq)[1] or b"").decode(),
        )

    async def delete(self, request: requests.LessonDelete, _: Caller) -> requests.Forgotten:
        await self._lessons.delete(request.id)
        return requests.Forgotten(id=request.id)
