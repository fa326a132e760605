"""A manager with a book of models and the requests about it, on a machine of the test's making; models are never loaded."""

from __future__ import annotations

from pathlib import Path

from engine.contract.definitions import WorkerDefinition
from engine.control.operations.models import BookOperations
from engine.events import JournalEvents
from engine.inference.memory.gpus import Gpus
from engine.inference.models.book import ModelBook
from engine.inference.settings import ProcessSettings
from tests.support.manager import House


def no_gpu() -> object:
    raise ImportError


class ModelsHouse(House):
    """`changed` are the names that the book told of."""

    def __init__(self, home: Path, *workers: WorkerDefinition, keys: tuple[str, ...] = ()) -> None:
        super().__init__(home, *(workers or (WorkerDefinition(name="echo", kind="template"),)))
        self.changed: list[str] = []
        self.book = self._book()
        self.book.on_change(self.changed.append)
        BookOperations(
            self.book,
            self.manager.catalogue,
            self.manager.library.definer,
            Gpus(no_gpu),
            ProcessSettings(slots=8, context=512, replicas=2),
            lambda: keys,
            list,
            list,
            self.manager.tally,
        ).register(self.table)

    def _book(self) -> ModelBook:
        events = JournalEvents(self.store.journal, self.clock)
        return ModelBook(self.home, self.store.journal, self.store.readers, self.clock, events)

    def read_again(self) -> ModelBook:
        """The book as an engine finds it that starts on this store."""
        return self._book()
