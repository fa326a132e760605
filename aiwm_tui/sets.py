"""Changing a set of tasks: fixed ids, their cost, one dialog for every verb; the same command for the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiwm_tui.changing import ask_in_dialog, in_background, reported, say_result, send
from aiwm_tui.forms.fields import FormField, Kind
from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, clean, fit
from aiwm_tui.states import state_span
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.tasks import Plan, PlanCost, TaskCancel, TaskMove, TaskRetry

if TYPE_CHECKING:
    from aiwm_tui.actions import Action
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.screens.page import Page

UNDO_MS = 5_000
"""How long a change that destroys something waits before it is done."""
SHOWN = 8
TYPED_FROM = 20
"""So many and more must be typed."""
AT_ONCE, CANARY = "all at once", "try 1, then the rest"
END, FRONT = "end of its queue", "front"
AS_BEFORE = "as before"

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
        in_background(app, _set(app, page, action, marked))
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
        _ask(app, page, action, plan, {row.id: row})


async def _set(app: ConsoleApp, page: Page, action: Action, about: dict[str, Any]) -> None:
    probe: dict[str, Any] = {"place": FRONT} if action.id == "move" else {}
    answer = await app.link.call(built(action.id, probe, dry_run=True, **about))
    plan = answer.plan
    if plan is None or not plan.ids:
        raise AiwmError(Code.bad_request, f"none of the marked tasks can be {_done(action)}")
    _ask(app, page, action, plan, page.known_rows())


def _done(action: Action) -> str:
    return {"cancel": "cancelled", "retry": "retried", "move": "moved"}[action.id]


def _ask(app: ConsoleApp, page: Page, action: Action, plan: Plan, rows: dict[str, Any]) -> None:
    from aiwm_tui.screens.dialogs.form import FormDialog

    fields = FIELDS[action.id]
    if plan.count >= TYPED_FROM:
        fields = (*fields, FormField("type", Kind.text, required=True, help=f"Type {plan.count} to go on."))
    delay = UNDO_MS if action.id == "cancel" else 0

    async def go_on(values: dict[str, Any]) -> Line:
        if "type" in values and values["type"].replace(",", "") != str(plan.count):
            raise AiwmError(Code.needs_confirmation, f"type {plan.count} to go on", field="type")
        request = built(action.id, values, ids=tuple(plan.ids), **({"delay_ms": delay} if delay else {}))
        line = reported(app, action, request, await app.link.call(request))
        page.clear_marks()
        return line

    title = f"{action.shown}  {action.label.upper()} {form.plural(plan.count, 'task').upper()}"
    dialog = FormDialog(
        title,
        fields,
        {field.key: str(field.default or "") for field in fields},
        go_on,
        head=set_lines(action, plan, rows),
        verb="go on",
        first="type" if plan.count >= TYPED_FROM else "",
    )
    ask_in_dialog(app, dialog, lambda done: say_result(app, done))


def set_lines(action: Action, plan: Plan, rows: dict[str, Any]) -> list[Line]:
    """The dialog's text, from the ids that the change is fixed to and nothing else."""
    lines: list[Line] = [(("These and no others:" if plan.count > 1 else "This one and no other:", "dim"),)]
    for identifier in plan.ids[:SHOWN]:
        row = rows.get(identifier)
        line: Line = (("  " + fit(identifier, 12), "strong"),)
        if row is not None:
            state = state_span("tasks", row.state)
            reason = clean(row.reason, 50)
            line = (*line, (fit(state[0], 14), state[1]), (fit(clean(row.queue, 40), 16), "dim"), (reason, "dim"))
        lines.append(line)
    if plan.count > SHOWN:
        lines.append(((f"  … {plan.count - SHOWN:,} more", "dim"),))
    cost = plan.cost
    if cost.running and action.id == "cancel":
        those = (
            "It runs now and is told to stop"
            if plan.count == 1
            else f"{form.plural(cost.running, 'task')} of these run now and are told to stop"
        )
        lines += [(), ((f"{those}; what was written is kept.", "text"),)]
    if cost.tokens_in or cost.tokens_out:
        used = f"{form.count(cost.tokens_in)} tokens in, {form.count(cost.tokens_out)} out"
        used += f", ${cost.cost_usd:.4f}" if cost.cost_usd else ""
        lines += [(), ((f"Used so far: {used}.", "dim"),)]
    if action.id == "cancel":
        lines += [(), ((f"It is done {UNDO_MS // 1000} s after you say so; until then Z takes it back.", "dim"),)]
    ids = " ".join(plan.ids[:SHOWN]) + (" …" if plan.count > SHOWN else "")
    return [*lines, (), (("Same from the shell:  ", "dim"), (f"aiwm task {action.id} {ids}", "text"))]
