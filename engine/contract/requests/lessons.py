"""Requests about lessons: distilled knowledge that is put into the prompts of matching tasks."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from engine.contract.records.knowledge import LessonContext, LessonDetail, LessonRow
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class Taught(msgspec.Struct, frozen=True, kw_only=True):
    """A lesson was stored, as this version."""

    id: str
    version: int


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    id: str


class LessonSubmit(Request[Taught], frozen=True, kw_only=True):
    """Store a lesson, or a new version of one (`id`). It says for which tasks it is; earlier versions are kept.

    `confidence` lies between 0 and 1; `evidence` are ids of tasks that it was learned from."""

    method: ClassVar[str] = "lesson.submit"
    effect: ClassVar[Effect] = Effect.write
    aliases: ClassVar[tuple[str, ...]] = ("submitDistilledLesson", "aiWorkerKnowledgeBase.submitDistilledLesson")

    title: str
    insight: str
    context: LessonContext = LessonContext()
    steps: tuple[str, ...] = ()
    confidence: float = 0.5
    evidence: tuple[str, ...] = ()
    id: str = ""


class LessonList(Request[list[LessonRow]], frozen=True, kw_only=True):
    """All lessons, or those that a filter finds: `queue:etl confidence>0.7 iban`."""

    method: ClassVar[str] = "lesson.list"
    effect: ClassVar[Effect] = Effect.read

    where: str = ""


class LessonShow(Request[LessonDetail], frozen=True, kw_only=True):
    """A lesson with its earlier versions."""

    method: ClassVar[str] = "lesson.show"
    effect: ClassVar[Effect] = Effect.read

    id: str


class LessonQuery(Request[list[LessonRow]], frozen=True, kw_only=True):
    """The lessons that a task would be given, in that order: of a task that there is (`task`), or of one described by its template,
    queue, definition, capabilities, payload and the error of its last attempt."""

    method: ClassVar[str] = "lesson.query"
    effect: ClassVar[Effect] = Effect.read
    aliases: ClassVar[tuple[str, ...]] = ("queryLessons", "aiWorkerKnowledgeBase.queryLessons")

    task: str = ""
    template: str = ""
    queue: str = ""
    definition: str = ""
    capabilities: tuple[str, ...] = ()
    payload: dict[str, Any] = {}
    error: str = ""


class LessonDelete(Request[Forgotten], frozen=True, kw_only=True):
    """Delete a lesson with all its versions."""

    method: ClassVar[str] = "lesson.delete"
    effect: ClassVar[Effect] = Effect.destructive

    id: str
