"""How the requests of a live engine are answered from a recording: from the store's rows, from the rows of tables as they were seen, from
what was answered then, or not at all. Never by asking this engine, which knows nothing of that day."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_seq
from engine.contract.query import matches, parse, sort_records
from engine.contract.records import PoolDetail, QueueDetail, Record, TaskDetail, TaskRow, WorkerDetail
from engine.contract.records.definitions import SourceDetail
from engine.contract.requests.base import Request, result_type
from engine.contract.requests.memory import Crash
from engine.contract.requests.tasks import TaskPage
from engine.contract.states import TaskState
from engine.contract.why import Why
from engine.control.definitions import Definitions, Kind, stable_id
from engine.replaying.player import Player
from engine.requests.caller import Caller
from engine.store.readers import Readers

Handler = Callable[[Any, Caller], Awaitable[Any]]

_STORED: Final = frozenset(
    {"view.open", "view.move", "view.close", "view.read", "task.export", "task.context", "task.prompt"}
    | {"task.follow", "task.unfollow", "batch.list", "batch.show", "batch.results", "failure.list", "failure.show"}
    | {"operation.list", "operation.show", "perf.list", "usage.read", "samples.read", "report.read", "pool.history"}
    | {"template.show", "insight.list", "supervisor.list", "supervisor.show", "lesson.show", "instance.retired"}
    | {"bundle.export", "replay.show", "replay.seek", "replay.play", "engine.hello"}
)
"""Requests whose answers follow from the store's rows and the definitions alone."""
_ROWS: Final = {
    "queue.list": "queues",
    "pool.list": "pools",
    "instance.list": "instances",
    "model.list": "models",
    "model.status": "models",
    "model.devices": "devices",
    "adapter.list": "adapters",
    "approval.list": "approvals",
    "lesson.list": "lessons",
    "worker.list": "workers",
    "source.list": "sources",
    "template.list": "templates",
}
_SHOWN: Final[dict[str, tuple[str, Kind, type[Any]]]] = {
    "queue.show": ("queues", Kind.queue, QueueDetail),
    "pool.show": ("pools", Kind.pool, PoolDetail),
    "worker.show": ("workers", Kind.worker, WorkerDetail),
    "source.show": ("sources", Kind.source, SourceDetail),
}


class Answers:
    """Chooses the handler of each request. `reasons` fills in why waiting tasks wait."""

    def __init__(
        self,
        player: Player,
        readers: Readers,
        definitions: Callable[[], Definitions],
        reasons: Callable[[list[TaskRow]], list[TaskRow]],
    ) -> None:
        self._player = player
        self._readers = readers
        self._definitions = definitions
        self._reasons = reasons

    def choose(self, kind: type[Request[Any]], handler: Handler) -> Handler:
        """The handler of a request of this class, which a live engine answers by `handler`."""
        method = kind.method
        if method in _STORED:
            return handler
        if method == "task.show":
            return self._task(handler)
        if method == "task.list":
            return self._tasks(handler)
        if method == "task.explain":
            return self._task_why
        if method == "model.crashes":
            return self._crashes
        if method in _ROWS:
            return self._listed(_ROWS[method])
        if method in _SHOWN:
            return self._shown(*_SHOWN[method])
        return self._remembered(kind)

    def _task(self, handler: Handler) -> Handler:
        async def answer(request: Any, caller: Caller) -> TaskDetail:
            detail: TaskDetail = await handler(request, caller)
            return msgspec.structs.replace(detail, row=self._reasons([detail.row])[0])

        return answer

    def _tasks(self, handler: Handler) -> Handler:
        async def answer(request: Any, caller: Caller) -> TaskPage:
            page: TaskPage = await handler(request, caller)
            return msgspec.structs.replace(page, rows=self._reasons(page.rows))

        return answer

    async def _task_why(self, request: Any, caller: Caller) -> Why:
        """Why its queue stood still says most of why a task of it did."""
        del caller
        row = self._readers.task_row(task_seq(request.id))
        if row is None:
            raise _no("task", request.id, "aiwm task list")
        if TaskState(row.state).ended:
            return Why(scope="task", about=request.id, moving=True, summary=f"it has ended: {row.state}")
        queue = row.queue
        answer = self._player.answer("queue.explain", {"name": queue})
        if answer is None:
            raise _not_recorded("task.explain")
        why = msgspec.json.decode(answer, type=Why)
        notes = (*why.notes, "of this task alone nothing was recorded")
        return msgspec.structs.replace(why, summary=f"its queue {queue} then: {why.summary}", notes=notes)

    async def _crashes(self, request: Any, caller: Caller) -> list[Crash]:
        del caller
        kept = [msgspec.json.decode(it.json, type=Crash) for it in self._readers.documents("crash")]
        mine = [crash for crash in kept if request.name in (crash.model, crash.process)]
        return sorted(mine, key=lambda crash: -crash.ended_ms)[: request.limit]

    def _listed(self, table: str) -> Handler:
        async def answer(request: Any, caller: Caller) -> list[Record]:
            del caller
            location = parse(f":{table} {getattr(request, 'where', '')}")
            now = self._player.clock.wall_ms()
            return sort_records(location, [row for row in self._player.rows(table) if matches(location, row, now)])

        return answer

    def _shown(self, table: str, kind: Kind, detail: type[Any]) -> Handler:
        async def answer(request: Any, caller: Caller) -> Any:
            del caller
            row = self._player.row(table, request.name)
            definition = self._definitions().of(kind).get(request.name)
            if row is None or definition is None:
                raise _no(kind.value, request.name, f"aiwm view :{table}")
            return detail(row=row, definition=definition, uuid=stable_id(kind, definition.name))

        return answer

    def _remembered(self, kind: type[Request[Any]]) -> Handler:
        async def answer(request: Any, caller: Caller) -> Any:
            del caller
            found = self._player.answer(kind.method, msgspec.to_builtins(request))
            if found is None:
                raise _not_recorded(kind.method)
            return msgspec.json.decode(found, type=result_type(kind))

        return answer


def _no(noun: str, name: str, fix: str) -> AiwmError:
    return AiwmError(Code.not_found, f'there was no {noun} "{name[:80]}" then', field="name", fix=fix)


def _not_recorded(method: str) -> AiwmError:
    return AiwmError(
        Code.not_recorded, f"{method} was not recorded", field="method", fix="a live engine answers it: aiwm"
    )
