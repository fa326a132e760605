"""The deeds that change something. All of them ask the engine in the background: keys go on working however long it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from aiwm_tui.actions import Action
from aiwm_tui.live.text import Line
from aiwm_tui.reports import report
from engine.contract.errors import AiwmError, Code
from engine.contract.records import Record
from engine.contract.requests.base import Request
from engine.contract.requests.operations import OperationUndo

if TYPE_CHECKING:
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.screens.page import Page


def in_background(app: ConsoleApp, work: Coroutine[Any, Any, None]) -> None:
    """Do something that waits for the engine; what it refuses is said on the last-action line."""

    async def guarded() -> None:
        try:
            await work
        except AiwmError as error:
            app.fail(error)

    app.run_worker(guarded(), group="change")


def ask_in_dialog(app: ConsoleApp, dialog: Any, then: Callable[[Any], Awaitable[None]]) -> None:
    """Show a dialog; what was decided goes to `then`, after the dialog is closed."""
    if app.leaving:
        return

    async def go_on(answer: Any) -> None:
        await then(answer)

    app.push_screen(dialog, lambda answer: in_background(app, go_on(answer)))


async def say_result(app: ConsoleApp, done: Line | None) -> None:
    """Say what a dialog did, or that it was left."""
    app.say(done if done is not None else (("nothing was changed", "dim"),))


def reported(app: ConsoleApp, action: Action, request: Request[Any], answer: Any) -> Line:
    """What was done, and that `Z` takes it back where it was an operation."""
    line: Line = ((action.shown + " ", "key"), *report(request, answer))
    operation = str(getattr(answer, "operation", "") or "")
    if operation:
        app.last_action.remember(operation, getattr(answer, "due_ms", None), line)
    return line


async def send(app: ConsoleApp, action: Action, what: Request[Any]) -> None:
    """Send a request and say what it did."""
    app.say(((action.shown + " ", "key"), (f"{action.label} …", "dim")))
    app.say(reported(app, action, what, await app.link.call(what)))


async def request(app: ConsoleApp, page: Page, action: Action) -> None:
    """Actions whose request needs nothing but the row under the cursor."""
    assert action.build is not None
    row = page.row
    rows: list[Record] = [row] if row is not None else []
    if not rows and action.id != "reload":
        return
    for each in rows:
        misfit = action.fits(each) if action.fits is not None else None
        if misfit:
            app.say(((f"{action.shown} {action.label}: ", "key"), (misfit, "text")))
            return
    in_background(app, send(app, action, action.build(rows)))


async def undo(app: ConsoleApp, page: Page, action: Action) -> None:
    """Take back the operation under the cursor, or the last thing that was done here."""
    row = page.row
    operation = row.id if page.table == "operations" and row is not None else app.last_action.operation
    if not operation:
        raise AiwmError(Code.not_found, "nothing was done here that can be taken back", fix=":operations")
    in_background(app, send(app, action, OperationUndo(id=operation)))
