"""A service of models for tests: models and adapters by the names of their directories, and everything that it told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.clock import SystemClock
from engine.contract.definitions import Backend, ModelDefinition, Sampling
from engine.contract.errors import AiwmError, Code
from engine.inference.adapter_files import adapter_digest
from engine.inference.adapters.known import Resolved
from engine.inference.commands.server import ServerSettings
from engine.inference.memory.ledger import Ledger
from engine.inference.service import Elsewhere, InferenceService
from engine.inference.settings import ProcessSettings
from engine.inference.supervision import Policy
from engine.ports import GenerateRequest, Generation, Message, ReplicaState, Reservation

Thing = TypeVar("Thing")

POLICY = Policy(first_rest=0.05, longest_rest=0.2, max_crashes=3)


class Events:
    """`ports.EventSink`."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, Any]]] = []

    def emit(
        self,
        level: str,
        type: str,
        about: str,
        text: str,
        *,
        who: str = "engine",
        task_seq: int | None = None,
        **details: Any,
    ) -> None:
        self.seen.append((type, text, details))

    @property
    def types(self) -> list[str]:
        return [type for type, _, _ in self.seen]


class MemoryShelf:
    """`shelf.Shelf` without a database."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], tuple[str, bytes]] = {}

    def put(self, kind: str, key: str, ref: str, value: Any) -> None:
        self.kept[kind, key] = (ref, msgspec.json.encode(value))

    def drop(self, kind: str, key: str) -> None:
        self.kept.pop((kind, key), None)

    def of(self, kind: str, ref: str | None, type: type[Thing]) -> list[tuple[str, Thing]]:
        return [
            (key, msgspec.json.decode(value, type=type))
            for (its, key), (about, value) in self.kept.items()
            if its == kind and ref in (None, about)
        ]


class FolderBook:
    """Models by the directories of a home; `defined` replaces what follows from a directory."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.defined: dict[str, ModelDefinition] = {}

    def find(self, name: str) -> ModelDefinition:
        if name in self.defined:
            return self.defined[name]
        path = Path(name) if name.startswith("/") else self._home / "models" / name
        if not (path / "config.json").is_file():
            raise AiwmError(Code.model_not_found, f"there is no model {name}", field="model")
        return ModelDefinition(name=name, path=str(path))

    def all(self) -> list[ModelDefinition]:
        return [self.find(path.name) for path in sorted((self._home / "models").iterdir())]

    def refused(self) -> dict[str, AiwmError]:
        return {}


class FolderAdapters:
    """Adapters by the directories of a home: each has one name, its directory's."""

    def __init__(self, home: Path) -> None:
        self._folders = (home / "adapters", home / "shipped" / "adapters")
        self._names: dict[str, str] = {}

    async def resolve(self, name: str) -> Resolved:
        path = next((folder / name for folder in self._folders if (folder / name).is_dir()), None)
        if path is None:
            raise AiwmError(Code.adapter_not_found, f"there is no adapter {name}", field="adapters")
        digest = adapter_digest(path)
        self._names[digest] = name
        return Resolved(name, path, digest, 0)

    def names_of(self, digest: str) -> frozenset[str]:
        return frozenset({self._names[digest]} if digest in self._names else ())

    def pinned(self, name: str) -> str:
        return name

    def on_change(self, callback: Callable[[], None]) -> None:
        """Nothing ever changes."""


class ModelHouse:
    """A service on a home, and what it told."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.events = Events()
        self.told: list[ReplicaState] = []
        self.shelf = MemoryShelf()
        self.book = FolderBook(home)
        self.service: InferenceService

    def open(
        self,
        command: list[str] | None = None,
        *,
        ledger: Ledger | None = None,
        patience: float = 10.0,
        hits: Callable[[str], tuple[str, ...]] = lambda _: (),
        elsewhere: Mapping[Backend, Elsewhere] | None = None,
        servers: ServerSettings | None = None,
        **settings: Any,
    ) -> InferenceService:
        self.service = InferenceService(
            self.home,
            ProcessSettings(**{"slots": 3, "policy": POLICY, **settings}),
            book=self.book,
            adapters=FolderAdapters(self.home),
            shelf=self.shelf,
            clock=SystemClock(),
            events=self.events,
            on_replica=self.told.append,
            on_change=lambda: None,
            ledger=ledger,
            patience=patience,
            hits=hits,
            elsewhere=elsewhere,
            servers=servers,
            command=command,
        )
        return self.service

    @property
    def slots(self) -> list[tuple[str, int | None]]:
        return [(it.model, it.total) for it in self.told]

    async def ask(
        self, text: str = "hi", *, max_tokens: int = 8, model: str = "tiny", replica: str | None = None, **request: Any
    ) -> Generation:
        sampling = Sampling(temperature=0.7, seed=1, max_tokens=max_tokens)
        asked = GenerateRequest(messages=(Message(role="user", content=text),), sampling=sampling, **request)
        reservation = Reservation(task="t-1", attempt=1, definition="d", model=model, replica=replica)
        return await self.service.handle(model).generate(asked, reservation)

    def replica(self, model: str = "tiny", number: int = 0) -> Any:
        """A process of a model."""
        return self.service.local(model).processes[number]

    @property
    def process(self) -> Any:
        return self.replica()


async def read(generation: Generation) -> list[str]:
    """A generation's text, piece by piece."""
    return [delta.text async for delta in generation]
