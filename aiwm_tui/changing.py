"""The deeds that change something. All of them ask the engine in the background: keys go on working however long it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from aiwm_tui.actions import Action
from aiwm_tui.live.text import Line
from aiwm_tui.reports import report
from engine.contract.errors import AiwmError, Code
from engine.contract.records import Record

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


async def request(app: ConsoleApp, page: Page, action: Action) -> None:
    """Actions whose request needs nothing but the row: a fixed list of rows, asked for first where that is due."""
    row = page.row
    rows: list[Record] = [row] if row is not None else []
    if not rows and action.id != "reload":
        return
    for each in rows:
        misfit = action.fits(each) if action.fits is not None else None
        if misfit:
            app.say(((f"{action.shown} {action.label}: ", "key"), (misfit, "text")))
            return
    if action.asks:
        from aiwm_tui.screens.dialogs.confirm import ConfirmDialog

        ask_in_dialog(
            app, ConfirmDialog(action, rows), lambda yes: _send(app, action, rows) if yes else _said(app, None)
        )
        return
    in_background(app, _send(app, action, rows))


async def _send(app: ConsoleApp, action: Action, rows: list[Record]) -> None:
    assert action.build is not None
    what = action.build(rows)
    app.say(((action.shown + " ", "key"), (f"{action.label} …", "dim")))
    answer = await app.link.call(what)
    app.say(((action.shown + " ", "key"), *report(what, answer)))


async def _said(app: ConsoleApp, done: Line | None) -> None:
    app.say(done if done is not None else (("nothing was changed", "dim"),))


async def submit(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    """Put a task into the queue under the cursor, that of the task under it, or the one the filter names."""
    from aiwm_tui.screens.dialogs.submit import SubmitDialog

    row = page.row
    queue = row.id if page.table == "queues" and row is not None else str(getattr(row, "queue", "") or "")
    if not queue:
        queue = next((term.values[0] for term in page.location.terms if term.field == "queue"), "")
    ask_in_dialog(app, SubmitDialog(app.link, queue), lambda done: _said(app, done))


async def scale(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    """Scale the pool under the cursor, or the first one of the queue under it."""
    row: Any = page.row
    if row is None:
        return
    pools = (row.id,) if page.table == "pools" else row.pools
    if not pools:
        raise AiwmError(Code.not_found, f"no pool serves {row.id}", fix="make one with aiwm call pool.create")
    in_background(app, _scale(app, pools[0]))


async def _scale(app: ConsoleApp, pool: str) -> None:
    from aiwm_tui.screens.dialogs.scale import ScaleDialog
    from engine.contract.requests.fleet import PoolShow

    detail = await app.link.call(PoolShow(name=pool))
    ask_in_dialog(app, ScaleDialog(app.link, detail.definition), lambda done: _said(app, done))
