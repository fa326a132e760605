"""Which lessons are for which task, and in which words they are given to it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import msgspec

from engine.contract.query import fold, is_glob
from engine.contract.records.knowledge import LessonContext, LessonRow
from engine.ports import Lesson

MAX_LESSONS = 5
MAX_CHARS = 2_000
"""No prompt gets more lessons, or more characters of them, than these."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What lessons are matched against. `payload` is asked for when a lesson wants to know, `error` (of the attempt before) too."""

    template: str
    queue: str
    definition: str
    capabilities: frozenset[str]
    payload: Callable[[], Any]
    error: Callable[[], str]


def context_of(row: LessonRow) -> LessonContext:
    return LessonContext(
        template=row.template,
        queue=row.queue,
        definition=row.definition,
        capabilities=row.capabilities,
        payload=row.payload,
        error=row.error,
    )


def fits(context: LessonContext, facts: Facts) -> bool:
    """Whether a task is one that a lesson is for."""
    for wanted, found in (
        (context.queue, facts.queue),
        (context.definition, facts.definition),
        (context.template, facts.template),
    ):
        if wanted and wanted != found:
            return False
    if not facts.capabilities.issuperset(context.capabilities):
        return False
    if context.payload:
        payload = facts.payload()
        if not all(_trait(payload, path, pattern) for path, pattern in context.payload.items()):
            return False
    return not context.error or _in_text(context.error, facts.error())


def weight(context: LessonContext) -> int:
    """How special a context is: how much of a task it names."""
    named = sum(bool(name) for name in (context.template, context.queue, context.definition, context.error))
    return named + len(context.capabilities) + len(context.payload)


def chosen(rows: Iterable[LessonRow], facts: Facts) -> list[LessonRow]:
    """The lessons for a task: the most special first, then the surest, then the oldest."""
    found = [row for row in rows if fits(context_of(row), facts)]
    return sorted(found, key=lambda row: (-weight(context_of(row)), -row.confidence, row.created_ms, row.id))


def given(rows: Iterable[LessonRow], room: int) -> tuple[Lesson, ...]:
    """As many of them as a prompt has room for, in `room` characters at most. One that is too long makes way for the next."""
    lessons: list[Lesson] = []
    room = min(room, MAX_CHARS)
    for row in rows:
        text = wording(row)
        if len(text) <= room and len(lessons) < MAX_LESSONS:
            lessons.append(Lesson(id=row.id, version=row.version, title=row.title, text=text))
            room -= len(text)
    return tuple(lessons)


def wording(row: LessonRow) -> str:
    """A lesson as a prompt has it, on a line."""
    steps = " ".join(f"({number}) {step}" for number, step in enumerate(row.steps, 1))
    return " ".join(f"{row.title}: {row.insight} {steps}".split())


def _trait(payload: Any, path: str, pattern: str) -> bool:
    value = payload
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return _glob(fold(pattern)).fullmatch(fold(text)) is not None


def _in_text(pattern: str, text: str) -> bool:
    wanted, found = fold(pattern), fold(text)
    return _glob(wanted).fullmatch(found) is not None if is_glob(wanted) else bool(found) and wanted in found


@lru_cache(maxsize=256)
def _glob(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(character) or re.escape(character) for character in pattern), re.DOTALL)
