"""Requests about batches: many tasks that belong together, in an order of their own."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from engine.contract.errors import ErrorInfo
from engine.contract.records.operations import BatchRow
from engine.contract.requests.base import Request
from engine.contract.requests.tasks import Cancelled
from engine.contract.states import Effect


class BatchItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One task of a batch: its place in the order (from 0), a key that is unique in the batch ("": the place), and its payload."""

    index: int
    payload: dict[str, Any]
    key: str = ""


class BatchRefusal(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    error: ErrorInfo


class BatchAdded(msgspec.Struct, frozen=True, kw_only=True):
    """`added` are new, `known` had been added before (nothing was done for them). Refused ones are not stored."""

    batch: str
    added: int = 0
    known: int = 0
    refused: list[BatchRefusal] = []


class BatchAdd(Request[BatchAdded], frozen=True, kw_only=True):
    """Add tasks to a batch, making it if it is new. Adding an item again does nothing, so a stopped submit can be run again.

    `dry_run` only says which items would be refused. At most 1,000 items a request."""

    method: ClassVar[str] = "batch.add"
    effect: ClassVar[Effect] = Effect.write

    batch: str
    queue: str = ""
    items: list[BatchItem]
    template: str | None = None
    definition: str | None = None
    priority: int | None = None
    max_attempts: int | None = None
    tenant: str = ""
    dry_run: bool = False


class BatchList(Request[list[BatchRow]], frozen=True, kw_only=True):
    """Batches, the newest first."""

    method: ClassVar[str] = "batch.list"
    effect: ClassVar[Effect] = Effect.read

    limit: int = 100


class BatchShow(Request[BatchRow], frozen=True, kw_only=True):
    """One batch: how far it is, and when it should be done."""

    method: ClassVar[str] = "batch.show"
    effect: ClassVar[Effect] = Effect.read

    name: str


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a task of a batch ended, or that it has not. This is a line of the output file."""

    index: int
    key: str
    id: str
    state: str
    result: Any | None = None
    error: ErrorInfo | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None


class BatchPage(msgspec.Struct, frozen=True, kw_only=True):
    """Results in the order of the batch, up to place `upto`. `more` says whether any come after it; `row` is how far the batch is."""

    results: list[BatchResult]
    upto: int
    more: bool
    row: BatchRow


class BatchResults(Request[BatchPage], frozen=True, kw_only=True):
    """Results of a batch in its order, those after place `after`. With `ended_only` the page stops before the first task that has not
    ended; `wait_ms` waits so long for that one."""

    method: ClassVar[str] = "batch.results"
    effect: ClassVar[Effect] = Effect.read

    name: str
    after: int = -1
    limit: int = 500
    ended_only: bool = False
    wait_ms: int = 0


class BatchWait(Request[BatchRow], frozen=True, kw_only=True):
    """Wait until all tasks of a batch have ended. After `timeout_ms` the answer says how far it is."""

    method: ClassVar[str] = "batch.wait"
    effect: ClassVar[Effect] = Effect.read

    name: str
    timeout_ms: int | None = None


class BatchCancel(Request[Cancelled], frozen=True, kw_only=True):
    """Cancel what of a batch has not ended. With `delay_ms` it is an operation that can be undone until then."""

    method: ClassVar[str] = "batch.cancel"
    effect: ClassVar[Effect] = Effect.destructive

    name: str
    reason: str = ""
    dry_run: bool = False
    delay_ms: int = 0
