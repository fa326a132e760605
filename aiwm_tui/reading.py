"""What the keys of logs do, and how one comes to the log of a task, an instance, a model or an event."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from aiwm_tui.actions import Action
from aiwm_tui.live.log_search import searched, turned, with_faults
from aiwm_tui.live.text import clean
from aiwm_tui.screens.logs.page import LogPage
from aiwm_tui.widgets.prompt import Ask
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.logs import LogList
from engine.contract.requests.session import ViewRead

if TYPE_CHECKING:
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.screens.page import Page

CONTEXT = 3
"""Lines around a match when the others are hidden by a key; the prompt takes any number."""


async def search(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    """Ask what to look for."""
    location = page.location
    await app.shell.ask(Ask.search, location.filter_text(), lambda text: searched(location, text), lambda _: ())


async def searched_for(app: ConsoleApp, page: Page, text: str) -> None:
    """The prompt was answered."""
    await app.go(str(searched(page.location, text)))


async def step(app: ConsoleApp, page: Page, action: Action) -> None:
    """To the next match, or the one before."""
    if isinstance(page, LogPage):
        app.say(((f"{action.shown} ", "key"), *page.step(1 if action.id == "next_match" else -1)))


async def only_matches(app: ConsoleApp, page: Page, action: Action) -> None:
    """Hide what does not match, or show it again."""
    if not page.location.terms:
        app.say(((f"{action.shown} {action.label}: ", "key"), ("nothing is looked for: / searches", "text")))
        return
    await app.go(str(turned(page.location, CONTEXT)), instead=True)


async def trouble(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    """Only errors and what stands around them, or everything again."""
    await app.go(str(with_faults(page.location, CONTEXT)))


async def wrap(app: ConsoleApp, page: Page, action: Action) -> None:
    if isinstance(page, LogPage):
        app.say(((f"{action.shown} wrap: ", "key"), (page.turn_wrapping(), "text")))


async def times(app: ConsoleApp, page: Page, action: Action) -> None:
    if isinstance(page, LogPage):
        app.say(((f"{action.shown} times: ", "key"), (page.turn_times(), "text")))


async def copy(app: ConsoleApp, page: Page, action: Action) -> None:
    """The match that was gone to, or what is on the screen."""
    if isinstance(page, LogPage):
        from aiwm_tui.clipboard import to_clipboard

        text = page.copied()
        await to_clipboard(app, text)
        lines = text.count("\n") + 1
        what = clean(text, 60) if lines == 1 else f"{lines} lines"
        app.say(((f"{action.shown} copied ", "key"), (what, "text")))


async def chain(app: ConsoleApp, page: Page, action: Action) -> None:
    """All events of the task, the operation or the request that this row belongs to, as they come."""
    row: Any = page.row
    if row is None:
        return
    of = row.id if page.table == "tasks" else row.correlation or row.task
    if not of:
        said = f"event {row.id} belongs to nothing else; e shows those about {clean(row.about, 60)}"
        app.say(((f"{action.shown} chain: ", "key"), (said, "text")))
        return
    await app.go(f":events chain:{of}")


async def log(app: ConsoleApp, page: Page, action: Action) -> None:
    """The log of the process behind this row: of its worker if that has a process of its own, else of its model, else the engine's."""
    row = page.row
    if page.table == "engine":
        await app.go(":logs/engine")
        return
    if row is not None:
        ask = partial(_log_of, app, page.table, row)
        app.ahead.ask(action, ask, lambda found: _open_log(app, page, row, action, found))


async def _log_of(app: ConsoleApp, table: str, row: Any) -> str | None:
    """The log of what a row is about, that of the engine where it is about nothing that could have one."""
    names = {log.id for log in await app.link.call(LogList())}
    wanted = await _wanted(app, table, row)
    own = next((name for name in wanted if name in names), None)
    return own if own is not None or wanted or not names else "engine"


def _open_log(app: ConsoleApp, page: Page, row: Any, action: Action, found: str | None) -> bool:
    """Go to it; whether that is done."""
    if found is None:
        which = f"no process of {clean(row.id, 60)} wrote anything"
        app.say(
            (
                (f"{action.shown} log: ", "key"),
                (f"{which}; ", "text"),
                (":logs", "key"),
                (" lists what there is", "dim"),
            )
        )
        return False
    if app.page is not page:
        # Who went elsewhere while the engine was asked is not taken away from there.
        return False
    app.open_location(f":logs/{found}")
    return True


async def _wanted(app: ConsoleApp, table: str, row: Any) -> list[str]:
    """Names of logs that a row may have, the nearest first."""
    if table == "models":
        return [row.id]
    if table == "events":
        related = [row.about, row.who, f"kind-{row.about}"]
        task = await _row(app, "tasks", row.task) if row.task else None
        return [*related, *(await _wanted(app, "tasks", task) if task is not None else ())]
    if table == "workers":
        return await _processes(app, row.model)
    instance = row.instance if table == "tasks" else row.id
    worker = await _row(app, "workers", row.definition) if row.definition else None
    own = [f"kind-{instance}"] if instance else []
    return own + (await _processes(app, worker.model) if worker is not None else [])


async def _processes(app: ConsoleApp, model: str) -> list[str]:
    """The processes of a model; a model that is in none keeps the log of its first one."""
    answer = await app.link.call(ViewRead(location=f":models model:{model}"))
    return [*(str(row["id"]) for row in answer.rows), f"{model}.0"]


async def _row(app: ConsoleApp, table: str, identifier: str) -> Any:
    from aiwm_tui.live.table import opened

    try:
        state = opened(await app.link.call(ViewRead(location=f":{table}/{identifier}", size=1)))
    except AiwmError as error:
        if error.code == Code.bad_location:
            return None
        raise
    return state.at(0)
