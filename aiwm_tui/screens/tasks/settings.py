"""Where each setting of a task comes from: the task itself, its template, its queue, or its worker's definition. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from aiwm_tui.live.text import Line, clean, cut, fit
from aiwm_tui.live.wrapping import wrapped
from engine.contract.definitions import QueueDefinition, TaskTemplate, WorkerDefinition
from engine.contract.records import TaskRow

_ALWAYS = (("temperature", "temperature"), ("max output", "max_tokens"))
_IF_SAID = (("top p", "top_p"), ("seed", "seed"), ("stop", "stop"), ("system", "system"), ("adapters", "adapters"))
_BUILT_IN = WorkerDefinition(name="")


class Setting(msgspec.Struct, frozen=True):
    """One setting: its value as text, and the level that gave it."""

    label: str
    value: str
    origin: str


class Given(msgspec.Struct, frozen=True):
    """The definitions that a task's settings come from, as they are now; None where there is none, or it is not known."""

    worker: WorkerDefinition | None = None
    template: TaskTemplate | None = None
    queue: QueueDefinition | None = None


def settings(row: TaskRow, payload: Any, given: Given) -> list[Setting]:
    """What a task runs with, in the order in which people ask for it."""
    asked = payload if isinstance(payload, dict) else {}
    found: list[Setting] = []
    worker = given.worker
    if worker is not None and worker.model:
        found.append(Setting("model", worker.model, f"definition {worker.name}"))
        found += [_sampled(label, name, asked, given) for label, name in _ALWAYS]
        found += [
            _sampled(label, name, asked, given)
            for label, name in _IF_SAID
            if name in asked or _of(worker, name) != _of(_BUILT_IN, name)
        ]
    found.append(Setting("prio", str(row.priority), _priority_from(row, given)))
    queue = given.queue
    if queue is not None:
        usual = row.max_attempts == queue.retry.max_retries + 1
        found.append(Setting("attempts", str(row.max_attempts), f"queue {queue.name}" if usual else "task"))
        found.append(Setting("kept on", queue.durability.value, f"queue {queue.name}"))
    return found


def _sampled(label: str, name: str, asked: dict[str, Any], given: Given) -> Setting:
    worker = given.worker
    assert worker is not None
    if asked.get(name) is not None:
        value = asked[name]
        template = given.template
        origin = (
            f"template {template.name}" if template is not None and template.defaults.get(name) == value else "task"
        )
    else:
        value = _of(worker, name)
        origin = f"definition {worker.name}" if value != _of(_BUILT_IN, name) else "built in"
    return Setting(label, _written(name, value), origin)


def _of(worker: WorkerDefinition, name: str) -> Any:
    """A setting as a definition gives it."""
    return getattr(worker if name in ("system", "adapters") else worker.sampling, name)


def _priority_from(row: TaskRow, given: Given) -> str:
    if given.template is not None and given.template.priority == row.priority:
        return f"template {given.template.name}"
    if given.queue is not None and given.queue.default_priority == row.priority:
        return f"queue {given.queue.name}"
    return "task"


def _written(name: str, value: Any) -> str:
    if name == "adapters":
        uses = msgspec.to_builtins(value)
        said = [f"{use.get('name')} w {use.get('weight', 1)}" for use in uses if isinstance(use, dict)]
        return ", ".join(said) or "none"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def setting_lines(found: list[Setting], cells: int) -> list[Line]:
    """`temperature  0.1  definition nano`, one a line."""
    lines: list[Line] = []
    for it in found:
        value = cut(clean(it.value, 200), max(8, cells - 34))
        lines += wrapped(
            (
                (f"{it.label:<12}", "dim"),
                (fit(value, max(16, len(value))), "text"),
                (f"  {clean(it.origin, 80)}", "dim"),
            ),
            cells,
        )
    return lines
