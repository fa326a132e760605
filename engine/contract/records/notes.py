"""What is kept about one task beside its row: the lessons it was given, what its worker noted, what was said of it."""

from __future__ import annotations

from typing import Any

import msgspec


class LessonUsed(msgspec.Struct, frozen=True, kw_only=True):
    """A lesson that was in a task's prompt, in the version it had then."""

    id: str
    version: int
    title: str = ""


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor or a person says of a task. `rating` lies between 0 and 1 (None: none given), `by` is whose it is: a
    supervisor's reference or a principal."""

    id: str
    task: str
    rating: float | None
    comments: str
    corrections: str = ""
    by: str
    at_ms: int


class Insight(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker noted while it worked on a task."""

    at_ms: int
    level: str
    message: str
    details: Any | None = None
    attempt: int = 1
    by: str = ""


class TaskNotes(msgspec.Struct, frozen=True, kw_only=True):
    """What was learned about one task: the lessons it was given, what its worker noted, what was said of it."""

    lessons: tuple[LessonUsed, ...] = ()
    insights: tuple[Insight, ...] = ()
    feedback: tuple[Feedback, ...] = ()
