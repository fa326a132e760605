"""Room for model processes: none starts before there is memory for it. Idle ones make room by themselves, busy ones in turn, kept ones only
when somebody says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from engine.contract.definitions import Backend
from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest
from engine.inference.launch import Sizes
from engine.inference.loads import LoadBook
from engine.inference.memory.host import CPU
from engine.inference.memory.ledger import Ledger, Use
from engine.inference.memory.plan import Holder, Need, Plan, Space, Way, automatic, could_fit, make_plan
from engine.inference.memory.words import size_text
from engine.inference.served import Managed, Process
from engine.inference.supervisor import ModelProcess
from engine.ports import EventSink

SETTLED_S = 0.5
"""A process counts as idle when it has had nothing to do for so long: between two tasks of a busy queue it is not."""

PATIENCE_S = 10.0
"""A model that has waited so long for room gets the place of a busy one that nobody keeps, once that has ended what it does."""

_LOOK_S = 0.25
_AND = "+"  # between the GPUs that one model is spread over

Hits = Callable[[str], tuple[str, ...]]
"""Who waits when a model goes, in words: `inbox: 1,102 wait`."""


class Room:
    """All methods belong to the loop's thread."""

    def __init__(
        self,
        ledger: Ledger,
        sizes: Sizes,
        loads: LoadBook,
        models: Callable[[], Iterable[Managed]],
        events: EventSink,
        hits: Hits,
        *,
        patience: float = PATIENCE_S,
    ) -> None:
        self._ledger = ledger
        self._sizes = sizes
        self._loads = loads
        self._models = models
        self._events = events
        self._hits = hits
        self._patience = patience
        self._lock = asyncio.Lock()
        self._turn = asyncio.Event()
        self._coming: dict[str, tuple[asyncio.Task[None], int]] = {}
        self._promised: dict[str, tuple[str, int]] = {}  # by process: device, bytes
        self._plans: dict[str, Plan] = {}
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

    # -- the situation -----------------------------------------------------------------------------------------------------

    def need(self, model: Managed, context: int = 0) -> Need:
        """What one more process of it needs, and where it may lie."""
        load_ms = self._loads.load_ms(model.definition.name)
        wanted = context or model.context_override
        return self._sizes.need(model.definition, model.settings, self._devices(model), wanted, load_ms)

    def situation(self, model: Managed, process: Process | None = None) -> tuple[list[Space], list[Holder]]:
        """Every device with what is free for a process of `model` (its first, if none is named), and who holds the rest."""
        uses = self.uses()
        spaces = self._ledger.spaces(uses)
        mine = (process or model.processes[0]).id
        for promised, (device, size) in self._promised.items():
            if promised != mine:
                parts = device.split(_AND)
                spaces = [
                    replace(it, free=max(0, it.free - size // len(parts))) if it.id in parts else it for it in spaces
                ]
        held = self._ledger.held(uses)
        holders = [holder for it in self._models() for holder in self._holders(it, held)]
        if len(model.gpus) > 1:
            return _together(spaces, holders, tuple(f"GPU{number}" for number in model.gpus))
        return spaces, holders

    def uses(self) -> list[Use]:
        return [use for model in self._models() for use in model.uses()]

    async def plan(self, model: Managed, context: int = 0) -> Plan:
        """The plan for a model, remembered as its last one. Raises model_invalid for one without files."""
        self._sizes.check(model.definition)
        strangers = await self._ledger.strangers(self.pids())
        spaces, holders = self.situation(model)
        own = {it.id for it in model.processes}
        others = [it for it in holders if it.process not in own]
        plan = make_plan(self.need(model, context), spaces, others, strangers)
        self._plans[model.definition.name] = plan
        return plan

    def last_plan(self, model: str) -> Plan | None:
        return self._plans.get(model)

    def fits(self, model: Managed) -> bool:
        """Whether one more process of it fits beside everything that is there, and what is promised."""
        return self.unplanned(model) or self._beside(model, None) is not None

    def unplanned(self, model: Managed) -> bool:
        """Without a GPU the process itself says best why it cannot be; of a server that is elsewhere nothing is known."""
        definition = model.definition
        return not definition.path or (definition.backend is Backend.exllamav2 and not self._ledger.gpus())

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
            space = self._beside(model, process)
            if space is not None or self.unplanned(model):
                _put_on(model, process, space)
                process.start()

    def _beside(self, model: Managed, process: Process | None) -> Space | None:
        """Where a process fits while everybody stays; None: nowhere."""
        if self.unplanned(model):
            return None
        spaces, _ = self.situation(model, process)
        found = automatic(self.need(model), spaces, ())
        return None if found is None else found[0]

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
                    need = self.need(model)
                    spaces, holders = self.situation(model, process)
                    if not could_fit(need, [it.alone for it in spaces], holders):
                        raise self._refused(model, self.refusal(need, spaces, holders))
                    waited = asyncio.get_running_loop().time() - asked
                    if waited > self._patience and not pushed:
                        pushed = self._push(model, process, need, spaces, holders)
                # Who is in the way may go at any time: work waits for that, and `aiwm model plan` has ways.
                model.refused = ""
                model.waits = f"waits for {size_text(need.bytes)} of memory" + _in_the_way(need, spaces, holders)
                model.publish()
                await _either(turn, _LOOK_S)
        finally:
            self._promised.pop(process.id, None)
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
            if self.unplanned(model):
                model.refused = ""
                process.start()
                return True
            spaces, holders = self.situation(model, process)
            found = automatic(self.need(model), spaces, holders)
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
        self.promise(asking, need, way)
        for process in self.named(step.process for step in way.steps):
            self._events.emit(
                "info", "model.evicted", process.id, f"goes after what it does: {model.definition.name} has waited long"
            )
            process.drain()
        return True

    # -- ways ------------------------------------------------------------------------------------------------------------------

    def promise(self, process: Process, need: Need, way: Way) -> None:
        """What becomes free on the way's device is for this process and nobody else, another of its model included."""
        self._promised[process.id] = (way.device, need.bytes)

    def break_promise(self, model: Managed) -> None:
        if self._promised.pop(model.processes[0].id, None) is not None:
            self.changed()

    async def unload(self, processes: Iterable[str], why: str, *, drain: bool) -> None:
        """Unload processes and wait until they are gone."""
        leaving = self.named(processes)
        for process in leaving:
            self._events.emit("info", "model.evicted", process.id, f"unloaded {why}")
            process.drain() if drain and process.requests else process.stop()
        for process in leaving:
            await process.stopped()

    def refusal(self, need: Need, spaces: list[Space], holders: list[Holder]) -> AiwmError:
        """Why it cannot be loaded, with the numbers."""
        open_ = [it for it in spaces if not need.devices or it.id in need.devices]
        best = max(open_, key=lambda it: it.free, default=None)
        if best is None:
            note = self._ledger.note or "the devices it is for are not there"
            return AiwmError(Code.model_refused, f"{need.model} does not fit: {note}", field="model", fix="aiwm doctor")
        kept = sum(it.held.get(best.id, 0) for it in holders if it.kept)
        words = f"{need.model} needs {size_text(need.bytes)}, {best.id} has {size_text(best.free)} free of {size_text(best.total)}"
        if kept:
            words += f", {size_text(kept)} of it kept by somebody"
        return AiwmError(
            Code.model_refused,
            f"{words}: {size_text(need.bytes - best.free)} short",
            field="model",
            fix=f"aiwm model plan {need.model}",
            retryable=bool(kept),
        )

    def named(self, names: Iterable[str]) -> list[Process]:
        """Processes by their ids. Raises not_found for one that is not there."""
        known = {process.id: process for model in self._models() for process in model.processes}
        found = []
        for name in names:
            process = known.get(name)
            if process is None:
                raise AiwmError(
                    Code.not_found,
                    f'there is no process "{name[:80]}"',
                    field="evict",
                    fix=nearest(name, known) or "aiwm model ps",
                )
            found.append(process)
        return found

    def models_of(self, processes: Iterable[str]) -> tuple[str, ...]:
        """The models that processes are of."""
        wanted = set(processes)
        return tuple(
            model.definition.name for model in self._models() if any(it.id in wanted for it in model.processes)
        )

    def pids(self) -> frozenset[int]:
        """Our processes."""
        return frozenset(use.pid for use in self.uses() if use.pid is not None)

    # -- inside ------------------------------------------------------------------------------------------------------------------

    def _devices(self, model: Managed) -> tuple[str, ...]:
        if model.gpus:
            return (_AND.join(f"GPU{number}" for number in model.gpus),)
        if model.definition.backend is Backend.exllamav2:
            return tuple(gpu.id for gpu in self._ledger.gpus()) or ("GPU",)  # none is here: no device will do
        return (CPU,)

    def _holders(self, model: Managed, held: dict[str, dict[str, int]]) -> list[Holder]:
        name, settings = model.definition.name, model.settings
        full = self._sizes.context(model.definition, settings, model.context_override)
        whole = self._sizes.estimate(model.definition, settings, full).total
        half = self._sizes.estimate(model.definition, settings, full // 2).total if full > 1 else whole
        hit = self._hits(name)
        found = []
        for process in model.processes:
            if process.id not in held:
                continue
            idle_s = process.idle_s
            idle_ms = None if idle_s is None or idle_s < SETTLED_S else int(idle_s * 1000)
            leaves = settings.idle is not None and model.keep_ms is None and idle_s is not None
            found.append(
                Holder(
                    process=process.id,
                    model=name,
                    pid=process.pid,
                    held=held[process.id],
                    running=process.requests,
                    kept=model.keep_ms is not None,
                    idle_ms=idle_ms,
                    unload_ms=max(0, int((settings.idle - idle_s) * 1000))
                    if leaves and settings.idle and idle_s
                    else None,
                    load_ms=self._loads.load_ms(name),
                    context=full,
                    shrinks=max(0, whole - half) if isinstance(process, ModelProcess) else 0,
                    hit=hit,
                )
            )
        return found


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


def _together(spaces: list[Space], holders: list[Holder], devices: tuple[str, ...]) -> tuple[list[Space], list[Holder]]:
    """Several GPUs as one, for a model that is spread over them."""
    mine = [it for it in spaces if it.id in devices]
    name = _AND.join(devices)
    most = sum(it.total if it.most is None else it.most for it in mine)
    total, free = sum(it.total for it in mine), sum(it.free for it in mine)
    whole = Space(name, ", ".join(it.name for it in mine), total, free, most)
    found = [replace(it, held={**it.held, name: sum(it.held.get(device, 0) for device in devices)}) for it in holders]
    return [*(it for it in spaces if it.id not in devices), whole], found


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass  # time changes things too: what has just worked is idle later
