"""Everything of the control room that is about adapters, built and wired in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from engine.clock import Clock
from engine.contract.records import AdapterRow
from engine.control.adapters.changes import Choosing, Pinning
from engine.control.adapters.comparing import Comparing
from engine.control.adapters.ended import Ended
from engine.control.adapters.standing import Caches, Standing
from engine.control.fleet import ModelKeeper
from engine.control.manager import Manager
from engine.control.operations.adapters import AdapterOperations, Loading
from engine.control.operations.comparisons import ComparisonOperations
from engine.inference.adapters.book import AdapterBook
from engine.ports import EventSink, Keys, Models
from engine.requests.table import RequestTable
from engine.store.store import Store


class Processes(Loading, Models, ModelKeeper, Protocol):
    """Whoever runs the model processes."""

    def caches(self) -> Caches:
        """The adapter caches of processes that are up."""


class Adapters:
    """`changed(table)` tells the views."""

    def __init__(
        self,
        book: AdapterBook,
        processes: Processes,
        manager: Manager,
        store: Store,
        clock: Clock,
        events: EventSink,
        keys: Keys | None,
        changed: Callable[[str], None],
    ) -> None:
        def touch() -> None:
            changed("adapters")

        catalogue = manager.catalogue
        self._standing = Standing(
            book, processes.caches, catalogue, manager.attempts.using, Ended(store.windows, clock, touch), clock
        )
        self._operations = AdapterOperations(
            book,
            self._standing,
            processes,
            manager.desk.undertakings,
            catalogue,
            clock,
            touch,
            Choosing(book),
            Pinning(book, catalogue, manager.library.definer),
        )
        self._comparisons = ComparisonOperations(
            Comparing(
                processes,
                manager.budget,
                manager.slots,
                processes,
                catalogue,
                book,
                store.readers,
                events,
                keys,
            )
        )
        book.on_change(touch)

    def register(self, table: RequestTable) -> None:
        """Answer what is asked about adapters."""
        self._operations.register(table)
        self._comparisons.register(table)

    def rows(self) -> list[AdapterRow]:
        """Every version of every adapter."""
        return self._standing.rows()

    def look(self) -> None:
        """The caches changed: count what went through them."""
        self._standing.look()
