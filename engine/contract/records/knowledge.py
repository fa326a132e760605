"""Records of what is learned: lessons, what supervisors say of tasks, and what workers note while they work."""

from __future__ import annotations

import msgspec

from engine.contract.records.core import Record


class LessonContext(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The tasks that a lesson is for: all that is said here must fit. `template`, `queue` and `definition` are names; `capabilities`
    must all be the worker's; `payload` maps fields (`customer.country`) to values or globs; `error` is a glob or a part of the error
    of the attempt before (`iban`), so such a lesson is given to retries."""

    template: str = ""
    queue: str = ""
    definition: str = ""
    capabilities: tuple[str, ...] = ()
    payload: dict[str, str] = {}
    error: str = ""


class LessonRow(Record, frozen=True, kw_only=True):
    """A lesson, version and all. `confidence` lies between 0 and 1, `evidence` are ids of tasks, `by` who wrote this version."""

    title: str
    insight: str
    steps: tuple[str, ...] = ()
    confidence: float
    template: str = ""
    queue: str = ""
    definition: str = ""
    capabilities: tuple[str, ...] = ()
    payload: dict[str, str] = {}
    error: str = ""
    evidence: tuple[str, ...] = ()
    version: int
    by: str
    created_ms: int
    updated_ms: int


class LessonDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A lesson with its earlier versions, the newest first."""

    row: LessonRow
    earlier: tuple[LessonRow, ...] = ()


class ReviewRow(Record, frozen=True, kw_only=True):
    """A review of a task that is due: `supervisor` is who it waits for and `level` what bound it to the task."""

    task: str
    supervisor: str
    level: str
    attempt: int
    due_ms: int
    tries: int = 0
    note: str = ""


ROWS: dict[str, type[Record]] = {"lessons": LessonRow, "reviews": ReviewRow}
