"""Care around an attempt: what it is given when it starts, what it notes while it runs, who looks at it when it ended."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError
from engine.contract.models import model_name
from engine.contract.states import Durability
from engine.control.book import Brief
from engine.control.catalogue import Catalogue
from engine.control.instances import Instance
from engine.control.supervision.notes import MOST_INSIGHTS, Notes
from engine.control.supervision.reviews import Reviews
from engine.knowledge.lessons import Lessons
from engine.knowledge.matching import MAX_CHARS, Facts
from engine.ports import Lesson, Models
from engine.scheduling.context import Given, Level, LevelName, resolve
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers
from engine.store.rows import StoredTask

_REFLECTION = 1_000


class Journalling:
    """An attempt's own notes: written as they are made, joined for its record."""

    def __init__(self, notes: Notes, journal: Journal, seq: int, attempt: int, by: str) -> None:
        self._notes = notes
        self._journal = journal
        self._seq = seq
        self._attempt = attempt
        self._by = by
        self._said: list[str] = []

    def insight(self, level: str, message: str, details: Any = None) -> None:
        """Note something. What cannot be noted (no JSON, too long, too many) is left out: a worker must not fail by it."""
        if len(self._said) >= MOST_INSIGHTS:
            return
        if len(self._said) == MOST_INSIGHTS - 1:
            level, message, details = "warn", f"more than {MOST_INSIGHTS - 1} insights: the others are dropped", None
        try:
            said = self._notes.made(level, message, details, self._attempt, self._by)
        except AiwmError:
            return
        entry = self._notes.insight(self._seq, self._attempt, len(self._said), said)
        self._said.append(said.message)
        self._journal.write(entry, Durability.os)

    @property
    def reflection(self) -> str:
        """All that was noted, for the record."""
        return "; ".join(self._said)[:_REFLECTION]


class Care:
    """What attempts ask. Costs next to nothing for tasks without lessons and supervisors."""

    def __init__(
        self,
        catalogue: Catalogue,
        lessons: Lessons,
        notes: Notes,
        reviews: Reviews,
        journal: Journal,
        readers: Readers,
        models: Models,
        clock: Clock,
    ) -> None:
        self._catalogue = catalogue
        self._lessons = lessons
        self._notes = notes
        self._reviews = reviews
        self._journal = journal
        self._readers = readers
        self._models = models
        self._clock = clock

    def begin(
        self, seq: int, attempt: int, brief: Brief, instance: Instance
    ) -> tuple[tuple[Lesson, ...], tuple[ops.Op, ...]]:
        """The lessons for an attempt, and what must be written with its start."""
        if not len(self._lessons):
            return (), ()
        definition = instance.definition
        facts = Facts(
            template=brief.template or "",
            queue=brief.queue,
            definition=definition.name,
            capabilities=frozenset(definition.capabilities),
            payload=lambda: msgspec.json.decode(brief.payload),
            error=lambda: (self._readers.result(seq)[1] or b"").decode() if attempt > 1 else "",
        )
        lessons = self._lessons.given(facts, self._room(instance))
        return lessons, (self._notes.used(seq, lessons, self._clock.wall_ms()),) if lessons else ()

    def _room(self, instance: Instance) -> int:
        """Characters that a prompt has for lessons: a quarter of its context, where a token is four."""
        definition = instance.definition
        known = self._models.handle(model_name(definition)).context if definition.model else 0
        return min(definition.context_tokens or MAX_CHARS, known or MAX_CHARS)

    def notes(self, seq: int, attempt: int, instance: Instance) -> Journalling:
        return Journalling(self._notes, self._journal, seq, attempt, instance.id)

    def due(self, seq: int, attempt: int, brief: Brief, instance: Instance, now_ms: int) -> tuple[ops.Op, ...]:
        """What must be written with the end of a task that somebody looks after."""
        given = self.supervisor(brief, instance.pool, instance.definition.name, instance.definition.supervisor)
        return () if given is None else (self._reviews.due(seq, attempt, given, now_ms),)

    def of_stored(self, stored: StoredTask) -> Given | None:
        """Who looks after a task that ended."""
        brief = Brief(
            stored.queue, b"", Durability(stored.durability), stored.deadline_ms, stored.template, stored.supervisor
        )
        worker = self._catalogue.workers.get(stored.definition or "")
        by_definition = worker.supervisor if worker is not None else ""
        return self.supervisor(brief, stored.pool or "", stored.definition or "", by_definition)

    def supervisor(self, brief: Brief, pool: str, definition: str, by_definition: str) -> Given | None:
        """Who looks after a task, and which level says so."""
        catalogue = self._catalogue
        of_pool, of_queue = catalogue.pools.get(pool), catalogue.queues.get(brief.queue)
        template = catalogue.templates.get(brief.template) if brief.template else None
        by_task, by_template = brief.supervisor or "", template.supervisor if template is not None else ""
        by_pool = of_pool.supervisor if of_pool is not None else ""
        by_queue = of_queue.supervisor if of_queue is not None else ""
        if not (by_task or by_template or by_pool or by_queue or by_definition):
            return None
        levels = [
            Level(level=level, name=name, supervisor=supervisor)
            for level, name, supervisor in (
                (LevelName.task, "", by_task),
                (LevelName.template, brief.template or "", by_template),
                (LevelName.pool, pool, by_pool),
                (LevelName.queue, brief.queue, by_queue),
                (LevelName.definition, definition, by_definition),
            )
        ]
        return resolve(levels, ()).supervisor
