"""Talking to instances: `T` spawns one of a definition or says something to one, `X` stops an answer or retires it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiwm_tui.changing import in_background
from aiwm_tui.making import with_reason
from aiwm_tui.widgets.prompt import Ask
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.instances import InstanceRetire, InstanceSpawn

if TYPE_CHECKING:
    from aiwm_tui.actions import Action
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.screens.page import Page


async def talk(app: ConsoleApp, page: Page, action: Action) -> None:
    """On a definition: spawn an instance and go to it. On an instance: say something to it."""
    row: Any = page.row
    # The page of an instance knows whom it shows before the engine has said anything about it.
    if row is None and (page.table == "workers" or page.location.item is None):
        return
    if page.table == "workers":
        in_background(app, _spawn(app, row.id, action))
        return
    if row is not None and row.pool:
        fix = "8 workers, T there spawns one to talk to"
        raise AiwmError(Code.bad_request, f"{row.id} works for pool {row.pool} and is not talked to", fix=fix)
    if page.location.item is None:
        await app.go(f":instances/{row.id}")
    await app.shell.ask(Ask.talk, "", str, lambda _: [])


async def _spawn(app: ConsoleApp, definition: str, action: Action) -> None:
    detail = await app.link.call(InstanceSpawn(definition=definition))
    if detail.row is not None:
        app.say(((f"{action.shown} ", "key"), (f"spawned {detail.row.id} of {definition}; T talks to it", "text")))
        app.open_location(f":instances/{detail.row.id}")


async def said(app: ConsoleApp, page: Page, message: str) -> None:
    """What was typed is said to the instance of the page."""
    from aiwm_tui.screens.instances.page import InstancePage

    if isinstance(page, InstancePage) and message.strip():
        if page.talk.answering:
            raise AiwmError(Code.conflict, f"{page.instance} is answering", fix="X stops the answer")
        in_background(app, page.say_to(message))


async def end(app: ConsoleApp, page: Page, action: Action) -> None:
    """Stop the answer that is being given; else retire the instance, which is asked for first."""
    from aiwm_tui.screens.instances.page import InstancePage

    row: Any = page.row
    if row is None:
        return
    if isinstance(page, InstancePage) and page.talk.answering:
        in_background(app, page.stop_answer())
        return
    title = f"RETIRE INSTANCE {row.id}"
    with_reason(app, action, title, lambda reason: InstanceRetire(id=row.id, reason=reason), "retire")
