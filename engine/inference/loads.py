"""What loads took: the last one of each model, remembered, so that the next can be foretold and a plan can stand beside what was
measured."""

from __future__ import annotations

import msgspec

from engine.inference.shelf import Shelf

_KIND = "load"


class LoadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A load that worked. Sizes in bytes; `estimate` is what was planned, `measured` the most it was seen to take since."""

    backend: str
    slots: int
    context: int
    load_ms: int
    estimate: int
    measured: int = 0


class LoadBook:
    """The last load of each model."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._known: dict[str, LoadRecord] | None = None

    def of(self, model: str) -> LoadRecord | None:
        return self._all().get(model)

    def load_ms(self, model: str) -> int:
        """What loading it takes: what it took the last time, 0 when it was never loaded."""
        record = self.of(model)
        return 0 if record is None else record.load_ms

    def note(self, model: str, record: LoadRecord) -> None:
        if self._all().get(model) != record:
            self._all()[model] = record
            self._shelf.put(_KIND, model, model, record)

    def measured(self, model: str, size: int) -> None:
        """It takes so much now. Only what is clearly more than before is written down."""
        record = self.of(model)
        if record is not None and size > record.measured * 1.02:
            self.note(model, msgspec.structs.replace(record, measured=size))

    def _all(self) -> dict[str, LoadRecord]:
        if self._known is None:
            self._known = dict(self._shelf.of(_KIND, None, LoadRecord))
        return self._known
