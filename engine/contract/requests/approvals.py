"""Requests about approvals: what an agent asked for and only a person may allow."""

from __future__ import annotations

from typing import ClassVar

from engine.contract.records.approvals import ApprovalRow
from engine.contract.requests.base import Request
from engine.contract.states import Effect


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
