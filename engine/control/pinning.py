"""Which versions of its adapters a piece of work uses: decided once, when it begins, and the same until it ends."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from engine.contract.definitions import AdapterUse, WorkerDefinition
from engine.contract.errors import NOT_JSON

_MOST_CHARS = 200


class _Asked(msgspec.Struct, frozen=True):
    adapters: tuple[AdapterUse, ...] | None = None


class Pins:
    """The exact versions of the adapters of one attempt or chat turn. `exact` says which version a name means now."""

    def __init__(self, exact: Callable[[str], str]) -> None:
        self._exact = exact
        self._known: dict[str, str] = {}

    def __call__(self, uses: tuple[AdapterUse, ...]) -> tuple[AdapterUse, ...]:
        """The same adapters by their exact versions."""
        return tuple(msgspec.structs.replace(use, name=self._pin(use.name)) for use in uses)

    def _pin(self, name: str) -> str:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._exact(name)
        return known

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._known.values())

    @property
    def text(self) -> str | None:
        """As the tasks table shows them; None for none."""
        return ",".join(self._known.values())[:_MOST_CHARS] or None


def asked(definition: WorkerDefinition, payload: bytes) -> tuple[AdapterUse, ...]:
    """The adapters that a task will use, as they are named: its own, else its definition's."""
    if b'"adapters"' in payload:
        try:
            own = msgspec.json.decode(payload, type=_Asked).adapters
        except NOT_JSON:
            return ()  # its worker says what is wrong with it
        if own is not None:
            return own
    return definition.adapters
