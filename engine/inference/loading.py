"""Loading a model because somebody says so: where it fits, by a way of a plan, or in the place of others."""

from __future__ import annotations

from engine.contract.errors import AiwmError, Code
from engine.contract.requests.memory import EstimateParts, MemoryPlan, ModelLoad, ModelLoaded, PlanSpace, PlanWay
from engine.inference.local import LocalModel
from engine.inference.memory.plan import Plan, Step, Way, automatic
from engine.inference.memory.words import size_text
from engine.inference.served import Managed
from engine.inference.service import InferenceService


class Loading:
    """All methods belong to the loop's thread."""

    def __init__(self, models: InferenceService) -> None:
        self._models = models
        self._room = models.room
        self._situation = models.situation

    async def load(self, model: Managed, request: ModelLoad) -> ModelLoaded:
        """Load it and wait until it is ready. Raises model_refused with the numbers, needs_confirmation with who is hit, conflict for a
        plan that does not hold any more."""
        way = await self._way(model, request)
        evict = self._situation.named(request.evict)
        self._confirm(request, way)
        self._models.keeping.hold(model, "")
        if isinstance(model, LocalModel):
            await self._as_asked(model, request)
        others = self._situation.models_of(step.process for step in way.steps if step.kind == "unload") if way else ()
        others += self._situation.models_of(process.id for process in evict)
        unloaded: tuple[str, ...] = ()
        try:
            if way is not None:
                unloaded = await self._go(model, way)
            elif evict:
                unloaded = tuple(process.id for process in evict)
                await self._room.unload(unloaded, f"for {model.definition.name}", drain=request.drain)
                self._refuse_unless_it_fits(model)
            elif all(process.startable for process in model.processes):
                self._refuse_unless_it_fits(model)
            await model.ready()
        finally:
            self._room.break_promise(model.processes[0])
        if request.put_back and others:
            self._models.keeping.put_back(model.definition.name, tuple(dict.fromkeys(others)))
        return self._loaded(model, unloaded)

    # -- what was asked for ------------------------------------------------------------------------------------------------

    async def _way(self, model: Managed, request: ModelLoad) -> Way | None:
        """The way that somebody saw in the last plan, if it is still there."""
        if request.way is None:
            if request.plan:
                raise AiwmError(Code.bad_request, "a plan without a way says nothing", field="way", fix="--way 1")
            return None
        name = model.definition.name
        seen = self._situation.last_plan(name)
        if request.plan and (seen is None or seen.id != request.plan):
            raise _outdated(name, request.plan)
        plan = await self._situation.plan(model, request.context or (seen.need.context if seen else 0))
        wanted = next((it for it in (seen or plan).ways if it.number == request.way), None)
        if wanted is None:
            count = len((seen or plan).ways)
            raise AiwmError(
                Code.bad_request,
                f"there is no way {request.way}: the plan has {count}",
                field="way",
                fix=f"aiwm model plan {name}",
            )
        way = next((it for it in plan.ways if it.steps == wanted.steps and it.device == wanted.device), None)
        if way is None:
            raise _outdated(name, seen.id if seen else plan.id)
        if not way.fits or not way.runnable:
            why = "it is for others to go" if not way.runnable else f"{size_text(-way.spare)} would still be missing"
            raise AiwmError(
                Code.model_refused, f"way {request.way} ({way.text}) does not load it: {why}", field="way",
                fix=f"aiwm model plan {name}",
            )  # fmt: skip
        return way

    def _confirm(self, request: ModelLoad, way: Way | None) -> None:
        if way is not None and way.hit and not request.yes:
            raise AiwmError(
                Code.needs_confirmation,
                f"way {request.way}, {way.text}, hits: {'; '.join(way.hit)}",
                field="yes",
                fix="--yes",
            )

    async def _as_asked(self, model: LocalModel, request: ModelLoad) -> None:
        """Context and devices of the next start; what runs with others ends first, after what it does."""
        for process in model.replicas:
            process.forgive()
        if not request.context and not request.gpu:
            return
        await self._room.unload(
            [it.id for it in model.replicas if not it.startable], "to be loaded otherwise", drain=True
        )
        if request.context:
            model.with_context(request.context)
        if request.gpu:
            model.with_devices(request.gpu)

    def _refuse_unless_it_fits(self, model: Managed) -> None:
        if self._situation.unplanned(model):
            return
        need = self._situation.need(model)
        spaces, holders = self._situation.of(model)
        if automatic(need, spaces, holders) is None:
            raise self._situation.refusal(need, spaces, holders)

    # -- going a way -----------------------------------------------------------------------------------------------------------

    async def _go(self, model: Managed, way: Way) -> tuple[str, ...]:
        """Make room as the way says; the processes that were unloaded for good."""
        for step in way.steps:
            if step.kind == "context" and isinstance(model, LocalModel):
                model.with_context(step.context)
            if step.kind == "split" and isinstance(model, LocalModel):
                model.with_devices(tuple(int(device.removeprefix("GPU")) for device in step.devices))
        # What becomes free is for this model: work for the others, which would take it again at once, waits.
        self._situation.promise(model.processes[0], self._situation.need(model), way)
        unloaded = tuple(step.process for step in way.steps if step.kind == "unload")
        await self._room.unload(unloaded, f"for {model.definition.name}", drain=True)
        for step in way.steps:
            if step.kind == "shrink":
                await self._shrink(step)
        return unloaded

    async def _shrink(self, step: Step) -> None:
        found = [it for it in self._models.managed() if any(process.id == step.process for process in it.processes)]
        for other in found:
            if isinstance(other, LocalModel):
                other.with_context(step.context)
                await self._room.unload((step.process,), f"to be loaded with a context of {step.context:,}", drain=True)
                self._models.ensure(other.definition.name)

    def _loaded(self, model: Managed, unloaded: tuple[str, ...]) -> ModelLoaded:
        uses = model.uses()
        up = {process.id for process in model.processes if process.up}
        use = next((it for it in uses if it.process in up), None)
        measured = self._models.ledger.measured(use) if use is not None else 0
        self._models.loads.measured(model.definition.name, measured)
        return ModelLoaded(
            model=model.definition.name,
            process=use.process if use is not None else "",
            load_ms=self._models.loads.load_ms(model.definition.name),
            estimate=use.estimate.total if use is not None else 0,
            measured=measured,
            unloaded=unloaded,
        )


def _outdated(name: str, plan: str) -> AiwmError:
    return AiwmError(
        Code.conflict, f"plan {plan} does not hold any more: who holds memory has changed", field="plan", fix=f"aiwm model plan {name}"
    )  # fmt: skip


def plan_of(plan: Plan, model: Managed, models: InferenceService, now_ms: int, asked: int) -> MemoryPlan:
    """A plan as it is told; `asked` is the context that somebody wanted (0: none was named)."""
    definition = model.definition
    parts = models.sizes.estimate(definition, model.settings, plan.need.context)
    last = models.loads.of(definition.name)
    alike = last is not None and (last.slots, last.context) == (model.settings.slots, plan.need.context)
    return MemoryPlan(
        id=plan.id,
        model=definition.name,
        backend=definition.backend,
        context=plan.need.context,
        slots=model.settings.slots,
        estimate=EstimateParts(
            weights=parts.weights,
            kv=parts.kv,
            adapters=parts.adapters,
            scratch=parts.scratch,
            process=parts.process,
            total=parts.total,
        ),
        measured=last.measured if last is not None and alike else 0,
        fits=plan.fits,
        spaces=tuple(
            PlanSpace(
                id=it.id,
                name=it.name,
                total=it.total,
                free=it.free,
                others=tuple(f"{size_text(other.bytes)} {other}" for other in models.ledger.known_strangers(it.id)),
            )
            for it in plan.spaces
        ),
        ways=tuple(_told(way, now_ms) for way in plan.ways),
        note=_note(plan, models, model, asked),
    )


def _note(plan: Plan, models: InferenceService, model: Managed, asked: int) -> str:
    if not plan.spaces:
        return models.ledger.note or "the devices that it is for are not here"
    if asked > plan.need.context:
        return f"{model.definition.name} is made for {plan.need.context:,} tokens: it cannot have {asked:,}"
    limit = model.settings.memory_limit
    if limit is not None and plan.need.bytes > limit:
        needs, allowed = size_text(plan.need.bytes), size_text(limit)
        return f"a process of it may hold {allowed} (memory_bytes) and is planned to take {needs}: one that holds more is ended"
    return ""


def _told(way: Way, now_ms: int) -> PlanWay:
    return PlanWay(
        number=way.number,
        text=way.text,
        device=way.device,
        frees=way.frees,
        spare=way.spare,
        fits=way.fits,
        runnable=way.runnable,
        hit=way.hit,
        load_ms=way.load_ms,
        back_ms=now_ms + way.load_ms if way.fits and way.load_ms else None,
    )
