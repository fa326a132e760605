"""Events for what an operator would want to have been told of model processes."""

from __future__ import annotations

from engine.inference import protocol
from engine.inference.supervision import ProcessState
from engine.inference.supervisor import ModelProcess
from engine.ports import EventSink


class Telling:
    """Remembers what it told, so that nothing is told twice."""

    def __init__(self, events: EventSink) -> None:
        self._events = events
        self._states: dict[str, ProcessState] = {}

    def state(self, process: ModelProcess) -> bool:
        """Tell of a process's new state; False when it is not new."""
        before, state = self._states.get(process.id, ProcessState.stopped), process.state
        self._states[process.id] = state
        if state is before:
            return False
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
        return True

    def adapter(self, _: object, process: ModelProcess, note: protocol.AdapterNote) -> None:
        """Tell what happened to an adapter in a process."""
        if note.event == "loaded":
            text = f"{note.name} is ready in {process.id} after {note.ms:.0f} ms ({note.cause})"
            self._events.emit("info", "adapter.loaded", note.name, text, process=process.id, digest=note.digest)
        elif note.event == "evicted":
            text = f"{note.name} left {process.id} ({note.cause})"
            self._events.emit("info", "adapter.evicted", note.name, text, process=process.id, digest=note.digest)
        elif note.error is not None:
            text = f"{process.id} refuses {note.name}: {note.error.message}"
            self._events.emit("warn", "adapter.refused", note.name, text, process=process.id, code=note.error.code)
