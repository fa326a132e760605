"""Operations: changes that somebody asked for, kept as documents, so that they have an id, can wait, and can be taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.records.operations import OperationRow
from engine.contract.requests.operations import OperationDetail
from engine.contract.states import Durability
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers

KIND = "operation"
OPEN = "open"
CLOSED = "closed"
_OPEN_STATES = frozenset({"waiting", "running", "canary"})
_LOOK_BACK = 1_000
_HELD_MS = 86_400_000


class Was(msgspec.Struct, frozen=True, array_like=True):
    """What a task was before it was changed: enough to put it back. `payload` are the old values of those of the payload's fields that
    were changed, if any were; `adapter` the adapters that it asked for."""

    state: str
    queue: str
    priority: int
    rank: int
    attempts_left: int
    payload: dict[str, Any] | None = None
    adapter: str = ""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A change as it is stored. `request` and `settings` say what to do, `ids` (fixed when it was asked for) to what. `waits` are those
    of a retry that follow when the `canaries` have completed; `before` is what a change of something else than tasks needs to be put
    back."""

    id: str
    request: str
    state: str
    by: str
    at_ms: int
    settings: dict[str, Any] = {}
    ids: tuple[str, ...] = ()
    reason: str = ""
    due_ms: int | None = None
    ended_ms: int | None = None
    done: tuple[str, ...] = ()
    refused: dict[str, str] = {}
    was: dict[str, Was] = {}
    canaries: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    before: dict[str, Any] | None = None
    text: str = ""

    @property
    def row(self) -> OperationRow:
        return OperationRow(
            id=self.id,
            request=self.request,
            state=self.state,
            by=self.by,
            at_ms=self.at_ms,
            due_ms=self.due_ms,
            ended_ms=self.ended_ms,
            count=len(self.ids),
            done=len(self.done),
            refused=len(self.refused),
            reason=self.reason,
            text=self.text,
        )

    @property
    def detail(self) -> OperationDetail:
        return OperationDetail(row=self.row, ids=self.ids, settings=self.settings, done=self.done, refused=self.refused)


class OperationLog:
    """Numbers, stores and finds operations. `changed` hears of every one that is written."""

    def __init__(self, journal: Journal, readers: Readers, clock: Clock, changed: Callable[[], None]) -> None:
        self._journal = journal
        self._readers = readers
        self._clock = clock
        self._changed = changed
        self._last = 0
        self._held: list[OperationRow] | None = None

    def begin(self, request: str, by: str, **fields: Any) -> Operation:
        """A new operation with the next number. It exists once it is written."""
        if not self._last:
            self._last = max((_number(it.id) for it in self.newest(_LOOK_BACK)), default=0)
        self._last += 1
        return Operation(id=f"op-{self._last}", request=request, by=by, at_ms=self._clock.wall_ms(), **fields)

    async def write(self, operation: Operation, *events: ops.Op) -> Operation:
        """Store an operation as it is now; on disk when this returns. The same one, for chaining."""
        await self._journal.write((self.put(operation), *events), Durability.disk)
        self._held = None
        self._changed()
        return operation

    def put(self, operation: Operation) -> ops.PutDocument:
        """What writes it, for an entry that does more."""
        self._held = None
        ref = OPEN if operation.state in _OPEN_STATES else CLOSED
        return ops.PutDocument(KIND, operation.id, ref, operation.at_ms, msgspec.json.encode(operation))

    def audit(
        self, operation: Operation, text: str, who: str | None = None, type_: str | None = None
    ) -> ops.AppendEvent:
        """The audit event of an operator's action."""
        reason = f" ({operation.reason})" if operation.reason else ""
        return ops.AppendEvent(
            at_ms=self._clock.wall_ms(),
            level="audit",
            type=type_ or operation.request,
            who=who or operation.by,
            about=operation.id,
            text=f"{text}{reason}"[:500],
            correlation=operation.id,
        )

    def find(self, identifier: str) -> Operation:
        stored = self._readers.document(KIND, identifier)
        if stored is None:
            raise AiwmError(
                Code.not_found,
                f'operation "{identifier[:40]}" does not exist',
                field="id",
                fix="aiwm operation list",
            )
        return msgspec.json.decode(stored.json, type=Operation)

    def newest(self, limit: int) -> list[Operation]:
        """Operations, the newest first."""
        return [msgspec.json.decode(it.json, type=Operation) for it in self._readers.documents(KIND, limit=limit)]

    def held(self) -> list[OperationRow]:
        """Operations of the last day whose first tasks failed, so that the rest stays as it was until somebody looks."""
        if self._held is None:
            since_ms = self._clock.wall_ms() - _HELD_MS
            found = self._readers.documents(KIND, ref=CLOSED, since_ms=since_ms, limit=_LOOK_BACK)
            rows = (msgspec.json.decode(it.json, type=Operation).row for it in found)
            self._held = [row for row in rows if row.state == "held"]
        return self._held

    def open(self) -> list[Operation]:
        """Operations that are not over: they wait, run, or wait for their first tasks."""
        found = self._readers.documents(KIND, ref=OPEN, limit=10_000, newest_first=False)
        return [msgspec.json.decode(it.json, type=Operation) for it in found]


def _number(identifier: str) -> int:
    digits = identifier.removeprefix("op-")
    return int(digits) if digits.isdigit() else 0
