"""Room for model processes: none starts before there is memory for it. Idle ones make room by themselves, busy ones in turn, kept ones only
when somebody says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from engine.contract.errors import AiwmError, Code
from engine.inference.memory.host import CPU
from engine.inference.memory.plan import Holder, Need, Space, automatic, could_fit, make_plan
from engine.inference.memory.words import size_text
from engine.inference.served import Managed, Process
from engine.inference.situation import Situation
from engine.inference.supervisor import ModelProcess
from engine.ports import EventSink

PATIENCE_S = 10.0
"""A model that has waited so long for room gets the place of a busy one that nobody keeps, once that has ended what it does."""

_LOOK_S = 0.25


class Room:
    """All methods belong to the loop's thread."""

    def __init__(self, situation: Situation, events: EventSink, *, patience: float = PATIENCE_S) -> None:
        self._situation = situation
        self._events = events
        self._patience = patience
        self._lock = asyncio.Lock()
        self._turn = asyncio.Event()
        self._coming: dict[str, tuple[asyncio.Task[None], int]] = {}
        self._closed = False

    def close(self) -> None:
        """Let nothing in any more."""
        self._closed = True
        for task, _ in self._coming.values():
            task.cancel()

    def changed(self) -> None:
        """Something has come or gone: who waits looks again."""
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()

    # -- letting in ----------------------------------------------------------------------------------------------------------

    async def admit(self, model: Managed, process: Process) -> None:
        """Start a process as soon as there is room for it. Raises model_refused when there never will be. Who waits for the same process
        waits for the same thing; when nobody does any more it is given up."""
        if self._closed:
            raise AiwmError(
                Code.engine_stopping, "the engine is stopping: no model is started any more", retryable=True
            )
        task, waiting = self._coming.get(process.id) or (
            asyncio.get_running_loop().create_task(self._admit(model, process)),
            0,
        )
        self._coming[process.id] = (task, waiting + 1)
        try:
            await asyncio.shield(task)
        finally:
            known = self._coming.get(process.id)
            if known is not None and known[0] is task:
                if task.done() or known[1] == 1:
                    del self._coming[process.id]
                    task.cancel()
                else:
                    self._coming[process.id] = (task, known[1] - 1)

    async def add(self, model: Managed, process: Process) -> None:
        """Start one more process of a model that runs, if there is room beside everybody else when its turn comes. Nobody goes for it."""
        async with self._lock:
            if self._closed or model.held or not process.startable:
                return
            space = self._situation.beside(model, process)
            if space is not None or self._situation.unplanned(model):
                _put_on(model, process, space)
                process.start()

    async def _admit(self, model: Managed, process: Process) -> None:
        asked = asyncio.get_running_loop().time()
        pushed = False
        try:
            while process.startable:
                if model.held:
                    raise held_back(model)
                turn = self._turn
                async with self._lock:
                    if await self._started(model, process):
                        return
                    need = self._situation.need(model)
                    spaces, holders = self._situation.of(model, process)
                    if not could_fit(need, [it.alone for it in spaces], holders):
                        raise self._refused(model, self._situation.refusal(need, spaces, holders))
                    waited = asyncio.get_running_loop().time() - asked
                    if waited > self._patience and not pushed:
                        pushed = self._push(model, process, need, spaces, holders)
                # Who is in the way may go at any time: work waits for that, and `aiwm model plan` has ways.
                model.refused = ""
                model.waits = f"waits for {size_text(need.bytes)} of memory" + _in_the_way(need, spaces, holders)
                model.publish()
                await _either(turn, _LOOK_S)
        finally:
            self._situation.break_promise(process)
            if model.waits:
                model.waits = ""
                model.publish()

    def _refused(self, model: Managed, error: AiwmError) -> AiwmError:
        """Tell it once, and let it be seen for as long as nobody has loaded the model."""
        message = error.info.message
        if model.refused != message:
            model.refused = message
            self._events.emit("error", "model.refused", model.definition.name, message, fix=error.info.fix)
        return error

    async def _started(self, model: Managed, process: Process) -> bool:
        """Start it if it fits, perhaps after idle ones have gone."""
        while process.startable:
            if self._situation.unplanned(model):
                model.refused = ""
                process.start()
                return True
            spaces, holders = self._situation.of(model, process)
            found = automatic(self._situation.need(model), spaces, holders)
            if found is None:
                return False
            space, leaving = found
            if not leaving:
                _put_on(model, process, space)
                model.refused = ""
                process.start()
                return True
            await self.unload(leaving, f"to make room for {model.definition.name}", drain=True)
        return True

    def _push(self, model: Managed, asking: Process, need: Need, spaces: list[Space], holders: list[Holder]) -> bool:
        """Somebody has waited long: the cheapest busy ones that nobody keeps end what they do and go."""
        free = [it for it in holders if not it.kept]
        plan = make_plan(need, spaces, free)
        way = next((it for it in plan.ways if it.fits and all(step.kind == "unload" for step in it.steps)), None)
        if way is None:
            return False
        self._situation.promise(asking, need, way)
        for process in self._situation.named(step.process for step in way.steps):
            self._events.emit(
                "info", "model.evicted", process.id, f"goes after what it does: {model.definition.name} has waited long"
            )
            process.drain()
        return True

    # -- ways ------------------------------------------------------------------------------------------------------------------

    def break_promise(self, process: Process) -> None:
        """What is promised to a process may be anybody's again."""
        if self._situation.break_promise(process):
            self.changed()

    async def unload(self, processes: Iterable[str], why: str, *, drain: bool) -> None:
        """Unload processes and wait until they are gone."""
        leaving = self._situation.named(processes)
        for process in leaving:
            self._events.emit("info", "model.evicted", process.id, f"unloaded {why}")
            process.drain() if drain and process.requests else process.stop()
        for process in leaving:
            await process.stopped()


def held_back(model: Managed) -> AiwmError:
    """Somebody said that it must not be started."""
    name = model.definition.name
    return AiwmError(
        Code.model_unavailable,
        f"{name} is not started: {model.held}",
        field="model",
        fix=f"aiwm model load {name}",
        retryable=True,
    )


def _in_the_way(need: Need, spaces: list[Space], holders: list[Holder]) -> str:
    """Of a model that waits for more than work that ends by itself: whom it waits for, and where to find what can be done."""
    if not could_fit(need, spaces, holders):
        return f", which processes hold that are not ours: aiwm model plan {need.model}"
    if not could_fit(need, spaces, [it for it in holders if not it.kept]):
        return f", which others are kept in: aiwm model plan {need.model}"
    return ""


def _put_on(model: Managed, process: Process, space: Space | None) -> None:
    """A process for any GPU goes to this one."""
    if space is not None and isinstance(process, ModelProcess) and space.id != CPU and not model.gpus:
        process.go_to((int(space.id.removeprefix("GPU")),))


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass  # time changes things too: what has just worked is idle later
