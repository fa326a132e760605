"""Requests about supervision: what is due, what was said, and what workers noted themselves."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from engine.contract.records.knowledge import ReviewRow
from engine.contract.records.notes import Feedback, TaskNotes
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class Supervisor(msgspec.Struct, frozen=True, kw_only=True):
    """A supervisor that something is bound to. `kind` is rules, instance, definition or missing; `binds` says what names it
    (`queue etl`); `rated` and `mean` are its ratings so far, `due` the reviews that wait for it."""

    name: str
    kind: str
    binds: tuple[str, ...]
    rated: int = 0
    mean: float | None = None
    due: int = 0


class SupervisorList(Request[list[Supervisor]], frozen=True, kw_only=True):
    """All supervisors: those that definitions, pools, queues and templates name, and those with ratings or reviews."""

    method: ClassVar[str] = "supervisor.list"
    effect: ClassVar[Effect] = Effect.read


class SupervisorPending(Request[list[ReviewRow]], frozen=True, kw_only=True):
    """Reviews that are due: tasks that ended and wait for their supervisor, the oldest first. `supervisor` asks for one's only."""

    method: ClassVar[str] = "supervisor.pending"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = (
        "getPendingPerformanceReviews",
        "aiWorkerSupervisor.getPendingPerformanceReviews",
    )

    supervisor: str = ""
    limit: int = 100


class SupervisorFeedback(Request[Feedback], frozen=True, kw_only=True):
    """Say something of a task that ran: a rating between 0 and 1, comments, corrections. The rating becomes its record's."""

    method: ClassVar[str] = "supervisor.feedback"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("submitSupervisorFeedback", "aiWorkerSupervisor.submitFeedback")

    id: str
    rating: float | None = None
    comments: str = ""
    corrections: str = ""


class SupervisorShow(Request[list[Feedback]], frozen=True, kw_only=True):
    """What was said of tasks, the latest first: by one supervisor or person (`by`), or of one task (`task`)."""

    method: ClassVar[str] = "supervisor.show"
    effect: ClassVar[Effect] = Effect.read

    by: str = ""
    task: str = ""
    limit: int = 100


class SupervisorReview(Request[ReviewRow], frozen=True, kw_only=True):
    """Let a task that ran be reviewed, again or by another supervisor: a worker definition, a live instance, or rules/NAME."""

    method: ClassVar[str] = "supervisor.review"
    effect: ClassVar[Effect] = Effect.write

    id: str
    supervisor: str = ""


class InsightLog(Request[TaskNotes], frozen=True, kw_only=True):
    """Note something about a task: what workers do of themselves while they work. `level` is debug, info, warn or error."""

    method: ClassVar[str] = "insight.log"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("logOperationalInsight", "aiWorkerInstance.logOperationalInsight")

    id: str
    message: str
    level: str = "info"
    details: dict[str, Any] | None = None


class InsightList(Request[TaskNotes], frozen=True, kw_only=True):
    """What was learned about a task: the lessons it was given, its worker's insights, the feedback on it."""

    method: ClassVar[str] = "insight.list"
    effect: ClassVar[Effect] = Effect.read

    id: str
