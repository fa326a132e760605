"""Requests about failures: equal ones are one line with a count."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from engine.contract.records.operations import FailureRow
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What failures have in common: `value` of `field` in `count` of those looked at."""

    field: str
    value: str
    count: int


class FailureDetail(msgspec.Struct, frozen=True, kw_only=True):
    """Failures alike: the row, the last lines of the process it happened in, sample tasks (the newest first), how many tasks are
    failed with it now, and what these have in common."""

    row: FailureRow
    failed_now: int
    tasks: tuple[str, ...] = ()
    common: tuple[Common, ...] = ()
    stderr: tuple[str, ...] = ()


class FailureList(Request[list[FailureRow]], frozen=True, kw_only=True):
    """Failures by their fingerprint, those that happened last first. `since_ms` is Unix time."""

    method: ClassVar[str] = "failure.list"
    effect: ClassVar[Effect] = Effect.read

    since_ms: int | None = None
    limit: int = 100


class FailureShow(Request[FailureDetail], frozen=True, kw_only=True):
    """Failures alike: how often, since when, which tasks, and what they have in common."""

    method: ClassVar[str] = "failure.show"
    effect: ClassVar[Effect] = Effect.read

    id: str
