"""What is made of what processes tell: events, crash records, what loads took and processes take, and a look at who may come or must go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.clock import Clock
from engine.contract.requests.memory import Crash
from engine.inference import protocol
from engine.inference.commands.server import CommandServer
from engine.inference.crashes import CrashBook, verdict
from engine.inference.keeping import Keeping
from engine.inference.loads import LoadBook, LoadRecord
from engine.inference.local import LocalModel
from engine.inference.memory.ledger import Ledger
from engine.inference.process_log import bound
from engine.inference.room import Room
from engine.inference.served import Managed
from engine.inference.supervision import ProcessState
from engine.inference.supervisor import Death, ModelProcess
from engine.inference.telling import Telling

_LOOK_S = 5.0  # between two looks at what a process takes, and at the size of its log


class Watching:
    """All methods belong to the loop's thread; `changed` is called when rows are different."""

    def __init__(
        self,
        loads: LoadBook,
        ledger: Ledger,
        crashes: CrashBook,
        telling: Telling,
        keeping: Keeping,
        room: Room,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self._loads = loads
        self._ledger = ledger
        self._crashes = crashes
        self._telling = telling
        self._keeping = keeping
        self._room = room
        self._clock = clock
        self._changed = changed
        self._looked: dict[str, float] = {}
        self._started_ms: dict[str, int] = {}

    def process(self, model: LocalModel, process: ModelProcess) -> None:
        """A process changed."""
        if self._telling.state(process) and process.state in (ProcessState.stopped, ProcessState.ready):
            if process.state is ProcessState.ready and process.loaded is not None:
                self._note_load(model, process.loaded)
            self._keeping.stopped(model)
        if process.state in (ProcessState.ready, ProcessState.stopped, ProcessState.failed):
            self._keeping.look()
            self._room.changed()
        if process.status is not None and process.up:
            self._look_at(model, process)
        self._changed()

    def server(self, model: Managed, server: CommandServer) -> None:
        """A server program changed."""
        if self._telling.server(server):
            error = server.last_error
            if server.state is ProcessState.starting:
                self._started_ms[server.id] = server.since_ms
            elif server.starts and error is not None and server.state in (ProcessState.backoff, ProcessState.failed):
                code = server.last_exit or 0
                meaning = verdict(code, oom_rose=False, hung=False, over_limit=False)
                started_ms = self._started_ms.get(server.id, server.since_ms)
                death = Death(code, meaning, error, server.requests, started_ms)
                self.died(model.definition.name, server.id, death)
            elif server.state is ProcessState.stopped:
                self._keeping.stopped(model)
            self._keeping.look()
            self._room.changed()
        self._changed()

    def died(self, model: str, process: str, death: Death) -> None:
        """A process has crashed: it is remembered how."""
        self._crashes.note(
            Crash(
                process=process,
                model=model,
                started_ms=death.started_ms,
                ended_ms=self._clock.wall_ms(),
                code=death.code,
                signal=death.signal,
                verdict=death.verdict,
                requests=death.requests,
                error=death.error.message,
                stderr=death.stderr or death.error.stderr,
            )
        )

    def _note_load(self, model: LocalModel, loaded: protocol.LoadResult) -> None:
        name = model.definition.name
        before = self._loads.of(name)
        alike = before is not None and (before.slots, before.context) == (loaded.slots, loaded.context)
        record = LoadRecord(
            backend=loaded.backend,
            slots=loaded.slots,
            context=loaded.context,
            load_ms=max(1, int(loaded.load_ms)),
            estimate=next((it.estimate.total for it in model.uses()), 0),
            measured=before.measured if before is not None and alike else 0,
        )
        self._loads.note(name, record)

    def _look_at(self, model: LocalModel, process: ModelProcess) -> None:
        """Now and then: what a process takes, and what it has written."""
        now = asyncio.get_running_loop().time()
        if now - self._looked.get(process.id, float("-inf")) < _LOOK_S:
            return
        self._looked[process.id] = now
        bound(process.log)
        use = next((it for it in model.uses() if it.process == process.id), None)
        if use is not None:
            self._loads.measured(model.definition.name, self._ledger.measured(use))
