"""What the rooms above use: models by name, as `ModelHandle`s; free slots; rows for the models view.

A model's process is started when someone first needs it. One process a model here; the map leaves room for replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.records import ModelRow
from engine.home import log_path
from engine.inference import protocol
from engine.inference.generation import LocalGeneration
from engine.inference.names import Library
from engine.inference.supervision import ProcessState
from engine.inference.supervisor import ModelProcess, ProcessSettings
from engine.ports import EventSink, GenerateRequest, Generation, ReplicaState, Reservation

OnReplica = Callable[[ReplicaState], None]
"""Called when a replica's state changed. Its total is 0 while a crashed process rests; before a model is first needed it is what it will
have, so that work for it is started and brings it up."""


class LocalHandle:
    """A model by name in a supervised process (`ports.ModelHandle`)."""

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
        process = self._service.process(self._model)
        files = []
        for use in request.adapters:
            path, digest = await self._service.library.adapter(use.name)
            files.append(protocol.AdapterFile(use.name, str(path), digest, use.weight))
        generation = LocalGeneration(process, request, tuple(files), f"{reservation.task}/{reservation.attempt}")
        await generation.start()
        return generation


class InferenceService:
    """Owns every model process of an engine. All methods belong to the loop's thread; callbacks are plain functions called on it.

    `on_replica` feeds the scheduler, `on_change` tells that rows changed. `command` replaces the process's command line."""

    def __init__(
        self,
        home: Path,
        settings: ProcessSettings,
        *,
        clock: Clock,
        events: EventSink,
        on_replica: OnReplica,
        on_change: Callable[[], None],
        library: Library | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        self.library = library or Library(home)
        self._home = home
        self._settings = settings
        self._clock = clock
        self._events = events
        self._on_replica = on_replica
        self._on_change = on_change
        self._command = command
        self._processes: dict[str, ModelProcess] = {}
        self._published: dict[str, ReplicaState] = {}
        self._states: dict[str, ProcessState] = {}

    def handle(self, model: str) -> LocalHandle:
        """A handle costs nothing; the model is looked for when text is asked of it."""
        return LocalHandle(self, model)

    def check(self, model: str) -> None:
        """Raises model_not_found if there is no such model. Starts nothing."""
        self.library.model(model)

    def publish(self, model: str) -> None:
        """Tell `on_replica` about a model that someone is going to use. Call it for every model that a pool names."""
        self._publish(model, again=True)

    async def load(self, model: str) -> protocol.LoadResult:
        """Bring a model up before it is needed. Raises AiwmError."""
        return await self.process(model).ready()

    def process(self, model: str) -> ModelProcess:
        """The process of a model, not yet started if it is new. Raises model_not_found."""
        known = self._processes.get(model)
        if known is None:
            directory = self.library.model(model)
            process_id = f"{directory.name}.0"
            if any(process.id == process_id for process in self._processes.values()):
                process_id = f"{directory.name}-{len(self._processes)}.0"
            known = self._processes[model] = ModelProcess(
                process_id,
                directory,
                self._settings,
                clock=self._clock,
                log=log_path(self._home, process_id),
                changed=lambda _: self._process_changed(model),
                command=self._command,
            )
        return known

    def context(self, model: str) -> int | None:
        """How many tokens a slot of a loaded model holds; None while it is not loaded."""
        process = self._processes.get(model)
        return None if process is None or process.loaded is None else process.loaded.context

    def rows(self) -> list[ModelRow]:
        """One row a process, for the models view."""
        return [_row(model, process) for model, process in self._processes.items()]

    def tokens_per_second(self) -> float:
        """All models together, over the last 10 s."""
        return sum(process.tokens_per_second() for process in self._processes.values())

    async def close(self, grace: float = 0.0) -> None:
        """Stop every process; those with requests get `grace` seconds to finish them."""
        processes = list(self._processes.values())
        if grace > 0:
            for process in processes:
                process.drain()
            try:
                async with asyncio.timeout(grace):
                    await asyncio.gather(*(process.stopped() for process in processes))
            except TimeoutError:
                pass  # they had their time
        for process in processes:
            process.stop()
        await asyncio.gather(*(process.stopped() for process in processes))

    # -- what processes tell -----------------------------------------------------------------------------------------------

    def _process_changed(self, model: str) -> None:
        self._publish(model)
        self._tell(model)
        self._on_change()

    def _publish(self, model: str, *, again: bool = False) -> None:
        process = self._processes.get(model)
        if process is not None and process.state in (ProcessState.ready, ProcessState.busy):
            total = process.slots
        elif process is not None and process.state in (ProcessState.backoff, ProcessState.draining):
            total = 0
        else:
            total = self._settings.slots
        state = ReplicaState(
            model=model, replica=f"{Path(model).name}.0" if process is None else process.id, total=total
        )
        before = self._published.get(model)
        if before is not None and before.replica != state.replica:
            self._on_replica(msgspec.structs.replace(before, gone=True))
        if again or before != state:
            self._published[model] = state
            self._on_replica(state)

    def _tell(self, model: str) -> None:
        """Events for what an operator would want to have been told."""
        process = self._processes[model]
        before, state = self._states.get(model, ProcessState.stopped), process.state
        self._states[model] = state
        if state is before:
            return
        error = process.last_error
        if state is ProcessState.ready and before is ProcessState.starting and process.loaded is not None:
            text = f"{process.id} is ready: {process.loaded.slots} slots, loaded in {process.loaded.load_ms:.0f} ms"
            self._events.emit("info", "model.ready", process.id, text)
        elif state is ProcessState.backoff and error is not None:
            self._events.emit(
                "error",
                "model.crashed",
                process.id,
                error.message,
                stderr=list(error.stderr),
                restart_s=process.life.rest,
            )
        elif state is ProcessState.failed and error is not None:
            self._events.emit("error", "model.failed", process.id, error.message, code=error.code, fix=error.fix)
        elif state is ProcessState.stopped:
            self._events.emit("info", "model.stopped", process.id, f"{process.id} stopped")


def _row(model: str, process: ModelProcess) -> ModelRow:
    status, loaded = process.status, process.loaded
    up = process.slots > 0
    requests = process.requests
    running = min(status.active if status else requests, requests)
    troubled = process.state in (ProcessState.backoff, ProcessState.failed, ProcessState.starting)
    note = process.last_error.message if process.last_error and troubled else ""
    return ModelRow(
        id=process.id,
        model=model,
        state=process.state,
        backend=loaded.backend if loaded else "",
        where="CPU",
        running=running if up else 0,
        waiting=max(0, requests - running),
        slots=loaded.slots if up and loaded else 0,
        tokens_per_s=process.tokens_per_second(),
        steps_per_s=process.steps_per_second(),
        weights_bytes=loaded.weights_bytes if up and loaded else 0,
        kv_bytes=loaded.kv_bytes if up and loaded else 0,
        kv_used_bytes=status.kv_used_bytes if up and status else 0,
        rss_bytes=status.rss_bytes if up and status else 0,
        adapters=len(status.adapters) if up and status else 0,
        restarts=process.life.restarts,
        since_ms=process.since_ms,
        pid=process.pid,
        note=note,
    )
