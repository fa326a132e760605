"""Answers about models' memory, adapters and comparisons."""

from __future__ import annotations

from typing import Any

from engine.contract.definitions import AdapterUse, ModelDefinition
from engine.contract.requests import adapters, comparisons, memory, models
from tests.support.console_engine import ConsoleEngine, answers
from tests.support.console_inference import caches, plan, versions


@answers(memory.ModelPlan)
def _plan(_: ConsoleEngine, request: memory.ModelPlan) -> memory.MemoryPlan:
    return plan(request.name, fits=request.name == "aiwm-nano")


@answers(memory.ModelCrashes)
def _crashes(_: ConsoleEngine, request: memory.ModelCrashes) -> list[memory.Crash]:
    return [
        memory.Crash(
            process=f"{request.name}.0", model=request.name, started_ms=1, ended_ms=2, code=71, verdict="out of GPU memory",
            requests=2, error="", stderr=("CUDA out of memory",),
        )
    ]  # fmt: skip


@answers(memory.ModelLoad)
def _load(_: ConsoleEngine, request: memory.ModelLoad) -> memory.ModelLoaded:
    gone = ("llama8.0",) if request.way else ()
    process = f"{request.name}.0"
    return memory.ModelLoaded(
        model=request.name, process=process, load_ms=1_900.0, estimate=2**30, measured=2**30, unloaded=gone
    )


@answers(memory.ModelUnload, memory.ModelRestart)
def _stop(engine: ConsoleEngine, request: Any) -> memory.ModelStopped:
    row = engine.row("models", request.name)
    return memory.ModelStopped(model=row.model, processes=(row.id,), running=row.running)


@answers(memory.ModelKeep)
def _keep(engine: ConsoleEngine, request: memory.ModelKeep) -> memory.ModelKept:
    until = {-1: None, 0: 0}.get(request.keep_ms, engine.now() + request.keep_ms)
    return memory.ModelKept(model=request.name, until_ms=until)


@answers(models.ModelOffer)
def _offer(_: ConsoleEngine, request: models.ModelOffer) -> models.Offered:
    return models.Offered(model=request.model, queue="demo", made=())


@answers(adapters.AdapterInspect)
def _inspect(engine: ConsoleEngine, request: adapters.AdapterInspect) -> adapters.AdapterDetail:
    row = engine.row("adapters", request.name)
    return adapters.AdapterDetail(row=row, follow=("extractor",) if row.current else ())


@answers(adapters.AdapterVersions)
def _versions(_: ConsoleEngine, request: adapters.AdapterVersions) -> list[adapters.AdapterVersion]:
    return versions(request.name.partition("@")[0])


@answers(adapters.AdapterList)
def _list(engine: ConsoleEngine, _: adapters.AdapterList) -> list[Any]:
    return [row for row in engine.tables["adapters"].values() if row.current]


@answers(adapters.AdapterStats)
def _stats(_: ConsoleEngine, __: adapters.AdapterStats) -> list[adapters.CacheStats]:
    return caches()


@answers(adapters.AdapterChoose)
def _choose(engine: ConsoleEngine, request: adapters.AdapterChoose) -> adapters.AdapterUsed:
    row = engine.row("adapters", request.name)
    return adapters.AdapterUsed(operation="op-7", name=row.name, before=f"{row.name}@v4", after=row.id)


@answers(adapters.AdapterPrefetch)
def _prefetch(_: ConsoleEngine, request: adapters.AdapterPrefetch) -> list[adapters.Brought]:
    return [adapters.Brought(name=name, digest="d", model="qwen14", ready=True) for name in request.names]


@answers(adapters.AdapterEvict)
def _evict(_: ConsoleEngine, request: adapters.AdapterEvict) -> list[adapters.Left]:
    return [adapters.Left(name=name, digest="d", evicted=False, in_use=True) for name in request.names]


@answers(adapters.AdapterAdd)
def _add(engine: ConsoleEngine, request: adapters.AdapterAdd) -> adapters.AdapterDetail:
    return adapters.AdapterDetail(row=engine.row("adapters", f"{request.name}@v4"))


def _answer(variant: str) -> comparisons.Answer:
    """Base says one thing; an adapter more and more of another as its weight grows."""
    if variant == "base":
        return comparisons.Answer(
            label="base", asked=(), text="net 1240.50 of Müller", reason="stop", tokens_in=9, tokens_out=7
        )
    uses = [part.partition(":") for part in variant.split("+")]
    weight = float(uses[0][2])
    words = ["net", "0000" if weight > 0.5 else "1240.50", "of", "zeros" if weight > 1 else "Müller"]
    applied = tuple(comparisons.AppliedAdapter(name=name, digest="9b1f04" * 10, weight=weight) for name, _, _ in uses)
    return comparisons.Answer(
        label=" + ".join(name for name, _, _ in uses) + f" × {weight:g}",
        asked=tuple(AdapterUse(name=name, weight=weight) for name, _, _ in uses),
        adapters=applied,
        text=" ".join(words),
        reason="stop",
        tokens_in=9,
        tokens_out=8,
        total_ms=210.0,
    )


@answers(comparisons.TaskCompare, comparisons.AdapterCompare)
def _compare(_: ConsoleEngine, request: Any) -> comparisons.Comparison:
    task = isinstance(request, comparisons.TaskCompare)
    return comparisons.Comparison(
        about=request.id if task else "",
        model="qwen14",
        definition="extractor",
        prompt="<user>\nExtract the net sum.\n<assistant>" if task else request.prompt,
        kept=task,
        seed=7 if request.seed is None else request.seed,
        answers=[_answer(name) for name in (request.adapters if task else request.names)],
    )


@answers(models.ModelShow, models.ModelSet)
def _show(_: ConsoleEngine, request: models.ModelShow) -> models.ModelDetail:
    return models.ModelDetail(definition=ModelDefinition(name=request.name, kv_bytes=6 * 2**30), origin="added")
