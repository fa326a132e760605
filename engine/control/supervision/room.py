"""Supervision, put together: lessons, notes, reviews, and what is asked about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.clock import Clock
from engine.contract.definitions import WorkerDefinition
from engine.contract.records import RecordRow
from engine.contract.records.knowledge import LessonRow, ReviewRow
from engine.control.budget import Budget
from engine.control.catalogue import Catalogue
from engine.control.slots import Slots
from engine.control.supervision.agents import Agents, Chats, Loader
from engine.control.supervision.care import Care
from engine.control.supervision.notes import Notes
from engine.control.supervision.operations import SupervisionOperations
from engine.control.supervision.reviews import Reviews
from engine.knowledge.lessons import Lessons
from engine.knowledge.operations import LessonOperations
from engine.ports import Models, ToolBox
from engine.requests.table import RequestTable
from engine.store.store import Store
from engine.workers.registry import KindRegistry


class Supervision:
    """Owns them. `chats` answers who talks with live instances; `changed(table)` tells the views."""

    def __init__(
        self,
        home: Path,
        store: Store,
        catalogue: Catalogue,
        kinds: KindRegistry,
        models: Models,
        budget: Budget,
        slots: Slots,
        loader: Loader,
        clock: Clock,
        chats: Callable[[], Chats],
        is_instance: Callable[[str], bool],
        tools: Callable[[WorkerDefinition], ToolBox | None],
        changed: Callable[[str], None],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._clock = clock
        self.lessons = Lessons(store.journal, store.readers, clock)
        self.notes = Notes(store.journal, store.readers, clock)
        self._agents = Agents(home, catalogue, kinds, chats, models, budget, slots, loader, is_instance, tools)
        self.reviews = Reviews(
            store.journal, store.readers, self._agents, clock, self._metadata, lambda: changed("reviews")
        )
        self.care = Care(catalogue, self.lessons, self.notes, self.reviews, store.journal, store.readers, models, clock)

    def register(self, table: RequestTable) -> None:
        """Answer what is asked about lessons and supervision."""
        LessonOperations(self.lessons, self._store.readers, self._clock, self._capabilities).register(table)
        SupervisionOperations(
            self.reviews,
            self.notes,
            self._agents,
            self.care,
            self._catalogue,
            self._store.journal,
            self._store.readers,
        ).register(table)

    def lesson_rows(self) -> list[LessonRow]:
        return self.lessons.rows()

    def review_rows(self) -> list[ReviewRow]:
        return self.reviews.pending("", 10_000)

    def _capabilities(self, definition: str) -> Iterable[str]:
        worker = self._catalogue.workers.get(definition)
        return worker.capabilities if worker is not None else ()

    def _metadata(self, record: RecordRow) -> Iterable[Mapping[str, Any]]:
        catalogue = self._catalogue
        for known, name in (
            (catalogue.templates, record.template),
            (catalogue.pools, record.pool),
            (catalogue.queues, record.queue),
            (catalogue.workers, record.definition),
        ):
            found = known.get(name) if name else None
            if found is not None:
                yield found.metadata
