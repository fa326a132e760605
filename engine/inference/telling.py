"""Events for what an operator would want to have been told of model processes."""

from __future__ import annotations

from engine.contract.errors import ErrorInfo
from engine.inference import protocol
from engine.inference.commands.server import CommandServer
from engine.inference.supervision import ProcessState
from engine.inference.supervisor import ModelProcess
from engine.ports import EventSink


class Telling:
    """Remembers what it told, so that nothing is told twice."""

    def __init__(self, events: EventSink) -> None:
        self._events = events
        self._states: dict[str, ProcessState] = {}
        self._missed: set[str] = set()  # servers that are not ours and were looked for in vain

    def state(self, process: ModelProcess) -> bool:
        """Tell of a process's new state; False when it is not new."""
        loaded = process.loaded
        how = f": {loaded.slots} slots, loaded in {loaded.load_ms:.0f} ms" if loaded is not None else ""
        return self._tell(process.id, process.state, process.last_error, process.life.rest, how)

    def server(self, server: CommandServer) -> bool:
        """Tell of a server program's new state; False when it is not new."""
        if not server.starts and server.state is ProcessState.backoff and server.id in self._missed:
            # It is looked for again and again, for days perhaps: that it is away is told once.
            changed = self._states.get(server.id) is not server.state
            self._states[server.id] = server.state
            return changed
        if not server.starts and server.state is ProcessState.backoff:
            self._missed.add(server.id)
        elif server.up:
            self._missed.discard(server.id)
        return self._tell(server.id, server.state, server.last_error, server.life.rest, f" at {server.url}")

    def _tell(self, name: str, state: ProcessState, error: ErrorInfo | None, rest: float, how: str) -> bool:
        before = self._states.get(name, ProcessState.stopped)
        self._states[name] = state
        if state is before:
            return False
        if state is ProcessState.ready and before is ProcessState.starting:
            self._events.emit("info", "model.ready", name, f"{name} is ready{how}")
        elif state is ProcessState.backoff and error is not None:
            self._events.emit("error", "model.crashed", name, error.message, restart_s=rest)
        elif state is ProcessState.failed and error is not None:
            self._events.emit("error", "model.failed", name, error.message, code=error.code, fix=error.fix)
        elif state is ProcessState.stopped:
            self._events.emit("info", "model.stopped", name, f"{name} stopped")
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
