"""What the rooms above use: models by name as `ModelHandle`s, whatever runs them; and what there is of them, for views and the scheduler.

A model's process is started when somebody first needs it, and there is room for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from engine.clock import Clock
from engine.contract.definitions import Backend, ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.models import implied
from engine.contract.records import DeviceRow, ModelRow
from engine.contract.requests.memory import Crash
from engine.inference import protocol
from engine.inference.commanded import CommandModel
from engine.inference.commands.server import ServerSettings
from engine.inference.crashes import CrashBook
from engine.inference.keeping import Keeping
from engine.inference.launch import Sizes, in_process
from engine.inference.loads import LoadBook
from engine.inference.local import Adapters, House, LocalModel
from engine.inference.memory.ledger import Ledger
from engine.inference.process_rows import absent_row, refused_row
from engine.inference.room import PATIENCE_S, Room
from engine.inference.served import Managed, Process, Publish, Served
from engine.inference.settings import ProcessSettings
from engine.inference.shelf import Shelf
from engine.inference.situation import Hits, Situation
from engine.inference.supervisor import ModelProcess
from engine.inference.telling import Telling
from engine.inference.voices import Voices
from engine.inference.watching import Watching
from engine.ports import EventSink, GenerateRequest, Generation, ReplicaState, Reservation

_log = logging.getLogger(__name__)

_LEAVING_S = 60.0
"""So long calls go on of a model that has another definition now, or none; processes of ours end what they do, however long it takes."""

_OURS = (LocalModel, CommandModel)
"""What runs in processes that this engine starts and ends (`served.Managed`)."""


class Elsewhere(Protocol):
    """Makes what serves a model that no process of ours runs; `changed` is called when its rows are different."""

    def __call__(self, definition: ModelDefinition, *, publish: Publish, changed: Callable[[], None]) -> Served: ...


class Models(Protocol):
    """The book of models, as far as it is needed here."""

    def find(self, name: str) -> ModelDefinition: ...
    def all(self) -> list[ModelDefinition]: ...
    def refused(self) -> dict[str, AiwmError]: ...


class Handle:
    """A model by name (`ports.ModelHandle`). It costs nothing: the model is looked for when text is asked of it."""

    def __init__(self, service: InferenceService, model: str) -> None:
        self._service = service
        self._model = model

    @property
    def context(self) -> int | None:
        return self._service.context(self._model)

    async def generate(self, request: GenerateRequest, reservation: Reservation) -> Generation:
        if reservation.model != self._model:
            raise AiwmError(
                Code.internal, f"{reservation.task} has leave to call {reservation.model}, not {self._model}"
            )
        return await self._service.served(self._model).generate(request, reservation)


class InferenceService:
    """Owns every model of an engine. All methods belong to the loop's thread; callbacks are plain functions called on it.

    `on_replica` feeds the scheduler, `on_change` tells that rows changed. `elsewhere` makes what serves models of other backends. `hits`
    says who waits when a model goes. `command` replaces the command line of model processes."""

    def __init__(
        self,
        home: Path,
        settings: ProcessSettings,
        *,
        book: Models,
        adapters: Adapters,
        shelf: Shelf,
        clock: Clock,
        events: EventSink,
        on_replica: Publish,
        on_change: Callable[[], None],
        ledger: Ledger | None = None,
        elsewhere: Mapping[Backend, Elsewhere] | None = None,
        hits: Hits = lambda _: (),
        servers: ServerSettings | None = None,
        patience: float = PATIENCE_S,
        command: Sequence[str] | None = None,
    ) -> None:
        self.adapters = adapters
        self.ledger = ledger or Ledger()
        self.loads = LoadBook(shelf)
        self.sizes = Sizes()
        self._book = book
        self._elsewhere = elsewhere or {}
        self._servers = servers or ServerSettings()
        self._on_change = on_change
        self._voices = Voices(on_replica)
        self._crashes = CrashBook(shelf)
        telling = Telling(events)
        self._served: dict[str, Served] = {}
        self._leaving: list[Served] = []
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self.situation = Situation(self.ledger, self.sizes, self.loads, self.managed, hits)
        self.room = Room(self.situation, events, patience=patience)
        self.keeping = Keeping(shelf, clock, events, self.managed, self.ensure, self.room.changed)
        watching = Watching(self.loads, self.ledger, self._crashes, telling, self.keeping, self.room, clock, on_change)
        self._house = House(
            home=home,
            defaults=settings,
            clock=clock,
            adapters=adapters,
            sizes=self.sizes,
            publish=_nobody,  # each model has a voice of its own
            admit=self.room.admit,
            told=watching.process,
            server_told=watching.server,
            rested=self.keeping.look,
            died=watching.died,
            noted=telling.adapter,
            released=self.ledger.gone,
            load_ms=self.loads.load_ms,
            command=command,
        )
        adapters.on_change(self._adapters_changed)

    # -- models by name ------------------------------------------------------------------------------------------------------

    def handle(self, model: str) -> Handle:
        return Handle(self, model)

    def check(self, model: str) -> None:
        """Raises model_not_found if there is no such model. Starts nothing."""
        self._find(model)

    def served(self, model: str) -> Served:
        """What serves a model; nothing is started yet if it is new. Raises model_not_found, backend_unavailable."""
        known = self._served.get(model)
        if known is None:
            known = self._served[model] = self._make(self._find(model))
            if isinstance(known, _OURS):
                self.keeping.restore(known)
        return known

    def local(self, model: str) -> Managed:
        """A model that runs in processes of ours. Raises bad_request for one that does not."""
        served = self.served(model)
        if not isinstance(served, _OURS):
            raise AiwmError(
                Code.bad_request,
                f"{model} does not run on this machine: there is nothing to load or unload",
                field="name",
                fix="aiwm model list",
            )
        return served

    def context(self, model: str) -> int | None:
        """How many tokens a conversation may have; None while that is not known."""
        known = self._served.get(model)
        return None if known is None else known.context

    def managed(self) -> list[Managed]:
        """Those that run in processes of ours, with those that are no longer asked and have not ended yet."""
        return [it for it in (*self._served.values(), *self._leaving) if isinstance(it, _OURS)]

    def definition_changed(self, model: str) -> None:
        """The book has another definition of a model, or none any more: processes that run go on as they are until they end."""
        known = self._served.get(model)
        if known is None:
            return
        try:
            definition = self._find(model)
        except AiwmError:
            definition = None
        if definition is not None and isinstance(known, LocalModel) and in_process(definition):
            known.changed(definition)
            known.publish()
        else:
            del self._served[model]
            self._voices.end(model)
            self._leaving.append(known)
            self._in_background(self._let_go(known))
            if definition is not None:
                self.served(model).announce()
        self._on_change()

    # -- what control asks for -------------------------------------------------------------------------------------------------

    def publish(self, model: str) -> None:
        """Tell the scheduler about a model that someone is going to use. Call it for every model that a pool names."""
        try:
            self.served(model).announce()
        except AiwmError:
            pass  # who uses it is told then

    def ensure(self, model: str) -> None:
        """Bring a model up in the background, unless that is under way. A failure is told as an event and a state."""
        if model in self._loading:
            return
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(self.load(model))
        self._loading[model] = task
        task.add_done_callback(lambda done: self._loaded(model, done))

    async def load(self, model: str) -> None:
        """Bring a model up before it is needed. Raises AiwmError."""
        served = self.served(model)
        if isinstance(served, _OURS):
            await served.ready()

    def grow(self, model: str) -> None:
        """All slots of a model are taken and work waits: start one more process, if it may have one and there is room beside the others."""
        known = self._served.get(model)
        if isinstance(known, LocalModel) and self.situation.fits(known):
            process = known.grow()
            if process is not None:
                self._in_background(self.room.add(known, process))

    def prefetch(self, model: str, replica: str, adapters: tuple[str, ...], first: bool) -> None:
        """Bring adapters into a replica's cache in the background; `first`: the next task in line needs them. What fails is the request's
        to tell."""
        known = self._served.get(model)
        if isinstance(known, LocalModel):
            process = next((it for it in known.replicas if it.id == replica and it.up), None)
            if process is not None:
                self._in_background(self._prefetched(known, process, adapters, first))

    # -- adapters ----------------------------------------------------------------------------------------------------------------

    def pinned(self, adapter: str) -> str:
        """The exact name of the version that an adapter's name means now."""
        return self.adapters.pinned(adapter)

    def caches(self) -> dict[str, tuple[str, protocol.CacheNote]]:
        """The adapter cache of every process that is up: by its id, the model and what it says."""
        return {
            it.id: (model.definition.name, protocol.CacheNote() if it.status is None else it.status.cache)
            for model in self.managed()
            if isinstance(model, LocalModel)
            for it in model.replicas
            if it.up
        }

    async def keep_adapters(self, model: str, names: tuple[str, ...], *, keep: bool) -> tuple[str, ...]:
        """Bring adapters into every process of a model that is up; the digests that are ready somewhere. Raises AiwmError."""
        ready: set[str] = set()
        known = self._served.get(model)
        if isinstance(known, LocalModel):
            files = tuple([await known.adapter_file(name) for name in names])
            for process in known.replicas:
                found = await process.prefetch(files, keep=keep)
                ready |= set(found.ready if found is not None else ())
        return tuple(sorted(ready))

    async def evict(self, digests: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Let adapters go from every process: (evicted, in use and so still there)."""
        evicted: set[str] = set()
        in_use: set[str] = set()
        for model in self.managed():
            for process in model.replicas if isinstance(model, LocalModel) else ():
                found = await process.evict(digests)
                if found is not None:
                    evicted |= set(found.evicted)
                    in_use |= set(found.in_use)
        return tuple(sorted(evicted)), tuple(sorted(in_use))

    # -- views ---------------------------------------------------------------------------------------------------------------------

    def rows(self) -> list[ModelRow]:
        """One row a process, or a model that runs elsewhere."""
        return [row for served in (*self._served.values(), *self._leaving) for row in served.rows()]

    def all_rows(self) -> list[ModelRow]:
        """Processes, and the models that are known and not loaded."""
        rows = self.rows()
        there = {row.model for row in rows}
        rows += [absent_row(it) for it in self._book.all() if it.name not in there]
        return rows + [refused_row(name, error) for name, error in self._book.refused().items()]

    def devices(self) -> list[DeviceRow]:
        return self.ledger.rows(self.situation.uses())

    def figures(self) -> dict[str, tuple[int, float]]:
        """(requests served, mean time of the last ones in ms) of each process."""
        return {
            it.id: (it.figures.served, it.figures.request_ms)
            for model in self.managed()
            if isinstance(model, LocalModel)
            for it in model.replicas
        }

    def start_again(self, model: Managed, processes: Sequence[Process]) -> None:
        """Start these processes again in the background, once they are gone."""
        self._in_background(self._started_again(model, processes))

    def tokens_per_second(self) -> float:
        """All models together, over the last 10 s."""
        return sum(it.tokens_per_second() for it in (*self._served.values(), *self._leaving))

    def crashes(self, name: str, limit: int) -> list[Crash]:
        """Of a model, or of one process by its id, the latest first."""
        return self._crashes.of(name, limit)

    async def close(self, grace: float = 0.0) -> None:
        """Stop everything; processes with requests get `grace` seconds to finish them."""
        self.keeping.close()
        self.room.close()
        for task in [*self._loading.values(), *self._background]:
            task.cancel()
        served = [*self._served.values(), *self._leaving]
        if grace > 0:
            try:
                async with asyncio.timeout(grace):
                    await asyncio.gather(*(it.close(grace) for it in served))
            except TimeoutError:
                pass  # they had their time
        await asyncio.gather(*(it.close() for it in served))

    # -- inside --------------------------------------------------------------------------------------------------------------------

    def _find(self, model: str) -> ModelDefinition:
        return implied(model) or self._book.find(model)

    def _make(self, definition: ModelDefinition) -> Served:
        voice = self._voices.of(definition.name, definition.route)
        house = replace(self._house, publish=voice)
        if in_process(definition):
            return LocalModel(definition, self._stem(definition.name), house)
        make = self._elsewhere.get(definition.backend)
        text = self._elsewhere.get(Backend.openai)
        if definition.backend is Backend.command and text is not None:
            # What asks the server is no model of its own: the scheduler and the views know the server.
            ask = partial(text, publish=_nobody, changed=self._on_change)
            return CommandModel(definition, self._stem(definition.name), house, self._servers, ask)
        if make is None:
            raise AiwmError(
                Code.backend_unavailable, f"nothing here serves models of backend {definition.backend}", field="backend"
            )
        return make(definition, publish=voice, changed=self._on_change)

    def _stem(self, name: str) -> str:
        """What the model's processes and their logs are called: never a path, and no other model's."""
        stem = Path(name).name or "model"
        taken = {process.id.rpartition(".")[0] for model in self.managed() for process in model.processes}
        number = 2
        while stem in taken:
            stem = f"{Path(name).name}-{number}"
            number += 1
        return stem

    async def _prefetched(self, model: LocalModel, process: ModelProcess, names: tuple[str, ...], first: bool) -> None:
        try:
            files = tuple([await model.adapter_file(name) for name in names])
            await process.prefetch(files, next=first)
        except AiwmError as error:
            _log.info("adapters %s were not brought to %s: %s", ", ".join(names), process.id, error)

    async def _let_go(self, served: Served) -> None:
        """Let it end what it does. Until it is gone its memory counts and its processes are shown."""
        if isinstance(served, _OURS):
            served.keep_ms = None  # its name is another one's now
        try:
            await served.close(grace=_LEAVING_S)
        finally:
            self._leaving.remove(served)
            self.room.changed()
            self._on_change()

    async def _started_again(self, model: Managed, processes: Sequence[Process]) -> None:
        for process in processes:
            await process.stopped()
            if model.wants(process):
                await self.room.admit(model, process)

    def _adapters_changed(self) -> None:
        for model in self.managed():
            model.publish()

    def _loaded(self, model: str, task: asyncio.Task[None]) -> None:
        del self._loading[model]
        if not task.cancelled() and task.exception() is not None:
            _log.warning("model %s was not loaded: %s", model, task.exception())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.warning("%s", task.exception())


def _nobody(_: ReplicaState) -> None:
    """Whom the state of something inside something else is told."""
