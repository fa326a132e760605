"""Requests about what was used, when: sums, series, and the page that says what happened."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from engine.contract.records.operations import FailureRow
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one submitter (or definition, …) used: ended tasks and turns of chats, tokens, US dollars, and the time that workers spent."""

    name: str
    tasks: int
    completed: int
    failed: int
    tokens_in: int
    tokens_out: int
    cost_usd: float
    spent_ms: int
    turns: int = 0


UsageBy = Literal["submitter", "definition", "queue", "pool", "adapter", "agent", "batch", "template", "model"]


class UsageRead(Request[list[UsageRow]], frozen=True, kw_only=True):
    """Who used what: tasks that ended since `since_ms` (Unix time; None: all that are kept), summed `by` submitter, definition, queue,
    pool, adapter, agent, batch, template or model. Most tokens first."""

    method: ClassVar[str] = "usage.read"
    effect: ClassVar[Effect] = Effect.read

    by: UsageBy = "submitter"
    since_ms: int | None = None
    limit: int = 100


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Points of one series, oldest first: (Unix ms, value), `step_ms` apart where something moved."""

    name: str
    step_ms: int
    points: list[tuple[int, float]]


class SamplesRead(Request[list[Series]], frozen=True, kw_only=True):
    """Points of series such as `queue.etl.waiting`, since `since_ms` (Unix time) in steps of 1 s, 10 s or 5 min. Without names: every
    series that has any; a name may end in `*`. With `before` each begins with its last point before `since_ms`: no points are taken while
    nothing moves, so that is what it was then."""

    method: ClassVar[str] = "samples.read"
    effect: ClassVar[Effect] = Effect.read

    names: tuple[str, ...] = ()
    since_ms: int | None = None
    step_ms: int = 10_000
    before: bool = False


class ReportLine(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, with its time."""

    at_ms: int
    who: str
    what: str
    about: str
    text: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What happened between two times. `failed` and `cancelled` tasks are so still; `healed` ones completed after a failed attempt.
    `asked` and `did` are events of the levels ask and audit, the newest last."""

    since_ms: int
    until_ms: int
    completed: int
    failed: int
    cancelled: int
    healed: int
    waiting: int
    running: int
    tokens_in: int
    tokens_out: int
    cost_usd: float
    queues: list[UsageRow]
    failures: list[FailureRow]
    asked: list[ReportLine]
    did: list[ReportLine]
    errors: int


class ReportRead(Request[Report], frozen=True, kw_only=True):
    """What happened since `since_ms` (Unix time): done, failed by cause, healed, asked, used, and what operators did. One page."""

    method: ClassVar[str] = "report.read"
    effect: ClassVar[Effect] = Effect.read

    since_ms: int
