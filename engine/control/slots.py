"""Models' slots as the scheduler is told of them: how many there are, and how many others than tasks hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from engine.control.dispatcher import Dispatcher
from engine.scheduling.inputs import SlotsChanged


class Slots:
    """A chat's turn holds a slot like a task does. It does not wait for one: it is put to the model at once, which serves in order, and
    the next slot that a task gives back goes to nobody else."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._totals: dict[str, int] = {}
        self._outside: Counter[str] = Counter()

    def changed(self, model: str, total: int) -> None:
        """A model serves this many requests at once now (0: it is not ready)."""
        self._totals[model] = total
        self._tell(model)

    @contextmanager
    def held(self, model: str) -> Iterator[None]:
        """Hold a slot for something that is no task."""
        self._outside[model] += 1
        self._tell(model)
        try:
            yield
        finally:
            self._outside[model] -= 1
            self._tell(model)

    def _tell(self, model: str) -> None:
        total = self._totals.get(model)
        if total is not None:
            self._dispatcher.feed(SlotsChanged(model, total, self._outside[model]))
