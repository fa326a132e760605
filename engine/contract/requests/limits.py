"""Requests about rate limits: what definitions' calls have used of them."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.records.core import Record
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class LimitWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One limit: `used` of `limit` (0: none). `opens_ms` (Unix time) is when it has room again, None if it has."""

    name: str
    used: int
    limit: int
    opens_ms: int | None = None


class LimitRow(Record, frozen=True, kw_only=True):
    """A definition's limits (`id` is its name). `state` is open, limited, or the definition's when it is not active; `under_way` calls are
    reserved now, `waiting` wait; the next may be made at `opens_ms` (Unix time; None: now), `why` says what holds it."""

    state: str
    requests_per_minute: LimitWindow
    tokens_per_minute: LimitWindow
    tokens_per_day: LimitWindow
    instances: LimitWindow
    under_way: int
    waiting: int
    opens_ms: int | None = None
    why: str = ""


class LimitsList(Request[list[LimitRow]], frozen=True, kw_only=True):
    """What every definition with limits has used of them, and when the next call may be made."""

    method: ClassVar[str] = "limits.list"
    effect: ClassVar[Effect] = Effect.read


class LimitsShow(Request[LimitRow], frozen=True, kw_only=True):
    """What one definition has used of its limits."""

    method: ClassVar[str] = "limits.show"
    effect: ClassVar[Effect] = Effect.read

    name: str
