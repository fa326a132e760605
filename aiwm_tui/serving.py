"""What the keys do to models and adapters: load, unload, keep, restart, try; set current, bring, evict, add, compare."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from aiwm_tui.changing import ask_in_dialog, in_background, reported, say_result, send
from aiwm_tui.forms.fields import FormField, Kind, fields_of
from aiwm_tui.forms.values import changes, made, texts_of
from aiwm_tui.live.text import Line, clean
from aiwm_tui.screens.models.memory import plan_lines
from aiwm_tui.typed import absolute_path
from engine.contract.definitions import ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.adapters import (
    AdapterAdd,
    AdapterChoose,
    AdapterEvict,
    AdapterPrefetch,
    AdapterVersions,
)
from engine.contract.requests.base import Request
from engine.contract.requests.memory import (
    MemoryPlan,
    ModelKeep,
    ModelLoad,
    ModelPlan,
    ModelRestart,
    ModelUnload,
)
from engine.contract.requests.models import ModelOffer, ModelSet, ModelShow
from engine.contract.requests.tasks import TaskSubmit

if TYPE_CHECKING:
    from aiwm_tui.actions import Action
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.screens.page import Page

ALWAYS, FOR_A_TIME, NO_LONGER = "always", "for a time", "no longer"
_REASON = FormField("reason", Kind.text, default="", help="It stands in the event, with your name.")


def _fitting(app: ConsoleApp, page: Page, action: Action) -> Any:
    """The row under the cursor, if the action fits it; says why not otherwise."""
    row: Any = page.row
    misfit = action.fits(row) if row is not None and action.fits is not None else None
    if misfit:
        app.say(((f"{action.shown} {action.label}: ", "key"), (clean(misfit, 300), "text")))
        return None
    return row


def _dialog(app: ConsoleApp, action: Action, title: str, fields: Any, build: Any, verb: str, **options: Any) -> None:
    """A form whose values `build` makes a request of; what it did is said with Z where that takes it back."""
    from aiwm_tui.screens.dialogs.form import FormDialog

    async def go_on(values: dict[str, Any]) -> Line:
        request: Request[Any] = build(values)
        return reported(app, action, request, await app.link.call(request, timeout_s=None))

    dialog = FormDialog(f"{action.shown}  {title}", fields, texts_of(fields), go_on, verb=verb, **options)
    ask_in_dialog(app, dialog, lambda done: say_result(app, done))


# Models


async def load(app: ConsoleApp, page: Page, action: Action) -> None:
    """Load the model under the cursor: at once where there is room, else by a way of its plan."""
    row = _fitting(app, page, action)
    if row is not None:
        load_model(app, row.model, action)


def load_model(app: ConsoleApp, model: str, action: Action) -> None:
    """Load a model: at once where there is room, else by a way of its plan, which is asked for."""

    def go_on(plan: MemoryPlan) -> None:
        if plan.fits:
            in_background(app, _load_now(app, model, action))
        else:
            _ask_way(app, action, plan)

    app.ahead.ask(action, partial(app.link.call, ModelPlan(name=model)), go_on)


async def _load_now(app: ConsoleApp, model: str, action: Action) -> None:
    app.say(((f"{action.shown} ", "key"), (f"loading {clean(model, 60)} …", "coming")))
    request = ModelLoad(name=model)
    app.say(reported(app, action, request, await app.link.call(request, timeout_s=None)))


def _ask_way(app: ConsoleApp, action: Action, plan: MemoryPlan) -> None:
    ways = [way for way in plan.ways if way.fits and way.runnable]
    head = plan_lines(plan, app.clock())
    if not ways:
        raise AiwmError(
            Code.model_refused,
            f"{plan.model} does not fit, and no way of ours makes room",
            fix=f"aiwm model plan {plan.model}",
        )
    numbers = tuple(str(way.number) for way in ways)
    fields = (FormField("way", Kind.choice, default=numbers[0], choices=numbers, help="A way of the plan above."),)

    def build(values: dict[str, Any]) -> Request[Any]:
        return ModelLoad(name=plan.model, way=int(values["way"]), plan=plan.id, yes=True)

    shell: Line = (
        ("Same from the shell:  ", "dim"),
        (f"aiwm model load {plan.model} --way {numbers[0]} --yes", "text"),
    )
    _dialog(app, action, f"LOAD {plan.model}", fields, build, "load it", head=[*head, (), shell])


async def unload(app: ConsoleApp, page: Page, action: Action) -> None:
    """Unload the process under the cursor: gently, or now, which is asked for first."""
    row = _fitting(app, page, action)
    if row is None:
        return
    if action.id == "unload":
        in_background(app, send(app, action, ModelUnload(name=row.id)))
        return
    running = f"{row.running} that run end without an answer, and are tried again. " if row.running else ""
    intro = f"{running}Work for it loads it again, unless a reason is given to hold it."

    def build(values: dict[str, Any]) -> Request[Any]:
        return ModelUnload(name=row.id, now=True, hold=values["hold"])

    fields = (
        FormField("hold", Kind.text, default="", help="Why its tasks shall wait until somebody loads it; empty: no."),
    )
    _dialog(app, action, f"UNLOAD {row.id} NOW", fields, build, "unload", intro=intro)


async def keep(app: ConsoleApp, page: Page, action: Action) -> None:
    """Keep the model under the cursor loaded."""
    row = _fitting(app, page, action)
    if row is None:
        return
    fields = (
        FormField("how", Kind.choice, default=ALWAYS, choices=(ALWAYS, FOR_A_TIME, NO_LONGER)),
        FormField("time", Kind.duration, default=7_200_000, help="For a time: how long, such as 2h."),
    )

    def build(values: dict[str, Any]) -> Request[Any]:
        how = values["how"]
        return ModelKeep(name=row.model, keep_ms=-1 if how == ALWAYS else 0 if how == NO_LONGER else values["time"])

    _dialog(app, action, f"KEEP {row.model} LOADED", fields, build, "keep")


async def restart(app: ConsoleApp, page: Page, action: Action) -> None:
    """Start the process under the cursor again."""
    row = _fitting(app, page, action)
    if row is not None:
        in_background(app, send(app, action, ModelRestart(name=row.id)))


RUN_BY = (
    "kv_bytes",
    "context",
    "slots",
    "replicas",
    "kv",
    "adapter_slots",
    "adapter_bytes",
    "memory_bytes",
    "description",
)
"""What of a model's definition is changed by form: how it is run, not what it is."""


async def edit_model(app: ConsoleApp, page: Page, action: Action) -> None:
    """Change how the model under the cursor is run. What holds it goes on as it is until it is started again."""
    row = _fitting(app, page, action)
    if row is not None:
        ask = partial(app.link.call, ModelShow(name=row.model))
        app.ahead.ask(action, ask, lambda answer: _edit_model(app, row.model, action, answer.definition))


def _edit_model(app: ConsoleApp, model: str, action: Action, before: ModelDefinition) -> None:
    fields = fields_of(ModelDefinition, only=RUN_BY)

    async def go_on(values: dict[str, Any]) -> Line:
        different = changes(fields, before, values)
        if not different:
            return ((f"{action.shown} ", "key"), (f"{clean(model, 60)} is as it was", "dim"))
        await app.link.call(made(ModelSet, {"name": model, "changes": different}))
        said = f"changed {', '.join(different)} of {clean(model, 60)}; what holds it goes on as it is until "
        return ((f"{action.shown} ", "key"), (said, "text"), ("R", "key"), (" starts it again", "text"))

    from aiwm_tui.screens.dialogs.form import FormDialog

    intro = "0: as the configuration or the model itself says"
    dialog = FormDialog(
        f"{action.shown}  EDIT MODEL {model}", fields, texts_of(fields, before), go_on, verb="change it", intro=intro
    )
    ask_in_dialog(app, dialog, lambda done: say_result(app, done))


async def try_model(app: ConsoleApp, page: Page, action: Action) -> None:
    """Put a prompt to the model under the cursor, and go to its answer."""
    row = _fitting(app, page, action)
    if row is None:
        return
    from aiwm_tui.screens.dialogs.form import FormDialog

    async def go_on(values: dict[str, Any]) -> Line:
        offered = await app.link.call(ModelOffer(model=row.model))
        task = await app.link.call(TaskSubmit(queue=offered.queue, payload={"prompt": values["prompt"]}))
        app.open_location(f":tasks/{task.id}")
        return (
            (f"{action.shown} ", "key"),
            (f"{task.id} asks {clean(row.model, 60)} through queue {offered.queue}", "text"),
        )

    fields = (FormField("prompt", Kind.text, required=True, help="One line; aiwm try takes more."),)
    ask_in_dialog(
        app,
        FormDialog(f"{action.shown}  TRY {row.model}", fields, {}, go_on, verb="ask"),
        lambda done: say_result(app, done),
    )


# Adapters


async def version(app: ConsoleApp, page: Page, action: Action) -> None:
    """Make the version under the cursor the current one, with a reason."""
    row = _fitting(app, page, action)
    if row is not None:
        ask = partial(app.link.call, AdapterVersions(name=row.name))
        app.ahead.ask(action, ask, lambda versions: _version(app, row, action, versions))


def _version(app: ConsoleApp, row: Any, action: Action, versions: Sequence[Any]) -> None:
    running = [task for it in versions for task in it.running if it.version != row.version]
    pinned = sorted({name for it in versions for name in it.pinned})
    head: list[Line] = []
    if running:
        head.append(((f"Running with another version, and end with it: {', '.join(running[:8])}", "text"),))
    if pinned:
        head.append(((f"Name a version themselves, and stay with it: {', '.join(pinned)}", "text"),))
    head.append((("Whoever follows the current one begins with it. Z takes it back.", "dim"),))
    command = f"aiwm adapter use {row.id}"
    head += [(), (("Same from the shell:  ", "dim"), (command, "text"))]

    def build(values: dict[str, Any]) -> Request[Any]:
        return AdapterChoose(name=row.id, reason=values["reason"])

    _dialog(app, action, f"{row.id} IS THE CURRENT ONE", (_REASON,), build, "set it", head=head)


async def bring(app: ConsoleApp, page: Page, action: Action) -> None:
    """Bring the adapter under the cursor into the processes of its base; `keep` lets it stay there."""
    row = _fitting(app, page, action)
    if row is not None:
        in_background(app, send(app, action, AdapterPrefetch(names=(row.id,), keep=action.id == "keep_adapter")))


async def evict(app: ConsoleApp, page: Page, action: Action) -> None:
    """Drop the adapter under the cursor from every process. It comes back with the next task that needs it."""
    row = _fitting(app, page, action)
    if row is not None:
        in_background(app, send(app, action, AdapterEvict(names=(row.id,))))


async def add(app: ConsoleApp, page: Page, action: Action) -> None:
    """Register a directory as the next version of the adapter under the cursor, or of another one."""
    row: Any = page.row
    name, parent = (row.name, row.id) if row is not None else ("", "")
    fields = (
        FormField("path", Kind.text, required=True, help="A PEFT directory of the engine's machine."),
        FormField("name", Kind.text, default=name, help="Empty: called like the directory."),
        FormField("parent", Kind.text, default=parent, help="The version that it was made from."),
        FormField("copy", Kind.choice, default="no", choices=("no", "yes"), help="Copy its files into the home."),
        FormField("current", Kind.choice, default="no", choices=("no", "yes"), help="Make it the current one."),
    )

    def build(values: dict[str, Any]) -> Request[Any]:
        flags = {key: values[key] == "yes" for key in ("copy", "current")}
        path = absolute_path(values["path"])
        named: Request[Any] = made(AdapterAdd, {**values, **flags, "path": path})
        return named

    _dialog(app, action, "ADD A VERSION", fields, build, "add it")


async def compare(app: ConsoleApp, page: Page, action: Action) -> None:
    """Go to the page that compares: a task's prompt under its adapters, or a prompt under the adapter under the cursor."""
    row = _fitting(app, page, action)
    if row is not None:
        await app.go(f":compare/{row.id}")


async def ask_prompt(app: ConsoleApp, page: Page, action: Action) -> None:
    """Compare another prompt on the page that compares."""
    from aiwm_tui.screens.compare.page import ComparePage
    from aiwm_tui.screens.dialogs.form import FormDialog

    if not isinstance(page, ComparePage):
        return

    async def go_on(values: dict[str, Any]) -> Line:
        page.ask_about(values["prompt"])
        return ((f"{action.shown} ", "key"), ("asks the model", "text"))

    fields = (
        FormField("prompt", Kind.text, required=True, help="One line; aiwm adapter compare --prompt - takes more."),
    )
    dialog = FormDialog(f"{action.shown}  COMPARE A PROMPT", fields, {"prompt": page.prompt_text}, go_on, verb="ask")
    ask_in_dialog(app, dialog, lambda done: say_result(app, done))
