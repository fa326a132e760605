"""The book of models: every model that a worker may name, and how it is run.

Three sorts, the first that has a name wins: definitions that somebody made (`model add`; kept as documents), models that lie in the home's
models/ or ship with aiwm (known without being added), and what a name alone says: an absolute path, a provider's model."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from os.path import isdir, isfile
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from engine.clock import Clock
from engine.contract.definitions import NAME_PATTERN, Backend, ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.models import implied
from engine.contract.states import Durability
from engine.contract.suggest import nearest
from engine.inference.models.defaults import definition_of
from engine.inference.names import SHIPPED
from engine.ports import EventSink
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers

MODEL = "model"
_MOST = 10_000
_REFUSED_NS = 5_000_000_000

Origin = Literal["added", "home", "shipped", "implied", "path"]
Changed = Callable[[str], None]
Write = Callable[[tuple[ops.Op, ...], Callable[[], None]], Awaitable[None]]
"""(what to store, what to call once it is stored): stores it, perhaps in one entry with more."""


class ModelBook:
    """All methods belong to the loop's thread. Changes are made one after the other, stored before they
    are in force, and each is an event."""

    def __init__(
        self,
        home: Path,
        journal: Journal,
        readers: Readers,
        clock: Clock,
        events: EventSink,
        *,
        shipped: Path = SHIPPED,
    ) -> None:
        self.folder = home / "models"
        self._shipped = shipped
        self._journal = journal
        self._clock = clock
        self._events = events
        self._changing = asyncio.Lock()
        self._callbacks: list[Changed] = []
        self._looked: dict[Path, _Looked] = {}
        stored = readers.documents(MODEL, limit=_MOST, newest_first=False)
        self._added = {it.key: msgspec.json.decode(it.json, type=ModelDefinition) for it in stored}

    # -- looking -----------------------------------------------------------------------------------------------------

    @property
    def added(self) -> Mapping[str, ModelDefinition]:
        """The definitions that somebody made."""
        return self._added

    def find(self, name: str) -> ModelDefinition:
        """By name, or by the absolute path that a worker names. Raises model_not_found with the nearest name, model_refused (nothing here
        runs such a model), model_invalid."""
        return self.found(name)[0]

    def found(self, name: str) -> tuple[ModelDefinition, Origin]:
        """As `find`, and where it comes from."""
        kept = self._added.get(name)
        if kept is not None:
            return kept, "added"
        if name.startswith("/"):
            return self._of_path(name), "path"
        folders: tuple[tuple[Path, Origin], ...] = ((self.folder, "home"), (self._shipped, "shipped"))
        for folder, origin in folders:
            path = _inside(folder, name)
            if path is not None:
                return self._look(name, path), origin
        of_provider = implied(name)
        if of_provider is not None:
            return of_provider, "implied"
        raise AiwmError(
            Code.model_not_found,
            f'there is no model "{name[:80]}"',
            field="model",
            fix=nearest(name, self.names()) or "aiwm model list; aiwm model add PATH_OR_URL",
        )

    def names(self) -> list[str]:
        """Every name that `find` knows, but for paths and providers' models."""
        return sorted({*self._added, *_names(self.folder), *_names(self._shipped)})

    def own(self, name: str) -> bool:
        """Whether somebody added a model of this name, or put it into the home's models/: it did not ship."""
        return name in self._added or _inside(self.folder, name) is not None

    def all(self) -> list[ModelDefinition]:
        """Every model that can be named and run, by name."""
        return [it for _, it in self._each() if isinstance(it, ModelDefinition)]

    def refused(self) -> dict[str, AiwmError]:
        """The models in models/ that nothing here runs, or that are damaged, each with why."""
        return {name: it for name, it in self._each() if isinstance(it, AiwmError)}

    def _each(self) -> Iterator[tuple[str, ModelDefinition | AiwmError]]:
        for name in self.names():
            try:
                yield name, self.find(name)
            except AiwmError as error:
                yield name, error

    # -- changing ----------------------------------------------------------------------------------------------------

    async def put(self, definition: ModelDefinition, by: str, write: Write | None = None) -> None:
        """Add a definition, or replace the one of its name. `write` stores it together with more."""
        op = ops.PutDocument(
            MODEL, definition.name, definition.backend.value, self._clock.wall_ms(), msgspec.json.encode(definition)
        )
        async with self._changing:
            before = self._added.get(definition.name)
            if before == definition and write is None:
                return

            def stored() -> None:
                self._added[definition.name] = definition
                self._told("model.added" if before is None else "model.changed", definition.name, by, before)

            await self._write((op,), stored, write)

    async def remove(self, name: str, by: str, write: Write | None = None) -> ModelDefinition:
        """Forget a definition; the model's files stay. Raises not_found for one that nobody added."""
        async with self._changing:
            before = self._added.get(name)
            if before is None:
                raise AiwmError(
                    Code.not_found,
                    f'nobody added a model "{name[:80]}"',
                    field="name",
                    fix=nearest(name, self._added) or "aiwm model list",
                )

            def stored() -> None:
                del self._added[name]
                self._told("model.removed", name, by, before)

            await self._write((ops.DeleteDocument(MODEL, name),), stored, write)
            return before

    def on_change(self, callback: Changed) -> None:
        """`callback(name)` after each change: the definition is new, another one, or gone (`find` raises)."""
        self._callbacks.append(callback)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _write(self, entry: tuple[ops.Op, ...], stored: Callable[[], None], write: Write | None) -> None:
        if write is not None:
            await write(entry, stored)
        else:
            await self._journal.write(entry, Durability.disk)
            stored()

    def _told(self, type_: str, name: str, by: str, before: ModelDefinition | None) -> None:
        now = self._added.get(name)
        self._events.emit("info", type_, name, _difference(before, now), who=by)
        for callback in self._callbacks:
            callback(name)

    def _of_path(self, name: str) -> ModelDefinition:
        path = Path(name)
        if not path.exists():
            raise AiwmError(
                Code.model_not_found,
                f"model directory {name} does not exist",
                field="model",
                fix="correct the path in ai_worker_definitions.json",
            )
        return self._look(name, path)

    def _look(self, name: str, path: Path) -> ModelDefinition:
        """The definition that follows from a model's files; they are looked at again when they change."""
        if path.is_relative_to(self._shipped):
            return ModelDefinition(name=name, backend=Backend.reference, path=str(path), description="ships with aiwm")
        config = path / "config.json"
        mark = max(it.stat().st_mtime_ns for it in (path, config) if it.exists())
        known = self._looked.get(path)
        if known is None or known.mark != mark or known.name != name or known.old(self._clock):
            known = self._looked[path] = _Looked.at(name, path, mark, self._clock)
        if isinstance(known.found, AiwmError):
            raise known.found
        return known.found


class _Looked(NamedTuple):
    """What a look at a model's files found. A refusal holds for a few seconds: the files that were missing may have come, which the
    directory need not show."""

    name: str
    mark: int
    found: ModelDefinition | AiwmError
    at_ns: int

    @classmethod
    def at(cls, name: str, path: Path, mark: int, clock: Clock) -> _Looked:
        found: ModelDefinition | AiwmError
        try:
            found = definition_of(name, path)
        except AiwmError as error:
            found = error
        return cls(name, mark, found, clock.mono_ns())

    def old(self, clock: Clock) -> bool:
        return isinstance(self.found, AiwmError) and clock.mono_ns() - self.at_ns > _REFUSED_NS


def _inside(folder: Path, name: str) -> Path | None:
    """A model of a folder by its name: a directory with a configuration or a GGUF file, or a GGUF file."""
    if not re.fullmatch(NAME_PATTERN, name):
        return None
    return next((path for path in (folder / name, folder / f"{name}.gguf") if _is_model(path)), None)


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    found = [path.name.removesuffix(".gguf") for path in folder.iterdir() if _is_model(path)]
    return [name for name in found if re.fullmatch(NAME_PATTERN, name)]


def _is_model(path: Path) -> bool:
    if path.suffix == ".gguf":
        return isfile(path)
    return isfile(path / "config.json") or (isdir(path) and any(path.glob("*.gguf")))


def _difference(before: ModelDefinition | None, now: ModelDefinition | None) -> str:
    """What a change is, in one line."""
    if now is None:
        return "forgotten; its files stay"
    if before is None:
        return f"{now.backend.value}: {now.path or now.url or ' '.join(now.command or now.route)}"
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(now)
    return ", ".join(f"{field} {old[field]} → {new[field]}" for field in new if old[field] != new[field]) or "unchanged"
