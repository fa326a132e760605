"""Requests about tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.ids import task_id, task_seq
from engine.contract.query import parse
from engine.contract.records import TaskDetail, TaskRow, TimelineStep
from engine.contract.requests import tasks as requests
from engine.contract.states import Durability, TaskState
from engine.contract.why import Why
from engine.control.attempts import Attempts
from engine.control.catalogue import Catalogue
from engine.control.dispatcher import Dispatcher
from engine.control.loading import stored_ref
from engine.control.submission import Submission
from engine.control.waiters import Waiters
from engine.ports import Texts
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.scheduling.decisions import CancelTask, DeadLetter, ExpireTask
from engine.scheduling.inputs import CancelRequested, Outcome, TaskEnded, TaskSubmitted
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers
from engine.store.rows import StoredTask
from engine.store.window import Windows

_MAX_LIST = 10_000


class TaskOperations:
    """Submit, wait, show, list, cancel, retry, explain."""

    def __init__(
        self,
        submission: Submission,
        waiters: Waiters,
        attempts: Attempts,
        dispatcher: Dispatcher,
        journal: Journal,
        readers: Readers,
        windows: Windows,
        catalogue: Catalogue,
        clock: Clock,
        explain_rows: Callable[[list[TaskRow]], list[TaskRow]],
        texts: Texts,
    ) -> None:
        self._submission = submission
        self._waiters = waiters
        self._attempts = attempts
        self._dispatcher = dispatcher
        self._journal = journal
        self._readers = readers
        self._windows = windows
        self._catalogue = catalogue
        self._clock = clock
        self._explain_rows = explain_rows
        self._texts = texts
        self._cancels: dict[int, set[asyncio.Future[str]]] = {}
        dispatcher.performs(CancelTask, self._perform_cancel)
        dispatcher.performs(ExpireTask, self._perform_expire)
        dispatcher.performs(DeadLetter, self._perform_dead_letter)

    def register(self, table: RequestTable) -> None:
        table.register(requests.TaskSubmit, self.submit)
        table.register(requests.TaskRun, self.run)
        table.register(requests.TaskWait, self.wait)
        table.register(requests.TaskShow, self.show)
        table.register(requests.TaskList, self.list)
        table.register(requests.TaskCancel, self.cancel)
        table.register(requests.TaskRetry, self.retry)
        table.register(requests.TaskExplain, self.explain)

    async def submit(self, request: requests.TaskSubmit, caller: Caller) -> requests.TaskAck:
        return await self._submission.submit(request, caller.principal)

    async def run(self, request: requests.TaskRun, caller: Caller) -> requests.TaskOutcome:
        _check_timeout(request.timeout_ms)
        submit = requests.TaskSubmit(
            queue=request.queue, payload=request.payload, priority=request.priority, definition=request.definition
        )
        ack = await self._submission.submit(submit, caller.principal)
        return (await self._outcomes((ack.id,), request.timeout_ms))[0]

    async def wait(self, request: requests.TaskWait, _: Caller) -> list[requests.TaskOutcome]:
        _check_timeout(request.timeout_ms)
        return await self._outcomes(request.ids, request.timeout_ms)

    async def _outcomes(self, ids: tuple[str, ...], timeout_ms: int | None) -> list[requests.TaskOutcome]:
        """How the tasks ended; for those that have not when the time is up, how far they are."""
        seqs = [task_seq(identifier) for identifier in ids]
        # First wait, then look: an end in between is seen by one of the two.
        futures = {seq: self._waiters.wait(seq) for seq in seqs}
        try:
            found = {seq: self._outcome_now(seq) for seq in futures}
            pending = [futures[seq] for seq, outcome in found.items() if not TaskState(outcome.state).ended]
            if pending:
                await asyncio.wait(pending, timeout=None if timeout_ms is None else timeout_ms / 1000)
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
        )

    async def list(self, request: requests.TaskList, _: Caller) -> requests.TaskPage:
        if not 1 <= request.limit <= _MAX_LIST or request.offset < 0:
            raise AiwmError(
                Code.bad_request, f"limit is {request.limit}, but must lie between 1 and {_MAX_LIST}", field="limit"
            )
        location = parse(f":tasks {request.where}")
        window = await self._windows.window(location, request.offset, request.limit, self._clock.wall_ms())
        rows = self._explain_rows([row for row in window.rows if isinstance(row, TaskRow)])
        return requests.TaskPage(rows=rows, total=window.matched)

    async def explain(self, request: requests.TaskExplain, _: Caller) -> Why:
        seq = task_seq(request.id)
        stored = self._stored(seq)
        state = TaskState(stored.state)
        if state.ended or state is TaskState.processing:
            what = "it is running" if state is TaskState.processing else f"it has ended: {state.value}"
            return Why(scope="task", about=request.id, moving=True, summary=what)
        return self._dispatcher.why_task(stored_ref(stored))

    # -- cancel and retry --------------------------------------------------------------------------------------------

    async def cancel(self, request: requests.TaskCancel, _: Caller) -> requests.Cancelled:
        result = requests.Cancelled(cancelled=[], stopping=[], ended=[])
        waiting: list[tuple[str, asyncio.Future[str]]] = []
        for identifier in dict.fromkeys(request.ids):
            seq = task_seq(identifier)
            state = TaskState(self._stored(seq).row.state)
            if state.ended:
                result.ended.append(identifier)
                continue
            if state is TaskState.processing:
                result.stopping.append(identifier)
            else:
                waiting.append((identifier, self._cancelling(seq)))
            self._dispatcher.feed(CancelRequested(seq))
        for identifier, future in waiting:
            became = await future
            (result.cancelled if became == TaskState.cancelled else result.ended).append(identifier)
        return result

    def _cancelling(self, seq: int) -> asyncio.Future[str]:
        """The state in which a waiting task that is being cancelled ends; the storage's error when that cannot be written."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._cancels.setdefault(seq, set()).add(answer)
        # It may have been started meanwhile, and then ends by itself in its own way.
        ended = self._waiters.wait(seq)
        ended.add_done_callback(lambda done: None if done.cancelled() else self._cancelled(seq, done.result().state))
        answer.add_done_callback(lambda _: ended.cancel())
        return answer

    def _cancelled(self, seq: int, outcome: str | BaseException) -> None:
        for answer in self._cancels.pop(seq, ()):
            if answer.done():
                continue
            if isinstance(outcome, BaseException):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

    def _perform_cancel(self, decision: CancelTask) -> None:
        if decision.running:
            self._attempts.cancel(decision)
            return
        now = self._clock.wall_ms()
        error = ErrorInfo(code=Code.task_cancelled, message="cancelled while it waited")
        event = _event(now, "task.cancelled", "operator", decision.seq, "cancelled while it waited")
        entry = (ops.CancelTask(decision.seq, now, "cancelled while it waited"), event)
        self._close_waiting(decision.seq, entry, TaskState.cancelled, "cancelled", error)

    def _perform_expire(self, decision: ExpireTask) -> None:
        error = ErrorInfo(code=Code.deadline_passed, message="the deadline passed while the task waited")
        self._fail_waiting(decision.seq, "expired", error)

    def _perform_dead_letter(self, decision: DeadLetter) -> None:
        if decision.committed:
            return
        error = ErrorInfo(
            code=Code.engine_crashed, message=f"not tried again: {decision.reason}", fix="aiwm task retry"
        )
        self._fail_waiting(decision.seq, "failed", error)

    def _fail_waiting(self, seq: int, outcome: Outcome, error: ErrorInfo) -> None:
        now = self._clock.wall_ms()
        reason = f"{error.code}: {error.message}"
        entry = (
            ops.ExpireTask(seq, now, msgspec.json.encode(error), reason),
            _event(now, "task.failed", "scheduler", seq, reason, "error"),
        )
        self._close_waiting(seq, entry, TaskState.failed, outcome, error)

    def _close_waiting(
        self, seq: int, entry: tuple[ops.Op, ...], state: TaskState, outcome: Outcome, error: ErrorInfo
    ) -> None:
        """Commit the end of a task that waits; then tell the scheduler and whoever waits for it."""
        stored = self._readers.task(seq)
        if stored is None:
            self._dispatcher.feed(TaskEnded(seq, 0, "gone"))
            return
        written = self._journal.write(entry, Durability(stored.durability))

        def done(receipt: asyncio.Future[Any]) -> None:
            if receipt.cancelled():
                return
            failure = receipt.exception()
            if failure is not None:
                # The scheduler asks again once storage works; who asked for the cancel is told that it is not done.
                self._cancelled(seq, failure)
                return
            if receipt.result().fenced:
                self._dispatcher.feed(TaskEnded(seq, stored.attempt, "gone"))
                return
            self._dispatcher.feed(TaskEnded(seq, stored.attempt, outcome))
            self._texts.end(seq, stored.attempt, state.value)
            self._waiters.closed(seq, stored.attempt, state, error)

        written.add_done_callback(done)

    async def retry(self, request: requests.TaskRetry, caller: Caller) -> requests.Retried:
        retried: list[str] = []
        refused: dict[str, str] = {}
        for identifier in dict.fromkeys(request.ids):
            seq = task_seq(identifier)
            stored = self._stored(seq)
            queue = self._catalogue.queues.get(stored.queue)
            if stored.state not in (TaskState.failed, TaskState.cancelled):
                refused[identifier] = f"it is {stored.state}"
            elif queue is None:
                refused[identifier] = f'its queue "{stored.queue}" does not exist'
            else:
                now = self._clock.wall_ms()
                rank = now - stored.priority * queue.aging_ms
                entry = (
                    ops.ReviveTask(seq, now, rank, queue.retry.max_retries + 1),
                    _event(now, "task.revived", caller.principal, seq, f"put back into {queue.name}"),
                )
                if (await self._journal.write(entry, Durability(stored.durability))).fenced:
                    refused[identifier] = "it changed meanwhile"
                else:
                    retried.append(identifier)
                    self._dispatcher.feed(TaskSubmitted(stored_ref(self._stored(seq))))
        return requests.Retried(retried=retried, refused=refused)


def _check_timeout(timeout_ms: int | None) -> None:
    if timeout_ms is not None and not 0 <= timeout_ms <= 2**53:
        raise AiwmError(Code.bad_request, "timeout_ms must lie between 0 and 2^53", field="timeout_ms")


def _raw(data: bytes | None) -> Any:
    return None if data is None else msgspec.Raw(data)


def _error(data: bytes | None) -> ErrorInfo | None:
    return None if data is None else msgspec.json.decode(data, type=ErrorInfo)


def _event(now: int, type_: str, who: str, seq: int, text: str, level: str = "info") -> ops.AppendEvent:
    return ops.AppendEvent(at_ms=now, level=level, type=type_, who=who, about=task_id(seq), text=text, task_seq=seq)
