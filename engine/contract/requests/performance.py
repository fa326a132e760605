"""Requests about performance: records of what tasks took and came to, and what they sum up to."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from engine.contract.records import RecordRow, SummaryRow
from engine.contract.requests.base import Request
from engine.contract.states import Effect

SummaryBy = Literal["definition", "pool", "queue"]


class RecordPage(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a filter; `total` rows match (`exact` False: at least so many)."""

    rows: list[RecordRow]
    total: int
    exact: bool = True


class PerfList(Request[RecordPage], frozen=True, kw_only=True):
    """Performance records, one a task that ended, that match a filter: `definition:nano success:true duration>5s cost>0.01`; the latest
    first. The seeds' filters are task, instance, definition, success, duration and cost. Every task is a one-shot call of the worker:
    `instance:stateless*`, the seeds' word for those, matches all."""

    method: ClassVar[str] = "perf.list"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("aiWorkerPerformance.getRecords",)

    where: str = ""
    limit: int = 100
    offset: int = 0


class PerfSummary(Request[list[SummaryRow]], frozen=True, kw_only=True):
    """What each definition, pool or queue came to, over everything that ever ended: attempts, successes, rate, mean duration, tokens,
    cost, quality, last activity, instances."""

    method: ClassVar[str] = "perf.summary"
    effect: ClassVar[Effect] = Effect.read

    by: SummaryBy = "definition"
