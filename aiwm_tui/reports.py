"""What the last-action line says after a change: the effect, in one line. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, clean
from engine.contract.requests.base import Request
from engine.contract.requests.fleet import PoolScale, QueuePause, QueueResume, WorkerReload
from engine.contract.requests.tasks import TaskCancel, TaskRetry, TaskSubmit


def report(request: Request[Any], answer: Any) -> Line:
    """What was done by a request, from its answer."""
    match request:
        case QueuePause():
            return (
                (
                    f"paused {request.name}: {form.plural(answer.row.waiting, 'task')} wait, {answer.row.running} still run",
                    "text",
                ),
            )
        case QueueResume():
            return ((f"{request.name} goes on: {form.plural(answer.row.waiting, 'task')} wait", "text"),)
        case PoolScale():
            definition = answer.definition
            return (
                (f"{request.name} keeps {definition.min_idle} idle and has at most {definition.max_total}", "text"),
            )
        case TaskSubmit():
            return ((f"submitted {answer.id} to {clean(request.queue)}", "text"),)
        case TaskCancel():
            parts = [("cancelled", answer.cancelled), ("told to stop", answer.stopping), ("had ended", answer.ended)]
            return ((_listed(parts), "text"),)
        case TaskRetry():
            refused = "".join(f"; {key}: {why}" for key, why in list(answer.refused.items())[:3])
            return ((_listed([("back in the queue", answer.retried)]) + clean(refused, 200), "text"),)
        case WorkerReload():
            if answer.errors:
                first = answer.errors[0]
                return (("nothing changed: ", "broken"), (clean(first.message, 300), "text"))
            parts = [("added", answer.added), ("changed", answer.changed), ("removed", answer.removed)]
            return ((_listed(parts) + f" ({answer.unchanged} as before)", "text"),)
    return ((f"{request.method} done", "text"),)


def _listed(parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    said = [f"{word} {_names(names)}" for word, names in parts if names]
    return "; ".join(said) or "nothing changed"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(clean(name, 40) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
