"""Approvals: a request that its asker may not make is parked on disk until a person allows it, refuses it, or its time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.ids import task_seq
from engine.contract.records import NeedRow
from engine.contract.records.approvals import ApprovalRow, ApprovalState
from engine.contract.requests import approvals as requests
from engine.contract.states import Durability
from engine.requests.caller import Caller
from engine.requests.grants import Grant
from engine.requests.table import RequestTable
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers

KIND = "approval"
_MAX_PENDING = 1_000
_MAX_KEPT = 100_000
_MAX_RESULT = 65_536
_SHOWN = 1_000


class Approvals:
    """Parks, shows and decides. A parked request is made at most once: that it is allowed is on disk before it is made, and an engine
    that ends in between does not make it again. `changed` hears when there is more or less to decide."""

    def __init__(
        self,
        table: RequestTable,
        journal: Journal,
        readers: Readers,
        clock: Clock,
        wait_ms: int,
        changed: Callable[[], None],
    ) -> None:
        self._table = table
        self._journal = journal
        self._readers = readers
        self._clock = clock
        self._wait_ms = wait_ms
        self._changed = changed
        self._deciding = asyncio.Lock()
        self._pending: dict[str, ApprovalRow] = {}
        self._last = 0
        self._timer: asyncio.TimerHandle | None = None

    def register(self) -> None:
        self._table.register(requests.ApprovalList, self.all)
        self._table.register(requests.ApprovalShow, self.show)
        self._table.register(requests.ApprovalApprove, self.approve)
        self._table.register(requests.ApprovalReject, self.reject)

    async def start(self) -> None:
        """Take up what an earlier engine parked. What it was about to do when it ended is not done again, and says so."""
        for row in self._stored():
            self._last = max(self._last, int(row.id.removeprefix("ap-")))
            if row.state == ApprovalState.pending:
                self._pending[row.id] = row
            elif row.state == ApprovalState.approved:
                lost = "the engine ended while it was being done: see whether it was"
                await self._put(
                    msgspec.structs.replace(row, state=ApprovalState.unknown.value, reason=lost),
                    "approval.unknown",
                    "warn",
                    lost,
                )
        self._set_timer()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def park(
        self, method: str, params: dict[str, Any], by: str, sources: tuple[str, ...], why: str, task: str | None
    ) -> ApprovalRow:
        """Store a request for a person to decide on. Raises `queue_full` when too many wait, `storage_failed`."""
        if len(self._pending) >= _MAX_PENDING:
            raise AiwmError(
                Code.queue_full,
                f"{_MAX_PENDING} requests wait for approval already",
                fix="aiwm approval list",
                retryable=True,
            )
        self._last += 1
        now = self._clock.wall_ms()
        row = ApprovalRow(
            id=f"ap-{self._last}",
            state=ApprovalState.pending.value,
            method=method,
            params=params,
            by=by,
            why=why,
            asked_ms=now,
            expires_ms=now + self._wait_ms,
            sources=sources,
            task=task,
        )
        self._pending[row.id] = row
        try:
            await self._put(row, "approval.asked", "ask", f"{by} asks for {method}: {why}")
        except AiwmError:
            self._pending.pop(row.id, None)
            raise
        return row

    @property
    def waiting(self) -> int:
        """How many wait for a decision."""
        return len(self._pending)

    def needs(self) -> list[NeedRow]:
        """What waits, for the overview."""
        return [
            NeedRow(
                id=row.id,
                since_ms=row.asked_ms,
                state="asks",
                what=f"{row.by} asks for {row.method}",
                why=row.why,
                press="↵ read, A or B",
                location=f":approvals id:{row.id}",
            )
            for row in self._pending.values()
        ]

    def rows(self) -> list[ApprovalRow]:
        """The latest approvals, decided ones too: what a view shows."""
        found = self._readers.documents(KIND, limit=_SHOWN)
        return [msgspec.json.decode(each.json, type=ApprovalRow) for each in found]

    # -- requests ----------------------------------------------------------------------------------------------------

    async def all(self, request: requests.ApprovalList, _: Caller) -> list[ApprovalRow]:
        rows = self._stored() if request.all else list(self._pending.values())
        return sorted(rows, key=lambda row: row.asked_ms)

    async def show(self, request: requests.ApprovalShow, _: Caller) -> ApprovalRow:
        return self._find(request.id)

    async def approve(self, request: requests.ApprovalApprove, caller: Caller) -> ApprovalRow:
        async with self._deciding:
            row = self._decidable(request.id)
            row = await self._decide(row, ApprovalState.approved, caller.principal, request.reason)
        asker = Caller(
            id=0,
            principal=row.by,
            client=row.id,
            read_only=False,
            send=lambda _: False,
            grant=Grant(sources=frozenset(row.sources), approval=row.id),
        )
        error: ErrorInfo | None = None
        result: Any = None
        try:
            answer = await self._table.handle(row.method, msgspec.Raw(msgspec.json.encode(row.params)), asker)
            result = msgspec.json.decode(answer) if len(answer) <= _MAX_RESULT else f"{len(answer)} bytes, not kept"
        except AiwmError as failure:
            error = failure.info
        state = ApprovalState.done if error is None else ApprovalState.failed
        row = msgspec.structs.replace(row, state=state.value, result=result, error=error)
        said = f"{row.method} was made" if error is None else f"{row.method} failed: {error.message}"
        await self._put(row, f"approval.{state}", "info" if error is None else "error", said)
        return row

    async def reject(self, request: requests.ApprovalReject, caller: Caller) -> ApprovalRow:
        async with self._deciding:
            row = self._decidable(request.id)
            return await self._decide(row, ApprovalState.rejected, caller.principal, request.reason)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _find(self, identifier: str) -> ApprovalRow:
        found = self._readers.document(KIND, identifier)
        if found is None:
            raise AiwmError(
                Code.not_found, f'there is no approval "{identifier[:40]}"', field="id", fix="aiwm approval list --all"
            )
        return msgspec.json.decode(found.json, type=ApprovalRow)

    def _decidable(self, identifier: str) -> ApprovalRow:
        row = self._pending.get(identifier)
        if row is None:
            decided = self._find(identifier)
            raise AiwmError(
                Code.conflict,
                f"{identifier} is {decided.state}{f' by {decided.decided_by}' if decided.decided_by else ''}: it is decided once",
                field="id",
                fix=f"aiwm approval show {identifier}",
            )
        if row.expires_ms <= self._clock.wall_ms():
            raise AiwmError(Code.conflict, f"{identifier} has expired", field="id", fix="let it be asked for again")
        return row

    async def _decide(self, row: ApprovalRow, state: ApprovalState, who: str, reason: str) -> ApprovalRow:
        row = msgspec.structs.replace(
            row, state=state.value, decided_ms=self._clock.wall_ms(), decided_by=who, reason=reason[:500]
        )
        said = f"{row.method} for {row.by}" + (f": {reason[:200]}" if reason else "")
        await self._put(row, f"approval.{state}", "info", said, who)
        self._pending.pop(row.id, None)
        self._changed()
        return row

    async def _put(self, row: ApprovalRow, type_: str, level: str, text: str, who: str = "") -> None:
        now = self._clock.wall_ms()
        entry = (
            ops.PutDocument(KIND, row.id, row.task or "", row.asked_ms, msgspec.json.encode(row)),
            ops.AppendEvent(
                at_ms=now,
                level=level,
                type=type_,
                who=who or row.by,
                about=row.id,
                text=text[:2000],
                task_seq=task_seq(row.task) if row.task else None,
            ),
        )
        await self._journal.write(entry, Durability.disk)
        self._set_timer()
        self._changed()

    def _stored(self) -> list[ApprovalRow]:
        found = self._readers.documents(KIND, limit=_MAX_KEPT)
        return [msgspec.json.decode(document.json, type=ApprovalRow) for document in found]

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            wait_ms = min(row.expires_ms for row in self._pending.values()) - self._clock.wall_ms()
            # A day at most: the wall clock may be set meanwhile.
            delay = min(max(wait_ms / 1000, 0.0) + 0.001, 86_400.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        self._timer = None
        self._expiring = asyncio.ensure_future(self._expire())

    async def _expire(self) -> None:
        async with self._deciding:
            now = self._clock.wall_ms()
            for row in [row for row in self._pending.values() if row.expires_ms <= now]:
                try:
                    await self._decide(row, ApprovalState.expired, "engine", "nobody decided in time")
                except AiwmError:
                    return  # storage fails: it cannot be approved either, and is looked at again at the next change
        self._set_timer()
