"""What is kept about one task beside its own rows: the lessons it was given, its worker's insights, the feedback on it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_id
from engine.contract.records.notes import Feedback, Insight, LessonUsed, TaskNotes
from engine.contract.states import Durability
from engine.ports import Lesson
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers

INSIGHT, FEEDBACK, USED = "insight", "feedback", "context"
LEVELS = ("debug", "info", "warn", "error")
MOST_INSIGHTS: Final = 100
"""A task's worker may note so much in one attempt; what is more is dropped, and the last note says so."""
_MESSAGE = 500
_DETAILS = 4_096


class Notes:
    """Reads and writes them. An insight is an event of its task's timeline too."""

    def __init__(self, journal: Journal, readers: Readers, clock: Clock) -> None:
        self._journal = journal
        self._readers = readers
        self._clock = clock
        self._logging = asyncio.Lock()

    def of(self, seq: int) -> TaskNotes:
        """Everything about a task."""
        task = task_id(seq)
        used = self._readers.document(USED, task)
        insights = self._readers.documents(INSIGHT, ref=task, limit=10 * MOST_INSIGHTS, newest_first=False)
        feedback = self._readers.documents(FEEDBACK, ref=task)
        return TaskNotes(
            lessons=() if used is None else msgspec.json.decode(used.json, type=tuple[LessonUsed, ...]),
            insights=tuple(msgspec.json.decode(it.json, type=Insight) for it in insights),
            feedback=tuple(msgspec.json.decode(it.json, type=Feedback) for it in feedback),
        )

    def used(self, seq: int, lessons: tuple[Lesson, ...], now_ms: int) -> ops.PutDocument:
        """What must be written with a start that was given lessons."""
        given = [LessonUsed(id=it.id, version=it.version, title=it.title) for it in lessons]
        return ops.PutDocument(USED, task_id(seq), task_id(seq), now_ms, msgspec.json.encode(given))

    def insight(self, seq: int, attempt: int, number: int, said: Insight) -> tuple[ops.Op, ...]:
        """What an insight writes; `number` counts them within the attempt."""
        task = task_id(seq)
        put = ops.PutDocument(
            INSIGHT, f"{task}/{attempt}/{said.by}/{number:03}", task, said.at_ms, msgspec.json.encode(said)
        )
        # A worker says what it likes: it is no error of the engine, and calls nobody.
        level = "warn" if said.level in ("warn", "error") else "info"
        event = ops.AppendEvent(
            at_ms=said.at_ms, level=level, type="task.insight", who=said.by, about=task, text=said.message, task_seq=seq
        )
        return put, event

    def made(self, level: str, message: str, details: Any, attempt: int, by: str) -> Insight:
        """An insight of what somebody said. Raises `bad_request` for what cannot be one."""
        if level not in LEVELS:
            raise AiwmError(
                Code.bad_request, f'level "{str(level)[:20]}" is none of {", ".join(LEVELS)}', field="level"
            )
        if not isinstance(message, str) or not message.strip():
            raise AiwmError(Code.bad_request, "the message is empty", field="message")
        try:
            size = 0 if details is None else len(msgspec.json.encode(details))
            message.encode()
        except (TypeError, ValueError) as error:
            raise AiwmError(Code.bad_request, f"an insight must be JSON: {error}", field="details") from None
        if size > _DETAILS:
            raise AiwmError(Code.bad_request, f"details have {size} bytes, more than {_DETAILS}", field="details")
        return Insight(
            at_ms=self._clock.wall_ms(),
            level=level,
            message=message.strip()[:_MESSAGE],
            details=details,
            attempt=attempt,
            by=by,
        )

    async def log(self, seq: int, level: str, message: str, details: Any, by: str) -> None:
        """Note something about a task that somebody said from outside. Raises `not_found`, `bad_request`, `busy`."""
        stored = self._readers.task(seq)
        if stored is None:
            raise AiwmError(Code.not_found, f'task "{task_id(seq)}" does not exist', field="id", fix="aiwm task list")
        said = self.made(level, message, details, stored.attempt, by)
        # Two at once would count the same and take one key.
        async with self._logging:
            number = len(self._readers.documents(INSIGHT, ref=task_id(seq), limit=10 * MOST_INSIGHTS))
            if number >= 10 * MOST_INSIGHTS:
                raise AiwmError(Code.busy, f"{task_id(seq)} has {number} insights already", field="id")
            await self._journal.write(self.insight(seq, stored.attempt, number, said), Durability.os)
