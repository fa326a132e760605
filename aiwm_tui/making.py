"""Making and changing definitions by form: which struct, which requests, for the table that the cursor is in."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from aiwm_tui.changing import ask_in_dialog, in_background, say_result
from aiwm_tui.changing import send as send_now
from aiwm_tui.forms.fields import FormField, Kind, fields_of
from aiwm_tui.forms.values import changes, made, texts_of
from aiwm_tui.live.text import Line
from aiwm_tui.reports import report
from engine.contract.definitions import DataSource, PoolDefinition, QueueDefinition, TaskTemplate, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests import definitions as crud
from engine.contract.requests.approvals import ApprovalApprove, ApprovalReject
from engine.contract.requests.base import Request
from engine.contract.requests.batches import BatchAdd
from engine.contract.requests.fleet import (
    PoolCreate,
    PoolScale,
    PoolShow,
    QueueCreate,
    QueuePause,
    QueueResume,
    QueueShow,
    WorkerShow,
)
from engine.contract.requests.maintenance import EngineDrain, EngineResume
from engine.contract.requests.tasks import TaskSubmit

if TYPE_CHECKING:
    from aiwm_tui.actions import Action
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.screens.page import Page


class Noun(msgspec.Struct, frozen=True):
    """A kind of definition: its word, its struct, and its requests; those that are missing cannot be done one by one. `without` are fields
    that other keys change."""

    word: str
    definition: type[Any]
    show: type[Request[Any]]
    create: type[Request[Any]]
    update: type[Request[Any]] | None = None
    delete: type[Request[Any]] | None = None
    without: tuple[str, ...] = ()


NOUNS: dict[str, Noun] = {
    "queues": Noun(
        "queue",
        QueueDefinition,
        QueueShow,
        QueueCreate,
        crud.QueueUpdate,
        crud.QueueDelete,
        ("paused", "pause_reason", "draining"),
    ),
    "pools": Noun("pool", PoolDefinition, PoolShow, PoolCreate, crud.PoolUpdate, crud.PoolDelete),
    "templates": Noun(
        "template", TaskTemplate, crud.TemplateShow, crud.TemplateCreate, crud.TemplateUpdate, crud.TemplateDelete
    ),
    "workers": Noun("worker", WorkerDefinition, WorkerShow, crud.WorkerCreate),
    "sources": Noun("source", DataSource, crud.SourceShow, crud.SourceCreate, crud.SourceUpdate, crud.SourceDelete),
}
"""By table."""


def _open(app: ConsoleApp, action: Action, title: str, fields: Any, texts: Any, send: Any, **options: Any) -> None:
    from aiwm_tui.screens.dialogs.form import FormDialog

    title = f"{action.shown}  {title}"
    ask_in_dialog(
        app, FormDialog(title, fields, texts, send, now_ms=app.clock, **options), lambda done: say_result(app, done)
    )


async def new(app: ConsoleApp, page: Page, action: Action) -> None:
    """Make a definition of the kind that the table shows."""
    noun = NOUNS[page.table]
    fields = fields_of(noun.definition, without=noun.without)

    async def send(values: dict[str, Any]) -> Line:
        request = noun.create(definition=made(noun.definition, values))
        return ((f"{action.shown} ", "key"), *report(request, await app.link.call(request)))

    intro = _wrapped((noun.definition.__doc__ or "").partition("\n\n")[0].partition(". ")[0], 2)
    _open(app, action, f"NEW {noun.word.upper()}", fields, texts_of(fields), send, intro=intro, verb="make it")


def _wrapped(text: str, most: int = 4) -> str:
    """A docstring in lines that fit a dialog."""
    import textwrap

    return "\n".join(textwrap.wrap(" ".join(text.replace("`", "").split()), 92)[:most])


async def edit(app: ConsoleApp, page: Page, action: Action) -> None:
    """Change the definition under the cursor; only what differs is sent."""
    row = page.row
    if row is not None:
        noun, name = NOUNS[page.table], row.id
        ask = partial(app.link.call, noun.show(name=name))
        app.ahead.ask(action, ask, lambda answer: _edit(app, noun, name, action, answer.definition))


def _edit(app: ConsoleApp, noun: Noun, name: str, action: Action, before: Any) -> None:
    fields = fields_of(noun.definition, without=("name", *noun.without))

    async def send(values: dict[str, Any]) -> Line:
        different = changes(fields, before, values)
        if not different:
            return ((f"{action.shown} ", "key"), (f"{name} is as it was", "dim"))
        assert noun.update is not None
        request = msgspec.convert({"name": name, "changes": different}, noun.update)
        return ((f"{action.shown} ", "key"), *report(request, await app.link.call(request)))

    _open(app, action, f"EDIT {noun.word.upper()} {name}", fields, texts_of(fields, before), send, verb="change it")


async def scale(app: ConsoleApp, page: Page, action: Action) -> None:
    """Scale the pool under the cursor, or the first one of the queue under it."""
    row: Any = page.row
    if row is None:
        return
    pools = (row.id,) if page.table == "pools" else row.pools
    if not pools:
        raise AiwmError(Code.not_found, f"no pool serves {row.id}", fix="N on :pools makes one, E here names it")
    ask = partial(app.link.call, PoolShow(name=pools[0]))
    app.ahead.ask(action, ask, lambda answer: _scale(app, pools[0], action, answer.definition))


def _scale(app: ConsoleApp, pool: str, action: Action, before: PoolDefinition) -> None:
    fields = fields_of(PoolDefinition, only=("max_total", "min_idle"))

    async def send(values: dict[str, Any]) -> Line:
        request = made(PoolScale, {"name": pool, **values})
        return ((f"{action.shown} ", "key"), *report(request, await app.link.call(request)))

    intro = f"instances of {before.definition}"
    _open(app, action, f"SCALE POOL {pool}", fields, texts_of(fields, before), send, intro=intro, verb="scale")


async def pause(app: ConsoleApp, page: Page, action: Action) -> None:
    """Pause the queue under the cursor, with a reason; a paused or draining one goes on at once."""
    row: Any = page.row
    if row is None:
        return
    if row.state in ("paused", "draining"):
        in_background(app, send_now(app, action, QueueResume(name=row.id)))
        return
    with_reason(app, action, f"PAUSE QUEUE {row.id}", lambda reason: QueuePause(name=row.id, reason=reason), "pause")


async def drain(app: ConsoleApp, page: Page, action: Action) -> None:
    """Let the queue under the cursor work off what it has and take nothing new."""
    row: Any = page.row
    if row is not None:
        with_reason(
            app, action, f"DRAIN QUEUE {row.id}", lambda reason: crud.QueueDrain(name=row.id, reason=reason), "drain"
        )


REASON = (FormField("reason", Kind.text, default="", help="It is shown beside the state, with your name."),)


def with_reason(app: ConsoleApp, action: Action, title: str, build: Any, verb: str) -> None:
    """Ask for a reason, then send what `build` makes of it."""

    async def send(values: dict[str, Any]) -> Line:
        request = build(values["reason"])
        return ((f"{action.shown} ", "key"), *report(request, await app.link.call(request)))

    _open(app, action, title, REASON, {}, send, verb=verb)


_TASK_FIELDS = (
    "queue",
    "payload",
    "template",
    "priority",
    "definition",
    "capabilities",
    "after",
    "due_ms",
    "deadline_ms",
    "max_attempts",
    "batch",
    "sources",
    "supervisor",
    "tenant",
    "idempotency_key",
)


_FILE_FIELDS = (
    FormField("file", Kind.text, default="", help="Instead of a payload: a file of them, one JSON object a line."),
    FormField(
        "out",
        Kind.text,
        default="",
        title="answers go to",
        help="With a file: where its answers are written while they come.",
    ),
    FormField("key", Kind.text, default="", help="With a file: the field of a line that names it in the answers."),
)
_OF_A_FILE = frozenset({"queue", "template", "definition", "priority", "max_attempts", "tenant", "batch"})


async def _submit_file(app: ConsoleApp, action: Action, values: dict[str, Any]) -> Line:
    """The file of the form as a batch; what a batch cannot have is refused by name."""
    from aiwm_tui.feeding import put_through

    file, key, out = (str(values.pop(name, "")) for name in ("file", "key", "out"))
    if not values.get("payload"):
        values.pop("payload", None)
    strange = sorted(values.keys() - _OF_A_FILE)
    if strange:
        raise AiwmError(Code.bad_request, "does not go with a file", field=strange[0], fix="leave it empty")
    form = made(BatchAdd, {"batch": "", **values, "items": []})
    return await put_through(app, action, form, file, key, out)


async def submit(app: ConsoleApp, page: Page, action: Action) -> None:
    """Put a task into the queue under the cursor, that of the task under it, or the one the filter names; of the template under it."""
    from aiwm_tui.screens.dialogs.submit import SubmitDialog

    row = page.row
    queue = row.id if page.table == "queues" and row is not None else str(getattr(row, "queue", "") or "")
    template = row.id if page.table == "templates" and row is not None else ""
    if not queue:
        queue = next((term.values[0] for term in page.location.terms if term.field == "queue"), "")
    fields = fields_of(TaskSubmit, only=_TASK_FIELDS)
    fields = (*fields[:2], *_FILE_FIELDS[:1], *fields[2:], *_FILE_FIELDS[1:])

    async def send(values: dict[str, Any]) -> Line:
        values = {key: value for key, value in values.items() if value not in (None, "", [])}
        if values.get("file"):
            return await _submit_file(app, action, values)
        if values.keys() & {"key", "out"}:
            raise AiwmError(Code.bad_request, "is about a file, and none is named", field="file")
        if not values.get("payload") and not values.get("template"):
            raise AiwmError(Code.payload_invalid, "there is neither a prompt nor a payload", field="payload")
        request = made(TaskSubmit, values)
        return ((f"{action.shown} ", "key"), *report(request, await app.link.call(request)))

    dialog = SubmitDialog(app.link, action.shown, fields, {"queue": queue, "template": template}, send, app.clock)
    ask_in_dialog(app, dialog, lambda done: say_result(app, done))


async def delete(app: ConsoleApp, page: Page, action: Action) -> None:
    """Delete the definition under the cursor: it cannot be taken back, so its name must be typed."""
    noun, row = NOUNS[page.table], page.row
    if row is None or noun.delete is None:
        return
    name, request_of = row.id, noun.delete
    fields: tuple[FormField, ...] = (FormField("type", Kind.text, required=True, help=f"Type {name} to go on."),)
    if noun.delete is crud.QueueDelete:
        fields = (*fields_of(crud.QueueDelete, only=("cancel_tasks",)), *fields)

    async def send(values: dict[str, Any]) -> Line:
        if values.pop("type") != name:
            raise AiwmError(Code.needs_confirmation, f'type "{name}" to go on', field="type")
        request = made(request_of, {"name": name, **values})
        return ((f"{action.shown} ", "key"), *report(request, await app.link.call(request)))

    intro = _wrapped((noun.delete.__doc__ or "") + " It cannot be taken back.")
    _open(
        app,
        action,
        f"DELETE {noun.word.upper()} {name}",
        fields,
        texts_of(fields),
        send,
        intro=intro,
        verb="delete",
        first="type",
    )


async def decide(app: ConsoleApp, page: Page, action: Action) -> None:
    """Approve or refuse the request under the cursor, with a reason."""
    row: Any = page.row
    if row is None:
        return
    misfit = action.fits(row) if action.fits is not None else None
    if misfit:
        app.say(((f"{action.shown} {action.label}: ", "key"), (misfit, "text")))
        return
    kind = ApprovalApprove if action.id == "approve" else ApprovalReject
    title = f"{action.label.upper()} {row.id}: {row.method} for {row.by}"
    with_reason(app, action, title, lambda reason: kind(id=row.id, reason=reason), action.label)


async def quiet(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    """Start nothing more on this engine, for maintenance."""
    with_reason(app, action, "DRAIN THE ENGINE: nothing new starts", lambda reason: EngineDrain(reason=reason), "drain")


async def go_on(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    """End the maintenance."""
    in_background(app, send_now(app, action, EngineResume()))
