"""A model in processes of this engine: replicas `NAME.0`, `NAME.1`, …, each a supervised process, and which of them a request goes to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from engine.clock import Clock
from engine.contract.definitions import ModelDefinition
from engine.contract.records import ModelRow
from engine.home import log_path
from engine.inference import protocol
from engine.inference.adapter_files import file_marks
from engine.inference.adapters.known import Resolved
from engine.inference.commands.server import CommandServer
from engine.inference.generation import LocalGeneration
from engine.inference.launch import Sizes, files_mark, load_of, settings_of
from engine.inference.memory.host import CPU
from engine.inference.memory.ledger import Use
from engine.inference.process_rows import row_of, state_of
from engine.inference.served import Managed, Process, Publish
from engine.inference.settings import ProcessSettings
from engine.inference.supervision import ProcessState
from engine.inference.supervisor import Death, ModelProcess
from engine.ports import GenerateRequest, Generation, ReplicaState, Reservation


class Adapters(Protocol):
    """What adapters' names mean now (`adapters.book.AdapterBook`)."""

    async def resolve(self, name: str) -> Resolved: ...
    def names_of(self, digest: str) -> frozenset[str]: ...
    def pinned(self, name: str) -> str: ...
    def on_change(self, callback: Callable[[], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class House:
    """What every local model needs of the engine. `admit` waits until there is room for a process of the model and starts it; `told`
    hears of every change of a process."""

    home: Path
    defaults: ProcessSettings
    clock: Clock
    adapters: Adapters
    sizes: Sizes
    publish: Publish
    admit: Callable[[Managed, Process], Awaitable[None]]
    told: Callable[[LocalModel, ModelProcess], None]
    server_told: Callable[[Managed, CommandServer], None]
    rested: Callable[[], None]
    died: Callable[[str, str, Death], None]
    noted: Callable[[LocalModel, ModelProcess, protocol.AdapterNote], None]
    released: Callable[[int], Awaitable[None]]
    load_ms: Callable[[str], int]
    command: Sequence[str] | None = None


class LocalModel:
    """See `served.Managed`. `stem` is what its processes are called."""

    def __init__(self, definition: ModelDefinition, stem: str, house: House) -> None:
        self.definition = definition
        self.held = ""
        self.context_override = 0
        self.gpus = definition.devices
        self.waits = self.refused = ""
        self.keep_ms: int | None = None
        self._stem = stem
        self._house = house
        self._settings = settings_of(definition, house.defaults)
        self._replicas: list[ModelProcess] = [self._make(0)]
        self._published: dict[str, ReplicaState] = {}
        self._mark: tuple[int, ...] = ()

    # -- served ----------------------------------------------------------------------------------------------------------

    @property
    def context(self) -> int | None:
        """How many tokens a slot of a loaded process holds; None while none is loaded."""
        return next((it.loaded.context for it in self._replicas if it.loaded is not None), None)

    async def generate(self, request: GenerateRequest, reservation: Reservation) -> Generation:
        files = []
        for use in request.adapters:
            files.append(await self.adapter_file(use.name, use.weight))
        name = f"{reservation.task}/{reservation.attempt}"
        generation = LocalGeneration(lambda: self.place(reservation.replica), request, tuple(files), name)
        await generation.start()
        return generation

    async def adapter_file(self, name: str, weight: float = 1.0) -> protocol.AdapterFile:
        """An adapter as its process is told of it. Raises adapter_…."""
        found = await self._house.adapters.resolve(name)
        marks = file_marks(found.path)
        return protocol.AdapterFile(found.name, str(found.path), found.digest, weight, marks)

    async def place(self, replica: str | None = None) -> ModelProcess:
        """The process that a request goes to, brought up: the one whose slot it has while that is up, else the one with the least to do.
        Raises AiwmError."""
        while True:
            process = self._chosen(replica)
            if process.up:
                return process
            self._forgive_if_mended(process)
            if process.startable:
                await process.settled()  # what failed a moment ago is not tried again at once
                await self._house.admit(self, process)
            await process.settled()

    async def ready(self) -> None:
        await self.place()

    def announce(self) -> None:
        self._published.clear()
        self.publish()

    def tokens_per_second(self) -> float:
        return sum(it.tokens_per_second() for it in self._replicas)

    def rows(self) -> list[ModelRow]:
        """A row a process; one that does not run because something holds it has a row too."""
        estimate = self._house.sizes.estimate(self.definition, self._settings, self.context_override).total
        load_ms = self._house.load_ms(self.definition.name)
        held = self.held or self.waits or self.refused
        found = [
            row_of(self.definition, it, estimate, load_ms, self.keep_ms)
            for it in self._replicas
            if it.state is not ProcessState.stopped
        ]
        if held and not found:
            row = row_of(self.definition, self._replicas[0], estimate, load_ms, self.keep_ms)
            found = [msgspec.structs.replace(row, state=state_of(self), note=held)]
        return found

    async def close(self, grace: float = 0.0) -> None:
        for process in self._replicas:
            if grace > 0:
                process.drain()
            else:
                process.stop()
        for process in self._replicas:
            await process.stopped()

    # -- managed ---------------------------------------------------------------------------------------------------------

    @property
    def replicas(self) -> list[ModelProcess]:
        return list(self._replicas)

    @property
    def processes(self) -> list[Process]:
        return [*self._replicas]

    @property
    def settings(self) -> ProcessSettings:
        return self._settings

    def grow(self) -> ModelProcess | None:
        if self.held or not any(it.up for it in self._replicas):
            return None
        process = next((it for it in self._replicas if it.startable and self.wants(it)), None)
        if process is None and len(self._replicas) < self._settings.replicas:
            process = self._make(len(self._replicas))
            self._replicas.append(process)
        return process if process is not None and process.state is not ProcessState.failed else None

    def wants(self, process: Process) -> bool:
        number = next((place for place, it in enumerate(self._replicas) if it is process), len(self._replicas))
        return number < self._settings.replicas

    def uses(self) -> list[Use]:
        estimate = self._house.sizes.estimate(self.definition, self._settings, self.context_override)
        found = []
        for it in self._replicas:
            if not it.life.alive and it.state is not ProcessState.backoff:
                continue
            status, loaded = it.status, it.loaded
            found.append(
                Use(
                    process=it.id,
                    pid=it.pid,
                    devices=self.devices(it),
                    estimate=estimate,
                    loaded=loaded is not None,
                    weights=loaded.weights_bytes if loaded else 0,
                    kv=loaded.kv_bytes if loaded else 0,
                    adapters=status.cache.resident_bytes if status else 0,
                    scratch=estimate.scratch if loaded else 0,
                    rss=status.rss_bytes if status else 0,
                )
            )
        return found

    def devices(self, process: ModelProcess) -> tuple[str, ...]:
        """Where a process is, or will be."""
        if process.loaded is not None:
            return tuple(process.loaded.where.replace(" ", "").split(",")) or (CPU,)
        return tuple(f"GPU{number}" for number in process.load.devices) or (CPU,)

    def changed(self, definition: ModelDefinition) -> None:
        self.definition = definition
        self.refused = ""  # it may need less now
        self.gpus = definition.devices
        self._settings = settings_of(definition, self._house.defaults)
        self._refresh()
        self._give_up_surplus()

    def with_context(self, context: int) -> None:
        """The context of the next start; 0: the definition's."""
        self.context_override = context
        self._refresh()

    def with_devices(self, devices: tuple[int, ...]) -> None:
        """Where the next starts go."""
        self.gpus = devices
        for process in self._replicas:
            process.go_to(devices)

    def publish(self) -> None:
        """Tell the scheduler what is different since it was told last."""
        now = {state.replica: state for state in self._states()}
        for name in self._published.keys() - now.keys():
            self._house.publish(_gone(self._published[name]))
        for name, state in now.items():
            before = self._published.get(name)
            if before is not None and abs(before.latency_ms - state.latency_ms) < before.latency_ms / 4:
                # It is different after every request: told each time it would cost more than it is good for.
                state = now[name] = msgspec.structs.replace(state, latency_ms=before.latency_ms)
            if before != state:
                self._house.publish(state)
        self._published = now

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _make(self, number: int) -> ModelProcess:
        house = self._house
        identifier = f"{self._stem}.{number}"
        return ModelProcess(
            identifier,
            self._load(),
            self._settings,
            clock=house.clock,
            log=log_path(house.home, identifier),
            changed=self._process_changed,
            died=lambda process, death: house.died(self.definition.name, process.id, death),
            noted=lambda process, note: house.noted(self, process, note),
            released=house.released,
            command=house.command,
        )

    def _process_changed(self, process: ModelProcess) -> None:
        self._give_up_surplus()
        self.publish()
        self._house.told(self, process)

    def _load(self) -> protocol.Load:
        load = load_of(self.definition, self._settings, self.context_override)
        return msgspec.structs.replace(load, devices=self.gpus)

    def _refresh(self) -> None:
        for process in self._replicas:
            process.settings = self._settings
            process.load = self._load()

    def _give_up_surplus(self) -> None:
        """A process that its definition does not want any more ends what it does; after a crash it does not come up again."""
        for process in self._replicas:
            if process.state is ProcessState.backoff and not self.wants(process):
                process.stop()

    def _forgive_if_mended(self, process: ModelProcess) -> None:
        """A model that could not be loaded is tried again as soon as its files are others."""
        mark = files_mark(self.definition)
        if process.state is ProcessState.failed and mark != self._mark:
            process.forgive()
        self._mark = mark

    def _chosen(self, replica: str | None) -> ModelProcess:
        up = [it for it in self._replicas if it.up]
        named = next((it for it in up if it.id == replica), None)
        if named is not None:
            return named
        if up:
            return min(up, key=lambda it: it.requests + it.line.waiting)
        coming = next((it for it in self._replicas if it.life.alive and not it.life.leaving), None)
        return coming or self._replicas[0]

    def _states(self) -> list[ReplicaState]:
        """Every replica that is up, or rests after a crash; without any, the first as it will be when somebody needs it."""
        found = [self._state(it, it.slots) for it in self._replicas if it.up]
        resting = (ProcessState.backoff, ProcessState.draining)
        found += [self._state(it, 0, *_why_not(it)) for it in self._replicas if it.state in resting]
        first = self._replicas[0]
        if not any(it.total for it in found) and first.id not in {it.replica for it in found}:
            held = self.held or self.waits
            found.append(self._state(first, 0 if held else self._settings.slots, held))
        return found

    def _state(self, process: ModelProcess, total: int, why: str = "", until_ms: int | None = None) -> ReplicaState:
        resident: frozenset[str] = frozenset()
        if process.up and process.status is not None:
            names_of = self._house.adapters.names_of
            resident = frozenset(name for digest in process.status.adapters for name in names_of(digest))
        return ReplicaState(
            model=self.definition.name,
            replica=process.id,
            total=total,
            resident=resident,
            latency_ms=round(process.figures.first_token_ms, 1),
            why=why,
            until_ms=until_ms,
        )


def _gone(state: ReplicaState) -> ReplicaState:
    return msgspec.structs.replace(state, total=0, resident=frozenset(), gone=True)


def _why_not(process: ModelProcess) -> tuple[str, int | None]:
    """Why a process takes nothing, and when (Unix ms) it is tried again."""
    if process.state is ProcessState.draining:
        return f"{process.id} is unloaded after what it does", None
    error = process.last_error
    until_ms = process.since_ms + int(process.life.rest * 1000)
    return f"{process.id} crashed: {error.message if error is not None else 'nobody knows why'}"[:300], until_ms
