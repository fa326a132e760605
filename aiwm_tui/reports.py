"""What the last-action line says after a change: the effect, in one line. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, clean
from engine.contract.requests.adapters import AdapterAdd, AdapterChoose, AdapterEvict, AdapterPrefetch
from engine.contract.requests.approvals import ApprovalApprove, ApprovalReject
from engine.contract.requests.base import Request
from engine.contract.requests.definitions import (
    PoolDelete,
    PoolUpdate,
    QueueDelete,
    QueueDrain,
    QueueUpdate,
    SourceCreate,
    SourceDelete,
    SourceUpdate,
    TemplateCreate,
    TemplateDelete,
    TemplateUpdate,
    WorkerCreate,
)
from engine.contract.requests.fleet import PoolCreate, PoolScale, QueueCreate, QueuePause, QueueResume, WorkerReload
from engine.contract.requests.instances import InstanceRetire
from engine.contract.requests.maintenance import EngineDrain, EngineResume
from engine.contract.requests.memory import ModelKeep, ModelLoad, ModelRestart, ModelUnload
from engine.contract.requests.operations import OperationUndo
from engine.contract.requests.tasks import TaskCancel, TaskMove, TaskRetry, TaskSubmit


def report(request: Request[Any], answer: Any) -> Line:
    """What was done by a request, from its answer."""
    if isinstance(request, WorkerReload) and answer.errors:
        return (("nothing changed: ", "broken"), (clean(answer.errors[0].message, 300), "text"))
    say = _SAY.get(type(request))
    return ((say(request, answer) if say is not None else f"{request.method} done", "text"),)


def _paused(request: Any, answer: Any) -> str:
    return f"paused {request.name}: {form.plural(answer.row.waiting, 'task')} wait, {answer.row.running} still run"


def _cancelled(request: TaskCancel, answer: Any) -> str:
    if answer.due_ms is not None:
        return f"cancels {_names(request.ids)}"
    parts = [("cancelled", answer.cancelled), ("told to stop", answer.stopping), ("had ended", answer.ended)]
    return _listed(parts)


def _retried(_: Any, answer: Any) -> str:
    held = f"; {answer.held} follow when it has completed" if answer.held else ""
    return _listed([("back in the queue", answer.retried)]) + held + _refused(answer.refused)


def _undone(_: Any, answer: Any) -> str:
    back = answer.taken_back
    return (_listed([("taken back", back)]) if back else f"{answer.id} is {answer.state}") + _refused(answer.refused)


def _decided(_: Any, answer: Any) -> str:
    error = f": {clean(answer.error.message, 200)}" if answer.error is not None else ""
    return f"{answer.id} {answer.state}: {clean(answer.method)}{error}"


def _quieted(_: Any, answer: Any) -> str:
    if answer.idle:
        return "nothing starts and nothing runs: the machine is quiet"
    risky = f"; {', '.join(map(clean, answer.risky))} may do something twice" if answer.risky else ""
    return f"nothing more starts; a restart now would take {form.plural(len(answer.running), 'task')} back{risky}"


def _loaded(_: Any, answer: Any) -> str:
    gone = f"; unloaded {_names(answer.unloaded)}" if answer.unloaded else ""
    planned = f", {form.size(answer.estimate)} planned" if answer.estimate else ""
    took = f"{form.size(answer.measured)}{planned}"
    return f"{answer.process or answer.model} is up in {form.span(answer.load_ms)}: {took}{gone}"


def _unloaded(request: Any, answer: Any) -> str:
    if request.now or not answer.running:
        return f"unloads {_names(answer.processes) or request.name}"
    return f"{_names(answer.processes)} goes after its {answer.running}"


def _kept(request: Any, answer: Any) -> str:
    if answer.until_ms == 0:
        return f"{request.name} is kept no longer"
    return f"{request.name} is kept " + (
        "always" if answer.until_ms is None else f"until {form.clock(answer.until_ms)}"
    )


def _chosen(_: Any, answer: Any) -> str:
    running = f"; {_names(answer.running)} ends with the one before" if answer.running else ""
    return f"{answer.name}: {answer.before or 'none'} → {answer.after}{running}"


def _brought(request: Any, answer: Any) -> str:
    found = "; ".join(f"{it.name} " + (f"is in {it.model}" if it.ready else "found no room") for it in answer)
    return found + (" and stays" if request.keep else "")


def _evicted(_: Any, answer: Any) -> str:
    words = [
        f"{it.name} " + ("stays: it is in use" if it.in_use else "evicted" if it.evicted else "was nowhere")
        for it in answer
    ]
    return "; ".join(words)


def _made(request: Any, _: Any) -> str:
    return f"made {request.method.partition('.')[0]} {request.definition.name}"


def _changed(request: Any, _: Any) -> str:
    return f"changed {', '.join(_said(request.changes))} of {request.name}"


def _deleted(_: Any, answer: Any) -> str:
    cancelled = f", {form.plural(answer.cancelled, 'task')} cancelled" if answer.cancelled else ""
    return f"deleted {answer.kind} {answer.name}{cancelled}"


def _reloaded(_: Any, answer: Any) -> str:
    parts = [("added", answer.added), ("changed", answer.changed), ("removed", answer.removed)]
    return _listed(parts) + f" ({answer.unchanged} as before)"


_SAY: dict[type[Request[Any]], Callable[[Any, Any], str]] = {
    QueuePause: _paused,
    QueueResume: lambda request, answer: f"{request.name} goes on: {form.plural(answer.row.waiting, 'task')} wait",
    QueueDrain: lambda request, answer: f"{request.name} drains: {form.plural(answer.row.waiting, 'task')} to go",
    PoolScale: lambda request, answer: (
        f"{request.name} keeps {answer.definition.min_idle} idle and has at most {answer.definition.max_total}"
    ),
    TaskSubmit: lambda request, answer: (
        f"submitted {answer.id}" + (f" to {clean(request.queue)}" if request.queue else "")
    ),
    TaskCancel: _cancelled,
    TaskRetry: _retried,
    TaskMove: lambda _, answer: _listed([("moved", answer.changed)]) + _refused(answer.refused),
    OperationUndo: _undone,
    EngineDrain: _quieted,
    EngineResume: lambda _, answer: f"the engine goes on: {form.plural(answer.waiting, 'task')} wait",
    InstanceRetire: lambda request, answer: (
        f"retired {request.id}" if answer.row is None else f"{request.id} goes when its task has ended"
    ),
    ModelLoad: _loaded,
    ModelUnload: _unloaded,
    ModelRestart: lambda request, answer: f"{', '.join(answer.processes) or request.name} starts again",
    ModelKeep: _kept,
    AdapterChoose: _chosen,
    AdapterPrefetch: _brought,
    AdapterEvict: _evicted,
    AdapterAdd: lambda _, answer: f"registered {answer.row.id}" + (", now current" if answer.row.current else ""),
    ApprovalApprove: _decided,
    ApprovalReject: _decided,
    WorkerReload: _reloaded,
    **dict.fromkeys((QueueCreate, PoolCreate, TemplateCreate, SourceCreate, WorkerCreate), _made),
    **dict.fromkeys((QueueUpdate, PoolUpdate, TemplateUpdate, SourceUpdate), _changed),
    **dict.fromkeys((QueueDelete, PoolDelete, TemplateDelete, SourceDelete), _deleted),
}


def _refused(why: Mapping[str, str]) -> str:
    return clean("".join(f"; {key}: {text}" for key, text in list(why.items())[:3]), 200)


def _said(changes: Any) -> list[str]:
    """The fields that a partial change names."""
    return [name for name in changes.__struct_fields__ if getattr(changes, name) is not msgspec.UNSET]


def _listed(parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    said = [f"{word} {_names(names)}" for word, names in parts if names]
    return "; ".join(said) or "nothing changed"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(clean(name, 40) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
