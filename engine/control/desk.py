"""The task desk: everything that is asked about tasks, and what goes on with them outside of an attempt, built and wired in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.records import Record, TaskNotes, TaskRow
from engine.control.attempts import Attempts
from engine.control.book import Book
from engine.control.catalogue import Catalogue
from engine.control.changes import Changes
from engine.control.closing import Closing
from engine.control.dependencies import Dependencies
from engine.control.dispatcher import Dispatcher
from engine.control.failures import Failures
from engine.control.operation_log import OperationLog
from engine.control.operations.batches import BatchOperations
from engine.control.operations.changes import ChangeOperations
from engine.control.operations.tasks import TaskOperations
from engine.control.operations.usage import UsageOperations
from engine.control.sampling import Sampling
from engine.control.sessions.store import SessionStore
from engine.control.submission import Submission
from engine.control.tally import Tally
from engine.control.tempo import Tempo
from engine.control.trends import Trends
from engine.control.undertakings import Undertakings
from engine.control.waiters import Waiters
from engine.ports import Texts
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.store.commit import CommittedBatch
from engine.store.store import Store
from engine.workers.registry import KindRegistry

_ROWS = 1_000


class Desk:
    """Owns submission, dependencies, changes, operations, batches and samples. `changed(table)` tells the views."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        catalogue: Catalogue,
        kinds: KindRegistry,
        book: Book,
        tally: Tally,
        tempo: Tempo,
        trends: Trends,
        dispatcher: Dispatcher,
        attempts: Attempts,
        waiters: Waiters,
        failures: Failures,
        texts: Texts,
        *,
        max_payload_bytes: int,
        is_instance: Callable[[str], bool],
        chats: SessionStore,
        tokens_per_s: Callable[[], float],
        series: Callable[[], dict[str, float]],
        with_reasons: Callable[[list[TaskRow]], list[TaskRow]],
        notes: Callable[[int], TaskNotes],
        changed: Callable[[str], None],
    ) -> None:
        journal, readers = store.journal, store.readers
        self._table: RequestTable | None = None
        self._changed = changed
        self.failures = failures
        self.closing = Closing(dispatcher, journal, readers, attempts, waiters, texts, failures, clock)
        self.dependencies = Dependencies(journal, readers, dispatcher, self.closing, clock)
        self.submission = Submission(
            catalogue,
            kinds,
            journal,
            readers,
            book,
            tally,
            dispatcher,
            self.dependencies,
            clock,
            is_instance,
            max_payload_bytes=max_payload_bytes,
        )

        def operations_changed() -> None:
            changed("operations")
            changed("needs")

        self.operation_log = OperationLog(journal, readers, clock, operations_changed)
        changes = Changes(
            journal, readers, dispatcher, self.closing, self.dependencies, self.submission, catalogue, book, clock
        )
        self.undertakings = Undertakings(self.operation_log, changes, waiters, readers, clock, self._handle)
        self.sampling = Sampling(journal, tally, tempo, trends, catalogue, tokens_per_s, readers.head_ms, clock, series)
        self.tasks = TaskOperations(
            self.submission, waiters, dispatcher, readers, store.windows, clock, with_reasons, notes
        )
        self.changes = ChangeOperations(self.undertakings, self.operation_log, readers, store.windows, clock)
        self.batches = BatchOperations(self.submission, self.changes, waiters, store, clock, lambda: changed("batches"))
        self.usage = UsageOperations(failures, tally, store, clock, chats, self.sampling)

    def register(self, table: RequestTable) -> None:
        """Answer everything that is asked about tasks."""
        self._table = table
        for operations in (self.tasks, self.changes, self.batches, self.usage):
            operations.register(table)

    def tables(self) -> dict[str, Callable[[], Sequence[Record]]]:
        """The tables that the desk keeps, by name: their rows when a view needs them."""
        return {
            "operations": lambda: [operation.row for operation in self.operation_log.newest(_ROWS)],
            "failures": lambda: self.failures.rows(None, _ROWS),
            "batches": lambda: self.batches.batches.rows(_ROWS),
        }

    def start(self) -> None:
        """Go on with what an earlier engine left."""
        self.dependencies.start()
        self.undertakings.start()

    def committed(self, batch: CommittedBatch) -> None:
        """A batch is on disk."""
        if batch.changed:
            self.dependencies.committed(batch.changed)
            self.sampling.stir()
            self._changed("batches")
            self._changed("failures")

    def storage_recovered(self) -> None:
        """What could not be written is looked for again."""
        self.dependencies.start()
        self.undertakings.start()

    def close(self) -> None:
        """Start nothing more."""
        self.undertakings.close()
        self.dependencies.close()
        self.sampling.close()

    async def _handle(self, method: str, params: dict[str, Any], principal: str) -> Any:
        """Do a request that was asked for earlier, with the rights of the one who asked."""
        assert self._table is not None
        caller = Caller(id=0, principal=principal, client="operation", read_only=False, send=lambda _: False)
        return await self._table.handle(method, msgspec.Raw(msgspec.json.encode(params)), caller)
