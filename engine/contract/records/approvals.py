"""Records of approvals: requests that an agent made and only a person may allow."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from engine.contract.errors import ErrorInfo
from engine.contract.records.core import Record


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


ROWS: dict[str, type[Record]] = {"approvals": ApprovalRow}
