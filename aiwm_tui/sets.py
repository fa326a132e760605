"""Changing a set of tasks: fixed ids, their cost, one dialog for every verb; the same command for the shell."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from aiwm_tui.changing import ask_in_dialog, in_background, reported, say_result, send
from aiwm_tui.forms.fields import FormField, Kind
from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line
from aiwm_tui.set_text import AT_ONCE, CANARY, END, FRONT, TYPED_FROM, UNDO_MS, chosen, effect, missing
from engine.contract.errors import AiwmError, Code
from engine.contract.records import TaskRow
from engine.contract.requests.session import ViewRead
from engine.contract.requests.tasks import Plan, PlanCost, TaskCancel, TaskMove, TaskRetry

if TYPE_CHECKING:
    from aiwm_tui.actions import Action
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.screens.page import Page

SHOWN = 8
LISTED = 1_000
"""So many tasks are shown at first, on a screen that has room for them, and of so many more than the id for who asks for all."""
_CHUNK = 200

_REASON = FormField("reason", Kind.text, default="", help="It stands in the event, with your name.")
FIELDS: dict[str, tuple[FormField, ...]] = {
    "cancel": (_REASON,),
    "retry": (
        FormField(
            "adapter", Kind.text, default="", help="Empty: as before; base: none; else its name, with @v4 a version."
        ),
        FormField("place", Kind.choice, default=END, choices=(END, FRONT)),
        FormField(
            "first",
            Kind.choice,
            default=AT_ONCE,
            choices=(AT_ONCE, CANARY),
            help="The rest follow if the first completes.",
        ),
        FormField("priority", Kind.whole, optional=True, help="Empty: theirs. Bigger is sooner."),
        _REASON,
    ),
    "move": (
        FormField("queue", Kind.text, default="", help="The queue they go to; empty: they stay in theirs."),
        FormField("place", Kind.choice, default=END, choices=(END, FRONT)),
        _REASON,
    ),
}
"""What each verb asks, by the action's id."""


def built(verb: str, values: dict[str, Any], **about: Any) -> Any:
    """The request of a verb with what was typed; `about` names the tasks."""
    if verb == "cancel":
        return TaskCancel(reason=values.get("reason", ""), **about)
    front = values.get("place") == FRONT
    if verb == "move":
        return TaskMove(queue=values.get("queue", ""), front=front, reason=values.get("reason", ""), **about)
    return TaskRetry(
        adapter=values.get("adapter") or None,
        priority=values.get("priority"),
        front=front,
        canary=1 if values.get("first") == CANARY else 0,
        reason=values.get("reason", ""),
        **about,
    )


async def change_tasks(app: ConsoleApp, page: Page, action: Action) -> None:
    """Cancel, retry or move the marked tasks, else the one under the cursor."""
    marked = page.marked()
    if marked:
        rows = page.known_rows()
        ask = partial(_planned, app, action, marked, rows)
        app.ahead.ask(action, ask, lambda plan: _ask(app, page, action, plan, marked, rows))
        return
    row: Any = page.row
    if row is None:
        return
    misfit = action.fits(row) if action.fits is not None else None
    if misfit:
        app.say(((f"{action.shown} {action.label}: ", "key"), (misfit, "text")))
    elif action.id == "retry":
        in_background(app, send(app, action, built("retry", {}, ids=(row.id,))))
    else:
        cost = PlanCost(running=int(row.state == "processing"))
        plan = Plan(request="", effect="", ids=[row.id], count=1, cost=cost)
        _ask(app, page, action, plan, {"ids": (row.id,)}, {row.id: row})


async def _planned(app: ConsoleApp, action: Action, about: dict[str, Any], rows: dict[str, Any]) -> Plan:
    """What would become of the marked tasks; those of them that are named and not on the screen are added to `rows`."""
    probe: dict[str, Any] = {"place": FRONT} if action.id == "move" else {}
    answer = await app.link.call(built(action.id, probe, dry_run=True, **about))
    plan: Plan | None = answer.plan
    if plan is None or not plan.ids:
        raise AiwmError(Code.bad_request, f"none of the marked tasks can be {_done(action)}")
    rows |= await _rows_of(app, missing(plan.ids[:SHOWN], rows))
    return plan


async def _rows_of(app: ConsoleApp, ids: list[str]) -> dict[str, Any]:
    """Rows of tasks that are not on the screen. They may have gone."""
    found: dict[str, Any] = {}
    for first in range(0, len(ids), _CHUNK):
        some = ",".join(ids[first : first + _CHUNK])
        answer = await app.link.call(ViewRead(location=f":tasks id:{some}", size=_CHUNK))
        found |= {str(row["id"]): msgspec.convert(row, TaskRow) for row in answer.rows}
    return found


def _done(action: Action) -> str:
    return {"cancel": "cancelled", "retry": "retried", "move": "moved"}[action.id]


def _ask(app: ConsoleApp, page: Page, action: Action, plan: Plan, about: dict[str, Any], rows: dict[str, Any]) -> None:
    from aiwm_tui.screens.dialogs.form import FormDialog

    fields = FIELDS[action.id]
    if plan.count >= TYPED_FROM:
        fields = (*fields, FormField("type", Kind.text, required=True, help=f"Type {plan.count} to go on."))
    delay = UNDO_MS if action.id == "cancel" else 0
    source, fixed = str(page.location), app.now()

    async def go_on(values: dict[str, Any]) -> Line:
        if "type" in values and values["type"].replace(",", "") != str(plan.count):
            raise AiwmError(Code.needs_confirmation, f"type {plan.count} to go on", field="type")
        request = built(action.id, values, ids=tuple(plan.ids), **({"delay_ms": delay} if delay else {}))
        line = reported(app, action, request, await app.link.call(request))
        page.clear_marks()
        return line

    async def everything() -> list[Line]:
        every = rows | await _rows_of(app, missing(plan.ids[:LISTED], rows))
        return chosen(plan, every, source, plan.count, fixed)

    # On a low screen fewer are shown, so that the fields stand below them without scrolling.
    most = max(2, min(SHOWN, app.size.height - 22))
    dialog = FormDialog(
        f"{action.shown}  {action.label.upper()} {form.plural(plan.count, 'task').upper()}",
        fields,
        {field.key: str(field.default or "") for field in fields},
        go_on,
        head=chosen(plan, rows, source, most, fixed),
        everything=everything if plan.count > most else None,
        foot=lambda texts: effect(action.id, plan, about, texts),
        verb="go on",
        first="type" if plan.count >= TYPED_FROM else "",
    )
    ask_in_dialog(app, dialog, lambda done: say_result(app, done))
