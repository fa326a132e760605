"""Lessons: kept in memory, stored in the journal, every version of them."""

from __future__ import annotations

import asyncio

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_seq
from engine.contract.records.knowledge import LessonContext, LessonDetail, LessonRow
from engine.contract.requests.lessons import LessonSubmit
from engine.contract.states import Durability
from engine.knowledge.matching import Facts, chosen, given
from engine.ports import Lesson
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers

LESSON, VERSION = "lesson", "lesson_version"
_MOST = 10_000
_BOUNDS = {"title": 120, "insight": 1_000, "step": 300, "name": 64, "pattern": 200}


class Lessons:
    """Everything that was learned. Changes of lessons are written one after the other, so no version is given twice."""

    def __init__(self, journal: Journal, readers: Readers, clock: Clock) -> None:
        self._journal = journal
        self._readers = readers
        self._clock = clock
        self._changing = asyncio.Lock()
        stored = readers.documents(LESSON, limit=_MOST, newest_first=False)
        self._lessons = {it.key: msgspec.json.decode(it.json, type=LessonRow) for it in stored}

    def __len__(self) -> int:
        return len(self._lessons)

    def rows(self) -> list[LessonRow]:
        return list(self._lessons.values())

    def detail(self, identifier: str) -> LessonDetail:
        """Raises `not_found`."""
        row = self._find(identifier)
        stored = self._readers.documents(VERSION, ref=row.id, limit=_MOST)
        earlier = [msgspec.json.decode(it.json, type=LessonRow) for it in stored]
        return LessonDetail(row=row, earlier=tuple(sorted(earlier, key=lambda it: -it.version)))

    def query(self, facts: Facts) -> list[LessonRow]:
        """The lessons for a task in the order in which it would be given them."""
        return chosen(self._lessons.values(), facts)

    def given(self, facts: Facts, room: int) -> tuple[Lesson, ...]:
        """What a task's prompt gets, in so many characters."""
        return given(self.query(facts), room) if self._lessons else ()

    async def submit(self, request: LessonSubmit, by: str) -> LessonRow:
        """Store a lesson or its next version. Raises `bad_request` naming the field, `not_found` for an id that there is not."""
        _check(request)
        async with self._changing:
            now = self._clock.wall_ms()
            before = self._find(request.id) if request.id else None
            context = request.context
            row = LessonRow(
                id=before.id if before is not None else self._next_id(),
                title=request.title.strip(),
                insight=request.insight.strip(),
                steps=request.steps,
                confidence=request.confidence,
                template=context.template,
                queue=context.queue,
                definition=context.definition,
                capabilities=context.capabilities,
                payload=context.payload,
                error=context.error,
                evidence=request.evidence,
                version=before.version + 1 if before is not None else 1,
                by=by,
                created_ms=before.created_ms if before is not None else now,
                updated_ms=now,
            )
            entry: list[ops.Op] = [ops.PutDocument(LESSON, row.id, "", row.created_ms, msgspec.json.encode(row))]
            if before is not None:
                key = f"{before.id}@{before.version}"
                json = msgspec.json.encode(before)
                entry.append(ops.PutDocument(VERSION, key, before.id, before.updated_ms, json))
            else:
                entry.append(ops.PutDocument("counter", LESSON, "", now, row.id.removeprefix("L-").encode()))
            await self._journal.write(entry, Durability.disk)
            self._lessons[row.id] = row
            return row

    async def delete(self, identifier: str) -> None:
        """Raises `not_found`."""
        async with self._changing:
            row = self._find(identifier)
            entry: list[ops.Op] = [ops.DeleteDocument(LESSON, row.id)]
            stored = self._readers.documents(VERSION, ref=row.id, limit=_MOST)
            entry += [ops.DeleteDocument(VERSION, it.key) for it in stored]
            await self._journal.write(entry, Durability.disk)
            del self._lessons[row.id]

    def _find(self, identifier: str) -> LessonRow:
        row = self._lessons.get(identifier)
        if row is None:
            raise AiwmError(
                Code.not_found, f'there is no lesson "{identifier[:40]}"', field="id", fix="aiwm lesson list"
            )
        return row

    def _next_id(self) -> str:
        """Numbers of deleted lessons are not used again: tasks remember which lessons they were given."""
        last = self._readers.document("counter", LESSON)
        return f"L-{1 if last is None else int(last.json) + 1}"


def _check(request: LessonSubmit) -> None:
    context = request.context
    for field, value, bound in (
        ("title", request.title, "title"),
        ("insight", request.insight, "insight"),
        *(("steps", step, "step") for step in request.steps),
    ):
        if not value.strip() or len(value) > _BOUNDS[bound]:
            raise AiwmError(Code.bad_request, f"{field} must have 1 to {_BOUNDS[bound]} characters", field=field)
    for field, value, bound in (
        ("context.template", context.template, "name"),
        ("context.queue", context.queue, "name"),
        ("context.definition", context.definition, "name"),
        ("context.error", context.error, "pattern"),
        *(("context.payload", f"{path}{pattern}", "pattern") for path, pattern in context.payload.items()),
        *(("context.capabilities", name, "name") for name in context.capabilities),
    ):
        if len(value) > _BOUNDS[bound]:
            raise AiwmError(Code.bad_request, f"{field} has more than {_BOUNDS[bound]} characters", field=field)
    if context == LessonContext():
        raise AiwmError(
            Code.bad_request,
            "the lesson does not say for which tasks it is",
            field="context",
            fix="give a queue, template, definition, capabilities, payload or error",
        )
    if not 0 <= request.confidence <= 1:
        raise AiwmError(Code.bad_request, "confidence must lie between 0 and 1", field="confidence")
    if max(len(request.steps), len(request.evidence), len(context.payload), len(context.capabilities)) > 20:
        raise AiwmError(Code.bad_request, "a lesson has at most 20 steps, tasks as evidence, traits and capabilities")
    for identifier in request.evidence:
        try:
            task_seq(identifier)
        except AiwmError:
            message = f'"{identifier[:40]}" is not the id of a task'
            raise AiwmError(Code.bad_request, message, field="evidence", fix="aiwm task list") from None
