"""Requests that change tasks, and requests about the operations that such changes are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_seq
from engine.contract.query import parse
from engine.contract.records import TaskRow
from engine.contract.records.operations import OperationRow
from engine.contract.requests import catalogue as request_catalogue
from engine.contract.requests import operations as about
from engine.contract.requests import tasks as requests
from engine.contract.requests.base import Request
from engine.contract.requests.tasks import Cancelled, Changed, Plan, PlanCost, Retried
from engine.contract.states import Effect, TaskState
from engine.control.changes import Outcome
from engine.control.operation_log import Operation, OperationLog
from engine.control.undertakings import Undertakings
from engine.requests.caller import Caller
from engine.requests.grants import check_grant
from engine.requests.table import RequestTable
from engine.store.readers import Readers
from engine.store.window import Windows

MOST = 10_000
"""Tasks in one change at most."""
_NOT_SETTINGS = frozenset({"ids", "where", "reason", "dry_run", "delay_ms"})
_ENDED = frozenset({"failed", "cancelled"})
_WAITING = frozenset({"pending", "scheduled", "retrying"})
_FOR = {
    "task.cancel": _WAITING | {"processing"},
    "task.retry": _ENDED,
    "task.move": _WAITING,
    "task.priority": _WAITING,
}
"""The states in which a task is taken in when it is found by a filter. One that is named by its id is tried whatever it is."""


class ChangeOperations:
    """Resolves what a change is about, once; then it is a plan, or an operation."""

    def __init__(
        self, undertakings: Undertakings, log: OperationLog, readers: Readers, windows: Windows, clock: Clock
    ) -> None:
        self._undertakings = undertakings
        self._log = log
        self._readers = readers
        self._windows = windows
        self._clock = clock

    def register(self, table: RequestTable) -> None:
        table.register(requests.TaskCancel, self.cancel)
        table.register(requests.TaskRetry, self.retry)
        table.register(requests.TaskMove, self.move)
        table.register(requests.TaskPriority, self.priority)
        table.register(about.OperationList, self.list)
        table.register(about.OperationShow, self.show)
        table.register(about.OperationUndo, self.undo)
        table.register(about.OperationDefer, self.defer)

    # -- changes -----------------------------------------------------------------------------------------------------

    async def cancel(self, request: requests.TaskCancel, caller: Caller) -> Cancelled:
        ids, rows = await self._resolved(request)
        if request.dry_run:
            return Cancelled(plan=_plan(request, ids, rows))
        return await self.cancel_ids(ids, request.reason, request.delay_ms, caller)

    async def cancel_ids(self, ids: Sequence[str], reason: str, delay_ms: int, caller: Caller) -> Cancelled:
        """Cancel fixed ids, as an operation."""
        operation, outcome = await self._undertakings.begin(
            "task.cancel", caller.principal, ids=ids, settings={}, reason=reason, delay_ms=delay_ms
        )
        return Cancelled(
            operation=operation.id,
            due_ms=operation.due_ms,
            cancelled=outcome.done,
            stopping=outcome.stopping,
            ended=list(outcome.refused),
        )

    async def retry(self, request: requests.TaskRetry, caller: Caller) -> Retried:
        if request.canary < 0:
            raise AiwmError(Code.bad_request, "canary cannot be negative", field="canary")
        _check_priority(request.priority)
        ids, rows = await self._resolved(request)
        if request.dry_run:
            return Retried(plan=_plan(request, ids, rows))
        operation, outcome = await self._begin(request, ids, caller)
        return Retried(
            operation=operation.id,
            due_ms=operation.due_ms,
            retried=outcome.done,
            refused=outcome.refused,
            held=len(operation.waits),
        )

    async def move(self, request: requests.TaskMove, caller: Caller) -> Changed:
        if not request.queue and not request.front:
            raise AiwmError(Code.bad_request, "say where to: queue, or front", field="queue", fix="aiwm queue list")
        return await self._changed(request, caller)

    async def priority(self, request: requests.TaskPriority, caller: Caller) -> Changed:
        _check_priority(request.priority)
        return await self._changed(request, caller)

    async def _changed(self, request: requests.TaskMove | requests.TaskPriority, caller: Caller) -> Changed:
        ids, rows = await self._resolved(request)
        if request.dry_run:
            return Changed(plan=_plan(request, ids, rows))
        operation, outcome = await self._begin(request, ids, caller)
        return Changed(operation=operation.id, due_ms=operation.due_ms, changed=outcome.done, refused=outcome.refused)

    async def _begin(self, request: Any, ids: Sequence[str], caller: Caller) -> tuple[Operation, Outcome]:
        settings = msgspec.to_builtins(request)
        return await self._undertakings.begin(
            request.method,
            caller.principal,
            ids=ids,
            settings={name: value for name, value in settings.items() if name not in _NOT_SETTINGS},
            reason=request.reason,
            delay_ms=request.delay_ms,
        )

    async def _resolved(self, request: Any) -> tuple[list[str], list[TaskRow]]:
        """The fixed ids of a change, and their rows as they are now."""
        if bool(request.ids) == bool(request.where.strip()):
            raise AiwmError(
                Code.bad_request,
                "name tasks either by ids or by where",
                field="ids",
                fix="where: a filter such as state:failed",
            )
        if request.ids:
            ids = list(dict.fromkeys(request.ids))
            if len(ids) > MOST:
                raise _too_many(len(ids))
            return ids, [row for row in map(self._row, ids) if row is not None]
        window = await self._windows.window(
            parse(f":tasks {filter_text(request.where)}"), 0, MOST, self._clock.wall_ms()
        )
        if not window.exact or window.matched > len(window.rows):
            raise _too_many(window.matched, exact=window.exact)
        fitting = _FOR[request.method]
        rows = [row for row in window.rows if isinstance(row, TaskRow) and row.state in fitting]
        # In the order in which they were submitted, whatever order the filter has: canaries are the oldest.
        rows.sort(key=lambda row: (len(row.id), row.id))
        return [row.id for row in rows], rows

    def _row(self, identifier: str) -> TaskRow | None:
        row = self._readers.task_row(task_seq(identifier))
        if row is None:
            raise AiwmError(
                Code.not_found, f'task "{identifier[:40]}" does not exist', field="ids", fix="aiwm task list"
            )
        return row

    # -- operations --------------------------------------------------------------------------------------------------

    async def list(self, request: about.OperationList, _: Caller) -> list[OperationRow]:
        if not 1 <= request.limit <= MOST:
            raise AiwmError(
                Code.bad_request, f"limit is {request.limit}, but must lie between 1 and {MOST}", field="limit"
            )
        return [operation.row for operation in self._log.newest(request.limit)]

    async def show(self, request: about.OperationShow, _: Caller) -> about.OperationDetail:
        return self._log.find(request.id).detail

    async def undo(self, request: about.OperationUndo, caller: Caller) -> about.Undone:
        return await self._undertakings.undo(request.id, caller.principal)

    async def defer(self, request: about.OperationDefer, caller: Caller) -> OperationRow:
        kind: type[Request[Any]] = request_catalogue().find(request.request)
        if kind.effect is Effect.read or kind.method.startswith(("operation.", "engine.", "view.")):
            raise AiwmError(
                Code.bad_request,
                f"{kind.method} cannot be done later",
                field="request",
                fix="requests that change queues, pools, tasks, …",
            )
        if request.delay_ms < 1:
            raise AiwmError(Code.bad_request, "delay_ms must be at least 1", field="delay_ms")
        try:
            # What is wrong with it is said now, not when it is due.
            inner = msgspec.convert(request.params, kind)
        except msgspec.ValidationError as error:
            raise AiwmError(Code.bad_request, f"params: {error}", field="params") from None
        if caller.grant is not None:
            check_grant(inner, caller.grant)
        operation, _ = await self._undertakings.begin(
            kind.method, caller.principal, settings=request.params, delay_ms=request.delay_ms
        )
        return operation.row


def filter_text(where: str) -> str:
    """A filter with or without the table in front."""
    text = where.strip()
    return text.removeprefix(":tasks").strip() if text.split(" ", 1)[0] == ":tasks" else text


def _plan(request: Any, ids: list[str], rows: Sequence[TaskRow]) -> Plan:
    cost = PlanCost(
        tokens_in=sum(row.tokens_in or 0 for row in rows),
        tokens_out=sum(row.tokens_out or 0 for row in rows),
        cost_usd=round(sum(row.cost_usd or 0.0 for row in rows), 6),
        running=sum(row.state == TaskState.processing for row in rows),
    )
    return Plan(request=request.method, effect=request.effect.value, ids=ids, count=len(ids), cost=cost)


def _too_many(count: int, *, exact: bool = True) -> AiwmError:
    return AiwmError(
        Code.too_many_rows,
        f"{'' if exact else 'more than '}{count:,} tasks match, one change takes at most {MOST:,}",
        field="where",
        fix="narrow the filter, such as age>1h",
    )


def _check_priority(priority: int | None) -> None:
    if priority is not None and not -1000 <= priority <= 1000:
        raise AiwmError(
            Code.bad_request, f"priority is {priority}, but must lie between -1000 and 1000", field="priority"
        )
