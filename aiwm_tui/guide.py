"""The guided way to a first worker: definition, pool, queue, first task. Each step is a form that the engine checks; nothing is made
before the last one, and esc goes a step back. What is made are the requests that the shown commands send."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from aiwm_tui.forms.fields import FormField, Kind, fields_of
from aiwm_tui.forms.values import made, texts_of
from aiwm_tui.live.text import Line, clean
from engine.contract.definitions import PoolDefinition, QueueDefinition, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.records import ModelRow
from engine.contract.requests.base import Request
from engine.contract.requests.bundles import BundleDiff, BundleExport
from engine.contract.requests.definitions import WorkerCreate
from engine.contract.requests.fleet import ModelList, PoolCreate, QueueCreate
from engine.contract.requests.tasks import TaskSubmit

if TYPE_CHECKING:
    from aiwm_tui.actions import Action
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.live.link import Link

TOY = "aiwm-nano"
FIRST_PROMPT = "What is 17 + 25?"
_CHOICES = 4
"""So many models are chosen from in a row; more are typed."""

Values = dict[str, Any]


class Step(msgspec.Struct, frozen=True):
    """One form of the guide. `kind` is the struct that it makes, `list` its list in a bundle; `says` what it is for."""

    name: str
    says: str
    kind: type[Any]
    list: str
    only: tuple[str, ...]


STEPS: tuple[Step, ...] = (
    Step(
        "worker",
        "A worker definition: which model, and what it is told to be. It never changes; instances are made of it.",
        WorkerDefinition,
        "workers",
        ("name", "model", "system", "sampling.max_tokens", "sampling.temperature", "description"),
    ),
    Step(
        "pool",
        "A pool keeps instances of the definition: none while there is nothing to do, and at most so many.",
        PoolDefinition,
        "pools",
        ("name", "max_total", "min_idle"),
    ),
    Step(
        "queue",
        "Tasks wait in a queue; its pools serve it. Failures are tried again, as often as you say.",
        QueueDefinition,
        "queues",
        ("name", "retry.max_retries", "durability", "default_priority"),
    ),
    Step(
        "first task",
        "ctrl+s makes all of it and submits this as its first task. The answer is shown while it is written.",
        TaskSubmit,
        "",
        ("payload",),
    ),
)


class Plan:
    """What was said so far, by step, and what has been made: after a refusal in the middle, going on makes the rest."""

    def __init__(self, models: list[str]) -> None:
        self.models = models
        self.values: list[Values] = [{} for _ in STEPS]
        self.texts: list[dict[str, str]] = [{} for _ in STEPS]
        self.made: set[str] = set()

    def fields(self, at: int) -> tuple[FormField, ...]:
        """The form of a step."""
        step = STEPS[at]
        fields = fields_of(step.kind, only=step.only)
        if at == 0:
            known = ", ".join(self.models[:8])
            model = FormField("model", Kind.text, required=True, help=f"One of {known}; or an absolute path to one.")
            if len(self.models) <= _CHOICES:
                model = FormField(
                    "model", Kind.choice, required=True, choices=tuple(self.models), help="Which model answers."
                )
            return tuple(model if field.key == "model" else field for field in fields)
        return fields

    def begins(self, at: int) -> dict[str, str]:
        """What stands in a step's fields at first, or as it was left."""
        if self.texts[at]:
            return self.texts[at]
        name = str(self.values[0].get("name", ""))
        texts = texts_of(self.fields(at))
        if at == 0:
            own = [model for model in self.models if model != TOY] or self.models
            return {**texts, "name": "helper", "model": own[0] if own else ""}
        if at == 1:
            return {**texts, "name": name, "max_total": "2"}
        return {**texts, "name": name} if at == 2 else {**texts, "payload": FIRST_PROMPT}

    def definitions(self) -> tuple[WorkerDefinition, PoolDefinition, QueueDefinition]:
        """The three as they would be made. Raises what does not fit, naming its field."""
        worker, pool, queue, _ = self.values
        return (
            made(WorkerDefinition, worker),
            made(PoolDefinition, {**pool, "definition": worker["name"]}),
            made(QueueDefinition, {**queue, "pools": [pool["name"]]}),
        )

    def commands(self, upto: int) -> list[str]:
        """The commands that do the same, of the steps up to one."""
        worker, pool, queue, task = self.values
        found = []
        if worker:
            found.append(_command("worker create", [worker["name"]], worker, WorkerDefinition))
        if pool and upto >= 1:
            found.append(_command("pool create", [pool["name"], worker["name"]], pool, PoolDefinition))
        if queue and upto >= 2:
            found.append(_command("queue create", [queue["name"], "--pools", pool["name"]], queue, QueueDefinition))
        if task and upto >= 3:
            prompt = task["payload"].get("prompt")
            said = ["--prompt", prompt] if isinstance(prompt, str) else ["--payload", _json(task["payload"])]
            found.append(_line("task submit", [queue["name"], *said]))
        return found


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _command(words: str, arguments: list[str], values: Mapping[str, Any], kind: type[Any]) -> str:
    """A command with an option for every value that is not the default."""
    usual = {field.key: field.default for field in fields_of(kind)}
    options: list[str] = []
    for key, value in values.items():
        if key != "name" and value not in (None, "", usual.get(key)):
            options += [f"--{key.replace('.', '-').replace('_', '-')}", str(value)]
    return _line(words, [*arguments, *options])


def _line(words: str, arguments: list[str]) -> str:
    return f"aiwm {words} {' '.join(map(shlex.quote, arguments))}"


def guide(app: ConsoleApp, action: Action) -> None:
    """Go through the steps, back and forth, until the first task runs or the first step is left."""

    def begin(rows: Sequence[ModelRow]) -> None:
        models = list(dict.fromkeys(row.model for row in rows if row.state not in ("refused", "failed")))
        if not models:
            fix = "ways 2 and 3 of :start"
            raise AiwmError(Code.model_not_found, "there is no model that a worker could use", fix=fix)
        _step(app, Plan(models), 0)

    app.ahead.ask(action, partial(app.link.call, ModelList(known=True)), begin)


def _step(app: ConsoleApp, plan: Plan, at: int) -> None:
    from aiwm_tui.screens.dialogs.step import StepDialog

    dialog = StepDialog(plan, at, _checked(app, plan, at), app.clock)

    def decided(answer: Line | None) -> None:
        plan.texts[at] = dialog.typed
        last = at == len(STEPS) - 1
        if answer is None and at == 0:
            app.say((("nothing was made", "dim"),))
        elif answer is not None and last:
            app.say(answer)
        else:
            _step(app, plan, at - 1 if answer is None else at + 1)
        app.ahead.stands()

    app.push_screen(dialog, decided)


def _checked(app: ConsoleApp, plan: Plan, at: int) -> Callable[[Values], Any]:
    """What a step does with its values: have them checked; the last one makes everything."""

    async def check(values: Values) -> Line:
        plan.values[at] = {key: value for key, value in values.items() if value not in (None, "")}
        if at < len(STEPS) - 1:
            await refuse_wrong(app.link, plan, at)
            return ((STEPS[at].name, "text"),)
        return await make(app, plan)

    return check


async def refuse_wrong(link: Link, plan: Plan, at: int) -> None:
    """Have the engine look at everything said so far, as it would be in force. Raises its first objection at the field of this step."""
    now = (await link.call(BundleExport())).bundle
    upto = [msgspec.to_builtins(it) for it in _definitions(plan, at)]
    lists: dict[str, list[Any]] = {"workers": [*now.get("workers", ())]}
    for step, definition in zip(STEPS, upto, strict=False):
        taken = {it["name"] for it in now.get(step.list, ())}
        if definition["name"] in taken and f"{step.name} {definition['name']}" not in plan.made:
            raise AiwmError(
                Code.conflict,
                f'there is a {step.name} "{definition["name"]}" already',
                field="name",
                fix="another name",
            )
        lists.setdefault(step.list, []).append(definition)
    report = await link.call(BundleDiff(bundle=_json(lists), policy="fail-fast"))
    wanted = STEPS[at].list
    for problem in report.errors:
        where, _, field = problem.field.partition(".")
        if problem.name == upto[at]["name"] and where.startswith(wanted):
            raise AiwmError(Code.definition_invalid, problem.message, field=field or "name", fix=problem.fix)
    if report.errors:
        raise AiwmError.of(report.errors[0].info())


def _definitions(plan: Plan, at: int) -> list[Any]:
    worker, pool, queue, _ = plan.values
    found: list[Any] = [made(WorkerDefinition, worker)]
    if at >= 1:
        found.append(made(PoolDefinition, {**pool, "definition": worker["name"]}))
    if at >= 2:
        found.append(made(QueueDefinition, {**queue, "pools": [pool["name"]]}))
    return found


async def make(app: ConsoleApp, plan: Plan) -> Line:
    """Make the three, submit the task, and go to it. What was made before a refusal is not made again."""
    worker, pool, queue = plan.definitions()
    requests: tuple[tuple[str, Request[Any]], ...] = (
        (f"worker {worker.name}", WorkerCreate(definition=worker)),
        (f"pool {pool.name}", PoolCreate(definition=pool)),
        (f"queue {queue.name}", QueueCreate(definition=queue)),
    )
    for what, request in requests:
        if what in plan.made:
            continue
        try:
            await app.link.call(request)
        except AiwmError as error:
            left = (
                f" ({', '.join(sorted(plan.made))} {'is' if len(plan.made) == 1 else 'are'} made; ctrl+s goes on)"
                if plan.made
                else ""
            )
            raise AiwmError.of(
                msgspec.structs.replace(error.info, message=f"{what}: {error.info.message}{left}", field=None)
            ) from None
        plan.made.add(what)
    task = await app.link.call(TaskSubmit(queue=queue.name, payload=plan.values[3]["payload"]))
    app.open_location(f":tasks/{task.id}")
    return (
        ("5 ", "key"),
        (
            clean(f"made worker {worker.name}, pool {pool.name}, queue {queue.name}; {task.id} is its first task", 300),
            "text",
        ),
    )
