"""Whether adapters fit the base models that they name, as far as these are here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from engine.contract.definitions import ModelDefinition
from engine.contract.errors import AiwmError, ErrorInfo
from engine.inference.adapters.facts import Base, misfit, read_base
from engine.inference.adapters.versions import Found

FindModel = Callable[[str], ModelDefinition | None]


class Fitting:
    """`find_model` finds the base of an adapter among the models of this home (None: it is not here)."""

    def __init__(self, find_model: FindModel) -> None:
        self._find_model = find_model
        self._misfits: dict[str, tuple[str, ErrorInfo | None]] = {}

    def of(self, path: str) -> tuple[str, ErrorInfo | None]:
        """What the base of the adapter in `path` is called (empty: nobody knows), and why it does not fit, if it does not."""
        return self._misfits.get(path, ("", None))

    async def check(self, found: Iterable[Found]) -> None:
        """Hold adapters against their base models."""
        for it in list(found):
            base = self._base(it.facts.base) if it.facts is not None else None
            if base is None or not base.path:
                self._misfits[it.path] = (_last(it.facts.base) if it.facts is not None else "", None)
                continue
            problem = await asyncio.to_thread(_misfit, it, base)
            self._misfits[it.path] = (base.name, problem)

    def _base(self, named: str) -> ModelDefinition | None:
        """The model of this home that a base is: by its whole name (a path, say), or by what people call it."""
        return (self._find_model(named) or self._find_model(_last(named))) if named else None


def _misfit(found: Found, model: ModelDefinition) -> ErrorInfo | None:
    base: Base | None = read_base(model.name, model.backend.value, Path(model.path))
    try:
        problem = None if base is None else misfit(Path(found.path), base)
    except AiwmError as error:
        problem = error
    return None if problem is None else problem.info


def _last(base: str) -> str:
    """What people call a model that is named by a path or a hub's address."""
    return base.rstrip("/").rpartition("/")[2]
