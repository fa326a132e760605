"""Which kinds there are: the entry points of group `aiwm.workers`, loaded when first needed."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest
from engine.workers.template import WorkerTemplate

GROUP = "aiwm.workers"
_OURS = "engine.workers.kinds."


class KindRegistry:
    """The kinds installed in this environment. Listing them imports nothing; a third-party kind is never imported in the engine."""

    def __init__(self) -> None:
        self._points: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=GROUP)}
        self._loaded: dict[str, type[WorkerTemplate]] = {}

    def names(self) -> list[str]:
        return sorted(self._points)

    def find(self, kind: str) -> EntryPoint:
        """The entry point of a kind; `definition_invalid` with the nearest name when there is none."""
        point = self._points.get(kind)
        if point is None:
            raise AiwmError(
                Code.definition_invalid,
                f'there is no worker kind "{kind[:60]}"',
                field="kind",
                fix=nearest(kind, self._points) or "kinds: " + ", ".join(self.names()),
            )
        return point

    def third_party(self, kind: str) -> bool:
        """Whether a kind comes from another package: those run in a process of their own."""
        return not self.find(kind).value.startswith(_OURS)

    def load(self, kind: str) -> type[WorkerTemplate]:
        """Import a kind's class. Call it in the engine for built-in kinds only."""
        if kind not in self._loaded:
            found = self.find(kind).load()
            if not (isinstance(found, type) and issubclass(found, WorkerTemplate)):
                raise AiwmError(
                    Code.definition_invalid, f'the worker kind "{kind}" is not a WorkerTemplate', field="kind"
                )
            self._loaded[kind] = found
        return self._loaded[kind]
