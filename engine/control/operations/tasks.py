"""Requests about tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.ids import task_id, task_seq
from engine.contract.query import SortKey, parse
from engine.contract.records import Record, TaskDetail, TaskRow, TimelineStep
from engine.contract.records.notes import TaskNotes
from engine.contract.requests import tasks as requests
from engine.contract.states import TaskState
from engine.contract.why import Why
from engine.control.dispatcher import Dispatcher
from engine.control.loading import stored_ref
from engine.control.submission import Submission
from engine.control.waiters import Waiters
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store.readers import Readers
from engine.store.rows import StoredTask
from engine.store.window import Window, Windows

_MAX_LIST = 10_000
_MAX_EXPORT = 1_000
_EXPORT_BYTES = 4 * 2**20


class TaskOperations:
    """Submit, wait, show, list, explain."""

    def __init__(
        self,
        submission: Submission,
        waiters: Waiters,
        dispatcher: Dispatcher,
        readers: Readers,
        windows: Windows,
        clock: Clock,
        explain_rows: Callable[[list[TaskRow]], list[TaskRow]],
        notes: Callable[[int], TaskNotes],
    ) -> None:
        self._submission = submission
        self._waiters = waiters
        self._dispatcher = dispatcher
        self._readers = readers
        self._windows = windows
        self._clock = clock
        self._explain_rows = explain_rows
        self._notes = notes

    def register(self, table: RequestTable) -> None:
        table.register(requests.TaskSubmit, self.submit)
        table.register(requests.TaskRun, self.run)
        table.register(requests.TaskWait, self.wait)
        table.register(requests.TaskShow, self.show)
        table.register(requests.TaskList, self.list)
        table.register(requests.TaskExplain, self.explain)
        table.register(requests.TaskExport, self.export)

    async def submit(self, request: requests.TaskSubmit, caller: Caller) -> requests.TaskAck:
        return await self._submission.submit(request, caller.principal)

    async def run(self, request: requests.TaskRun, caller: Caller) -> requests.TaskOutcome:
        _check_timeout(request.timeout_ms)
        submit = requests.TaskSubmit(
            queue=request.queue, payload=request.payload, priority=request.priority, definition=request.definition
        )
        ack = await self._submission.submit(submit, caller.principal)
        # The task is stored and goes on without the one who waits for it.
        return (await self._outcomes((ack.id,), request.timeout_ms, caller.gone))[0]

    async def wait(self, request: requests.TaskWait, _: Caller) -> list[requests.TaskOutcome]:
        _check_timeout(request.timeout_ms)
        return await self._outcomes(request.ids, request.timeout_ms)

    async def _outcomes(
        self, ids: tuple[str, ...], timeout_ms: int | None, gone: asyncio.Future[None] | None = None
    ) -> list[requests.TaskOutcome]:
        """How the tasks ended; for those that have not when the time is up, or `gone` is done, how far they are."""
        seqs = [task_seq(identifier) for identifier in ids]
        # First wait, then look: an end in between is seen by one of the two.
        futures = {seq: self._waiters.wait(seq) for seq in seqs}
        try:
            found = {seq: self._outcome_now(seq) for seq in futures}
            pending = [futures[seq] for seq, outcome in found.items() if not TaskState(outcome.state).ended]
            if pending:
                timeout_s = None if timeout_ms is None else timeout_ms / 1000
                if gone is None:
                    await asyncio.wait(pending, timeout=timeout_s)
                else:
                    everyone = asyncio.gather(*pending, return_exceptions=True)
                    await asyncio.wait((everyone, gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            return [futures[seq].result() if futures[seq].done() else self._latest(seq, found) for seq in seqs]
        finally:
            for future in futures.values():
                future.cancel()

    def _latest(self, seq: int, found: dict[int, requests.TaskOutcome]) -> requests.TaskOutcome:
        return found[seq] if TaskState(found[seq].state).ended else self._outcome_now(seq)

    def _outcome_now(self, seq: int) -> requests.TaskOutcome:
        stored = self._stored(seq)
        result, error = self._readers.result(seq)
        return requests.TaskOutcome(
            id=task_id(seq),
            state=stored.state,
            attempt=stored.attempt,
            result=_raw(result),
            error=_error(error),
            tokens_in=stored.tokens_in,
            tokens_out=stored.tokens_out,
        )

    def _stored(self, seq: int) -> StoredTask:
        stored = self._readers.task(seq)
        if stored is None:
            raise AiwmError(Code.not_found, f'task "{task_id(seq)}" does not exist', field="id", fix="aiwm task list")
        return stored

    async def show(self, request: requests.TaskShow, _: Caller) -> TaskDetail:
        seq = task_seq(request.id)
        stored = self._stored(seq)
        result, error = self._readers.result(seq)
        steps = tuple(
            TimelineStep(at_ms=event.at_ms, type=event.type, text=event.text) for event in self._readers.events_of(seq)
        )
        return TaskDetail(
            row=self._explain_rows([stored.row])[0],
            payload=_raw(self._readers.payload(seq)),
            result=_raw(result),
            error=_error(error),
            deadline_ms=stored.deadline_ms,
            idempotency_key=stored.idempotency_key,
            capabilities=stored.capabilities,
            timeline=steps,
            notes=self._notes(seq),
        )

    async def list(self, request: requests.TaskList, _: Caller) -> requests.TaskPage:
        if not 1 <= request.limit <= _MAX_LIST or request.offset < 0:
            raise AiwmError(
                Code.bad_request, f"limit is {request.limit}, but must lie between 1 and {_MAX_LIST}", field="limit"
            )
        location = parse(f":tasks {request.where}")
        window = await self._windows.window(location, request.offset, request.limit, self._clock.wall_ms())
        rows = self._explain_rows([row for row in _from(window, request.offset) if isinstance(row, TaskRow)])
        return requests.TaskPage(rows=rows, total=window.matched)

    async def export(self, request: requests.TaskExport, _: Caller) -> requests.ExportPage:
        if not 1 <= request.limit <= _MAX_EXPORT or request.offset < 0:
            raise AiwmError(
                Code.bad_request, f"limit is {request.limit}, but must lie between 1 and {_MAX_EXPORT}", field="limit"
            )
        location = msgspec.structs.replace(parse(f":tasks {request.where}"), sort=(SortKey("id"),))
        window = await self._windows.window(location, request.offset, request.limit, self._clock.wall_ms())
        found: list[requests.ExportedTask] = []
        size = 0
        for row in _from(window, request.offset):
            if size > _EXPORT_BYTES or not isinstance(row, TaskRow):
                break
            seq = task_seq(row.id)
            payload, (result, error) = self._readers.payload(seq), self._readers.result(seq)
            size += len(payload or b"") + len(result or b"") + len(error or b"")
            found.append(
                requests.ExportedTask(row=row, payload=_raw(payload), result=_raw(result), error=_error(error))
            )
        after = request.offset + len(found)
        # More than are counted may match: where the end is, is known when it is reached.
        more = after < window.matched or not window.exact
        return requests.ExportPage(tasks=found, total=window.matched, next=after if found and more else None)

    async def explain(self, request: requests.TaskExplain, _: Caller) -> Why:
        seq = task_seq(request.id)
        stored = self._stored(seq)
        state = TaskState(stored.state)
        if state.ended:
            return Why(scope="task", about=request.id, moving=True, summary=f"it has ended: {state.value}")
        return self._dispatcher.why_task(stored_ref(stored))


def _from(window: Window, offset: int) -> Sequence[Record]:
    """A window's rows from an offset on: at the end of the table it begins before that, to be full."""
    return window.rows[max(0, offset - window.top) :]


def _check_timeout(timeout_ms: int | None) -> None:
    if timeout_ms is not None and not 0 <= timeout_ms <= 2**53:
        raise AiwmError(Code.bad_request, "timeout_ms must lie between 0 and 2^53", field="timeout_ms")


def _raw(data: bytes | None) -> Any:
    return None if data is None else msgspec.Raw(data)


def _error(data: bytes | None) -> ErrorInfo | None:
    return None if data is None else msgspec.json.decode(data, type=ErrorInfo)
