"""Requests about batches."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.definitions import NAME_PATTERN
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.ids import task_id
from engine.contract.records.operations import BatchRow
from engine.contract.requests import batches as requests
from engine.contract.requests.tasks import Cancelled, Plan, PlanCost, TaskAck, TaskSubmit
from engine.contract.states import Durability, TaskState
from engine.control.batches import KIND, Batch, Batches
from engine.control.operations.changes import ChangeOperations
from engine.control.submission import Submission
from engine.control.waiters import Waiters
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store import ops
from engine.store.store import Store

MAX_ITEMS = 1_000
MAX_PAGE = 1_000
MAX_CANCEL = 100_000
_PAGE_BYTES = 4 * 2**20
_AT_ONCE = 500


class BatchOperations:
    """Adds to batches, says how far they are, and gives out results in order."""

    def __init__(
        self,
        submission: Submission,
        changes: ChangeOperations,
        waiters: Waiters,
        store: Store,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self._submission = submission
        self._changes = changes
        self._waiters = waiters
        self._journal = store.journal
        self._readers = store.readers
        self._clock = clock
        self._changed = changed
        self.batches = Batches(store, clock)

    def register(self, table: RequestTable) -> None:
        table.register(requests.BatchAdd, self.add)
        table.register(requests.BatchList, self.list)
        table.register(requests.BatchShow, self.show)
        table.register(requests.BatchResults, self.results)
        table.register(requests.BatchWait, self.wait)
        table.register(requests.BatchCancel, self.cancel)

    # -- in ------------------------------------------------------------------------------------------------------------

    async def add(self, request: requests.BatchAdd, caller: Caller) -> requests.BatchAdded:
        self._check(request)
        submits = [self._submit(request, item) for item in request.items]
        if not request.dry_run:
            await self._make(request, submits, caller)
        answers: list[Any] = []
        for start in range(0, len(submits), _AT_ONCE):
            part = submits[start : start + _AT_ONCE]
            answers += await asyncio.gather(
                *(self._one(submit, caller.principal, request.dry_run) for submit in part), return_exceptions=True
            )
        refused = []
        for item, answer in zip(request.items, answers, strict=True):
            if isinstance(answer, AiwmError) and answer.code not in (Code.storage_failed, Code.engine_stopping):
                refused.append(requests.BatchRefusal(index=item.index, error=answer.info))
            elif isinstance(answer, BaseException):
                raise answer
        if not request.dry_run:
            self._changed()
        known = sum(isinstance(answer, TaskAck) and answer.duplicate for answer in answers)
        return requests.BatchAdded(
            batch=request.batch, added=len(answers) - known - len(refused), known=known, refused=refused
        )

    def _check(self, request: requests.BatchAdd) -> None:
        if not re.fullmatch(NAME_PATTERN, request.batch):
            raise AiwmError(
                Code.bad_request,
                f'"{request.batch[:80]}" is no name for a batch: letters, digits, dot, dash and underscore, at most 64',
                field="batch",
            )
        if not 1 <= len(request.items) <= MAX_ITEMS:
            raise AiwmError(
                Code.bad_request, f"{len(request.items)} items; a request takes 1 to {MAX_ITEMS}", field="items"
            )
        for item in request.items:
            if item.index < 0 or len(item.key) > 200:
                raise AiwmError(
                    Code.bad_request,
                    f"item {item.index}: index counts from 0, and a key has at most 200 characters",
                    field="items",
                )

    def _submit(self, request: requests.BatchAdd, item: requests.BatchItem) -> TaskSubmit:
        return TaskSubmit(
            queue=request.queue,
            payload=item.payload,
            priority=request.priority,
            definition=request.definition,
            tenant=request.tenant,
            max_attempts=request.max_attempts,
            # One key in two batches is two tasks.
            idempotency_key=f"{request.batch}:{item.key or item.index}",
            batch=request.batch,
            template=request.template,
            metadata={"index": item.index, "key": item.key} if item.key else {"index": item.index},
        )

    async def _one(self, submit: TaskSubmit, principal: str, dry_run: bool) -> TaskAck | None:
        if not dry_run:
            return await self._submission.submit(submit, principal)
        try:
            self._submission.check(submit)
        except AiwmError as error:
            # A queue that is full now need not be when the task comes.
            if error.code != Code.queue_full:
                raise
        return None

    async def _make(self, request: requests.BatchAdd, submits: list[TaskSubmit], caller: Caller) -> None:
        """Remember the batch, if it is new. Raises what is wrong with all of its items alike."""
        queue = self._submission.queue_of(submits[0])
        known = self.batches.find(request.batch)
        if known is not None:
            if known.queue != queue:
                raise AiwmError(
                    Code.conflict,
                    f'batch "{request.batch}" is one of queue "{known.queue}", not of "{queue}"',
                    field="batch",
                    fix="another name",
                )
            return
        now = self._clock.wall_ms()
        batch = Batch(queue=queue, by=caller.principal, at_ms=now, template=request.template)
        put = ops.PutDocument(KIND, request.batch, queue, now, msgspec.json.encode(batch))
        event = ops.AppendEvent(
            at_ms=now,
            level="audit",
            type="batch.add",
            who=caller.principal,
            about=request.batch,
            text=f"a batch of queue {queue}" + (f", template {request.template}" if request.template else ""),
        )
        await self._journal.write((put, event), Durability.disk)

    # -- out -----------------------------------------------------------------------------------------------------------

    async def list(self, request: requests.BatchList, _: Caller) -> list[BatchRow]:
        if not 1 <= request.limit <= 10_000:
            raise AiwmError(
                Code.bad_request, f"limit is {request.limit}, but must lie between 1 and 10000", field="limit"
            )
        return self.batches.rows(request.limit)

    async def show(self, request: requests.BatchShow, _: Caller) -> BatchRow:
        return self.batches.row(request.name)

    async def results(self, request: requests.BatchResults, _: Caller) -> requests.BatchPage:
        if not 1 <= request.limit <= MAX_PAGE or not 0 <= request.wait_ms <= 3_600_000:
            raise AiwmError(
                Code.bad_request,
                f"limit must lie between 1 and {MAX_PAGE}, wait_ms between 0 and an hour",
                field="limit",
            )
        self.batches.get(request.name)
        order = await self.batches.order(request.name)
        at = order.after(request.after)
        if request.ended_only and request.wait_ms and at < len(order):
            await self._ended(order.seqs[at], request.wait_ms / 1000)
        found: list[requests.BatchResult] = []
        size = 0
        while at < len(order) and len(found) < request.limit and size < _PAGE_BYTES:
            one, length = self._result(order.places[at], order.seqs[at])
            if request.ended_only and (one is None or not TaskState(one.state).ended):
                break
            if one is not None:
                found.append(one)
            size += length
            at += 1
        upto = order.places[at - 1] if at else -1
        return requests.BatchPage(results=found, upto=upto, more=at < len(order), row=self.batches.row(request.name))

    def _result(self, place: int, seq: int) -> tuple[requests.BatchResult | None, int]:
        """A line of the output, and about how many bytes it has. None for a task that retention removed."""
        stored = self._readers.task(seq)
        if stored is None:
            return None, 0
        result, error = self._readers.result(seq) if TaskState(stored.state).ended else (None, None)
        metadata = msgspec.json.decode(stored.metadata) if stored.metadata else {}
        line = requests.BatchResult(
            index=place,
            key=str(metadata.get("key", "")),
            id=task_id(seq),
            state=stored.state,
            result=None if result is None else msgspec.Raw(result),
            error=None if error is None else msgspec.json.decode(error, type=ErrorInfo),
            tokens_in=stored.tokens_in,
            tokens_out=stored.tokens_out,
        )
        return line, len(result or b"") + len(error or b"") + 100

    async def wait(self, request: requests.BatchWait, _: Caller) -> BatchRow:
        deadline = None if request.timeout_ms is None else time.monotonic() + max(0, request.timeout_ms) / 1000
        self.batches.get(request.name)
        order = await self.batches.order(request.name)
        for number, seq in enumerate(order.seqs):
            left = None if deadline is None else deadline - time.monotonic()
            if not await self._ended(seq, left):
                break
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return self.batches.row(request.name)

    async def _ended(self, seq: int, timeout_s: float | None) -> bool:
        """Wait for a task's end; False when the time was up first."""
        ended = self._waiters.wait(seq)
        try:
            stored = self._readers.task(seq)
            if stored is None or TaskState(stored.state).ended:
                return True
            done, _ = await asyncio.wait([ended], timeout=None if timeout_s is None else max(0.0, timeout_s))
            return bool(done)
        finally:
            ended.cancel()

    async def cancel(self, request: requests.BatchCancel, caller: Caller) -> Cancelled:
        self.batches.get(request.name)
        order = await self.batches.order(request.name)
        open_ones = []
        running = 0
        for number, seq in enumerate(order.seqs):
            stored = self._readers.task(seq)
            if stored is not None and not TaskState(stored.state).ended:
                open_ones.append(task_id(seq))
                running += stored.state == TaskState.processing
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if len(open_ones) > MAX_CANCEL:
            raise AiwmError(
                Code.too_many_rows,
                f"{len(open_ones):,} tasks have not ended, one change takes at most {MAX_CANCEL:,}",
                field="name",
                fix=f"aiwm queue pause, then aiwm task cancel --where 'batch:{request.name} …'",
            )
        if request.dry_run:
            plan = Plan(
                request=request.method,
                effect=request.effect.value,
                ids=open_ones,
                count=len(open_ones),
                cost=PlanCost(running=running),
            )
            return Cancelled(plan=plan)
        return await self._changes.cancel_ids(open_ones, request.reason, request.delay_ms, caller)
