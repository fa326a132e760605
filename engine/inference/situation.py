"""What there is of memory, who holds it, what is promised to whom, and what a model would need: everything that a decision about room
rests on. Nothing is started or ended here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from engine.contract.definitions import Backend
from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest
from engine.inference.launch import Sizes
from engine.inference.loads import LoadBook
from engine.inference.memory.host import CPU
from engine.inference.memory.ledger import Ledger, Use
from engine.inference.memory.plan import Holder, Need, Plan, Space, Way, automatic, make_plan
from engine.inference.memory.words import size_text
from engine.inference.served import Managed, Process
from engine.inference.supervisor import ModelProcess

SETTLED_S = 0.5
"""A process counts as idle when it has had nothing to do for so long: between two tasks of a busy queue it is not."""

_AND = "+"  # between the GPUs that one model is spread over

Hits = Callable[[str], tuple[str, ...]]
"""Who waits when a model goes, in words: `inbox: 1,102 wait`."""


class Situation:
    """All methods belong to the loop's thread."""

    def __init__(
        self, ledger: Ledger, sizes: Sizes, loads: LoadBook, models: Callable[[], Iterable[Managed]], hits: Hits
    ) -> None:
        self._ledger = ledger
        self._sizes = sizes
        self._loads = loads
        self._models = models
        self._hits = hits
        self._promised: dict[str, tuple[str, int]] = {}  # by process: device, bytes
        self._plans: dict[str, Plan] = {}

    def need(self, model: Managed, context: int = 0) -> Need:
        """What one more process of it needs, and where it may lie."""
        load_ms = self._loads.load_ms(model.definition.name)
        wanted = context or model.context_override
        return self._sizes.need(model.definition, model.settings, self._devices(model), wanted, load_ms)

    def of(self, model: Managed, process: Process | None = None) -> tuple[list[Space], list[Holder]]:
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
        spaces, holders = self.of(model)
        own = {it.id for it in model.processes}
        others = [it for it in holders if it.process not in own]
        plan = make_plan(self.need(model, context), spaces, others, strangers)
        self._plans[model.definition.name] = plan
        return plan

    def last_plan(self, model: str) -> Plan | None:
        return self._plans.get(model)

    def fits(self, model: Managed) -> bool:
        """Whether one more process of it fits beside everything that is there, and what is promised."""
        return self.unplanned(model) or self.beside(model) is not None

    def unplanned(self, model: Managed) -> bool:
        """Without a GPU the process itself says best why it cannot be; of a server that is elsewhere nothing is known."""
        definition = model.definition
        return not definition.path or (definition.backend is Backend.exllamav2 and not self._ledger.gpus())

    def beside(self, model: Managed, process: Process | None = None) -> Space | None:
        """Where a process fits while everybody stays; None: nowhere."""
        if self.unplanned(model):
            return None
        spaces, _ = self.of(model, process)
        found = automatic(self.need(model), spaces, ())
        return None if found is None else found[0]

    # -- promises ----------------------------------------------------------------------------------------------------------

    def promise(self, process: Process, need: Need, way: Way) -> None:
        """What becomes free on the way's device is for this process and nobody else, another of its model included."""
        self._promised[process.id] = (way.device, need.bytes)

    def break_promise(self, process: Process) -> bool:
        """Whether there was one."""
        return self._promised.pop(process.id, None) is not None

    # -- words and names ---------------------------------------------------------------------------------------------------

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

    # -- inside --------------------------------------------------------------------------------------------------------------

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


def _together(spaces: list[Space], holders: list[Holder], devices: tuple[str, ...]) -> tuple[list[Space], list[Holder]]:
    """Several GPUs as one, for a model that is spread over them."""
    mine = [it for it in spaces if it.id in devices]
    name = _AND.join(devices)
    most = sum(it.total if it.most is None else it.most for it in mine)
    total, free = sum(it.total for it in mine), sum(it.free for it in mine)
    whole = Space(name, ", ".join(it.name for it in mine), total, free, most)
    found = [replace(it, held={**it.held, name: sum(it.held.get(device, 0) for device in devices)}) for it in holders]
    return [*(it for it in spaces if it.id not in devices), whole], found
