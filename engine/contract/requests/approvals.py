"""Requests about approvals: what an agent asked for and only a person may allow."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from engine.contract.errors import ErrorInfo
from engine.contract.records import Record
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class ApprovalState(StrEnum):
    """`approved`: allowed, and being done; `done` and `failed`: how that ended; `unknown`: the engine ended while it was being done."""

    pending = "pending"
    approved = "approved"
    done = "done"
    failed = "failed"
    rejected = "rejected"
    expired = "expired"
    unknown = "unknown"


class ApprovalRow(Record, frozen=True, kw_only=True):
    """A parked request. `by` is the principal that asked, `task` the task in which it did, `params` what the request would be called
    with, `decided_by` who approved or rejected it and `reason` why."""

    state: str
    method: str
    params: dict[str, Any]
    by: str
    why: str
    asked_ms: int
    expires_ms: int
    sources: tuple[str, ...] = ()
    task: str | None = None
    decided_ms: int | None = None
    decided_by: str = ""
    reason: str = ""
    result: Any = None
    error: ErrorInfo | None = None


class ApprovalList(Request[list[ApprovalRow]], frozen=True, kw_only=True):
    """What waits for a person's approval, oldest first; with `all` what was decided too."""

    method: ClassVar[str] = "approval.list"
    effect: ClassVar[Effect] = Effect.read

    all: bool = False


class ApprovalShow(Request[ApprovalRow], frozen=True, kw_only=True):
    """One parked request: who asked for what, in which task, and what became of it."""

    method: ClassVar[str] = "approval.show"
    effect: ClassVar[Effect] = Effect.read

    id: str


class ApprovalApprove(Request[ApprovalRow], frozen=True, kw_only=True):
    """Allow a parked request. It is made once, now, on behalf of whoever asked; the answer has its result or its error."""

    method: ClassVar[str] = "approval.approve"
    effect: ClassVar[Effect] = Effect.write

    id: str
    reason: str = ""


class ApprovalReject(Request[ApprovalRow], frozen=True, kw_only=True):
    """Refuse a parked request: it will never be made."""

    method: ClassVar[str] = "approval.reject"
    effect: ClassVar[Effect] = Effect.write

    id: str
    reason: str = ""
