"""The verdict on a model: which backends could run it here, what it needs, where that fits, and why not. Pure: what was seen of the
model and of the machine goes in."""

from __future__ import annotations

from pathlib import Path

from engine.contract.definitions import Backend
from engine.contract.errors import AiwmError
from engine.contract.requests.models import Verdict, Way
from engine.inference.backends.exllamav2.files import ARCHITECTURES
from engine.inference.memory.estimate import Estimate, Sizing, estimate
from engine.inference.memory.host import CPU
from engine.inference.memory.words import size_text
from engine.inference.models.defaults import ELSEWHERE, kind_text
from engine.inference.models.kinds import ModelKind, Seen
from engine.inference.models.machine import Machine

REFERENCE_PARAMETERS = 1_500_000_000
"""More than this the reference backend does not take on (`backends/reference/memory.py`)."""

_CONTEXTS = (8192, 4096, 2048)
"""Tokens of context that are tried for a model when nobody says."""

_NO_ROOM = 2

_EXLLAMAV2_KINDS = (ModelKind.plain, ModelKind.exl2, ModelKind.gptq)
_SERVERS = {
    ModelKind.gguf: ("llama-server", "install llama.cpp, or aiwm model add FILE --command '…'"),
    ModelKind.awq: ("vLLM", "pip install vllm, or use a server that runs"),
    ModelKind.exl3: ("TabbyAPI", ELSEWHERE[ModelKind.exl3]),
}


def judge(seen: Seen, machine: Machine, *, slots: int = 0, context: int = 0, known_as: str = "") -> Verdict:
    """What can be said of a model. `slots` and `context` 0: as much of both as there is room for now, within reason. The chat template is
    checked elsewhere."""
    tried = [(sizing, *_ways(seen, machine, sizing)) for sizing in _sizings(seen, machine, slots, context)]
    sizing, ways, estimates = min(tried, key=lambda it: _discomfort(it[1]))
    if _discomfort(ways) == _NO_ROOM:
        sizing, ways, estimates = tried[-1]  # what it takes at the very least
    chosen = next((way for way in ways if way.usable and way.fits), None) or next(
        (it for it in ways if it.usable), None
    )
    counted = estimates.get((chosen or ways[0]).runs_with, Estimate()) if ways else Estimate()
    state, why, fix = _state(seen, ways, chosen, machine)
    return Verdict(
        path=seen.path,
        name=seen.name,
        kind=seen.kind.value,
        quant=seen.quant,
        architecture=seen.architecture,
        parameters=_told(seen.parameters),
        weights_bytes=_told(counted.weights or seen.weights_bytes),
        kv_bytes=_told(counted.kv),
        scratch_bytes=_told(counted.scratch + counted.process + counted.adapters),
        needs_bytes=_told(counted.total),
        context=sizing.context,
        max_context=seen.shape.context,
        slots=sizing.slots,
        runs_with=chosen.runs_with if chosen is not None and state in ("usable", "no room") else "",
        fits=chosen.fits if chosen is not None and state == "usable" else (),
        state=state,
        why=why,
        fix=fix,
        ways=tuple(ways),
        template="unchecked" if seen.template is not None else "none",
        damaged=seen.damaged,
        notes=seen.notes,
        known_as=known_as,
    )


def _told(count: int) -> int:
    """A number as answers can carry it: a damaged header may say anything."""
    return min(count, 2**62)


def _sizings(seen: Seen, machine: Machine, slots: int, context: int) -> list[Sizing]:
    """How a model may be run, the best first: a long context for a few beats a short one for many."""
    longest = seen.shape.context or _CONTEXTS[0]
    contexts = [min(context, longest)] if context else sorted({min(it, longest) for it in _CONTEXTS}, reverse=True)
    counts = [slots] if slots else sorted({min(it, machine.slots) for it in (machine.slots, 4, 2, 1)}, reverse=True)
    return [Sizing(slots=count, context=length) for length in contexts for count in counts]


def _discomfort(ways: list[Way]) -> int:
    """0: it fits on one device; 1: spread over several; 2: not."""
    fitting = next((way.fits for way in ways if way.usable and way.fits), None)
    return _NO_ROOM if fitting is None else 1 if "+" in fitting[0] else 0


def _state(seen: Seen, ways: list[Way], chosen: Way | None, machine: Machine) -> tuple[str, str, str | None]:
    """(state, why, fix), the worst thing first."""
    if seen.kind is ModelKind.unknown and not seen.damaged and not seen.refused:
        return "no model", kind_text(seen), None
    if seen.refused:
        return "refused", f"{seen.refused}: weights must be safetensors or GGUF", "convert the weights to safetensors"
    if seen.damaged:
        more = f" (and {len(seen.damaged) - 1} more)" if len(seen.damaged) > 1 else ""
        return "damaged", seen.damaged[0] + more, "copy the files again from where they came"
    if chosen is None:
        fix = ELSEWHERE.get(seen.kind) or _fix(seen, machine)
        return "refused", "; ".join(f"{way.runs_with}: {way.why}" for way in ways) or kind_text(seen), fix
    if not chosen.fits:
        return "no room", f"{chosen.runs_with}: {chosen.why}", f"aiwm model plan {seen.name}"
    return "usable", "", None


def _fix(seen: Seen, machine: Machine) -> str | None:
    if seen.kind in _SERVERS:
        return _SERVERS[seen.kind][1]
    if machine.exllamav2 and not machine.gpus:
        return "without a GPU: a GGUF of it, which llama-server runs on the CPU"
    return machine.exllamav2_fix or None


def _ways(seen: Seen, machine: Machine, sizing: Sizing) -> tuple[list[Way], dict[str, Estimate]]:
    """Every backend that has to do with such a model, the best first, and what each would take."""
    ways: list[Way] = []
    estimates: dict[str, Estimate] = {}

    def add(runs_with: str, backend: Backend, reason: str, devices: tuple[str, ...] = ()) -> None:
        counted = estimate(backend, seen.kind, seen.shape, seen.parameters, seen.weights_bytes, sizing)
        estimates[runs_with] = counted
        fits = () if reason else _fits(counted.total, machine, devices)
        room = reason or ("" if fits else _no_room(counted.total, machine, devices))
        ways.append(Way(runs_with=runs_with, usable=not reason, why=room, needs_bytes=_told(counted.total), fits=fits))

    gpus = tuple(device.id for device in machine.gpus)
    if seen.kind in _EXLLAMAV2_KINDS:
        add("exllamav2", Backend.exllamav2, machine.exllamav2 or _unfit_for_exllamav2(seen), gpus)
    if seen.kind is ModelKind.plain:
        add("reference", Backend.reference, _unfit_for_reference(seen), (CPU,))
    if seen.kind is ModelKind.gguf:
        reason = "" if machine.llama_server else "not in PATH"
        add("llama-server", Backend.command, reason, (*gpus, CPU))
    if seen.kind is ModelKind.awq:
        add("vLLM", Backend.command, "" if machine.vllm else "not in PATH", gpus)
    if seen.kind is ModelKind.exl3:
        add("TabbyAPI", Backend.command, "runs it as a server that you start", gpus)
    return ways, estimates


def _fits(needs: int, machine: Machine, devices: tuple[str, ...]) -> tuple[str, ...]:
    """The devices with so much free; `A+B` when only several together have it."""
    chosen = [device for device in machine.devices if device.id in devices]
    alone = tuple(device.id for device in chosen if device.free >= needs)
    gpus = [device for device in chosen if device.id != CPU]
    if not alone and len(gpus) > 1 and sum(device.free for device in gpus) >= needs:
        return ("+".join(device.id for device in gpus),)
    return alone


def _no_room(needs: int, machine: Machine, devices: tuple[str, ...]) -> str:
    chosen = [device for device in machine.devices if device.id in devices]
    if not chosen:
        return "no GPU"
    best = max(chosen, key=lambda device: device.free)
    return f"needs {size_text(needs)}, most free is {size_text(best.free)} ({best.id})"


def _unfit_for_reference(seen: Seen) -> str:
    """Why the reference backend would refuse it; its own reading of config.json decides."""
    from engine.inference.backends.reference.config import read_config

    if seen.parameters > REFERENCE_PARAMETERS:
        return f"{seen.parameters / 1e9:.1f} billion parameters, at most {REFERENCE_PARAMETERS / 1e9:.1f}"
    if not seen.has_tokenizer:
        return "it wants a tokenizer.json"
    try:
        read_config(Path(seen.path))
    except AiwmError as error:
        return error.info.message.removeprefix("the reference backend ")
    return ""


def _unfit_for_exllamav2(seen: Seen) -> str:
    if seen.architecture and seen.architecture not in ARCHITECTURES:
        return f"does not know {seen.architecture}"
    return "" if seen.has_tokenizer or any("tokenizer.model" in note for note in seen.notes) else "it has no tokenizer"
