"""What the ways to begin do: the toy model at work, a server's models, a model on disk, a file of prompts, a first worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aiwm_tui.changing import ask_in_dialog, in_background, say_result
from aiwm_tui.forms.fields import FormField, Kind
from aiwm_tui.live.text import Line, clean
from aiwm_tui.typed import absolute_path
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.models import FoundServer, ModelAdd, ModelDetect

if TYPE_CHECKING:
    from aiwm_tui.actions import Action
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.screens.page import Page
    from aiwm_tui.screens.start.page import StartPage

_NAMED = 12
"""A server's models are named one by one in the form up to so many."""
ALL = "*"


async def begin(app: ConsoleApp, page: Page, action: Action) -> None:
    """Go the way under the cursor, or the one whose number was pressed. One that cannot be gone says why."""
    from aiwm_tui.screens.start.page import StartPage

    if not isinstance(page, StartPage):
        return
    if action.id == "begin" and page.table == "disk":
        from aiwm_tui.actions import BY_ID
        from aiwm_tui.deeds import perform

        await perform(app, BY_ID["use_found"])
        return
    row = page.way(action.id.removeprefix("way_")) if action.id.startswith("way_") else page.way()
    if row is None:
        return
    if row.barred:
        app.say(((f"{row.id} ", "key"), (clean(row.barred, 300), "text")))
        return
    if row.id == "1":
        await app.go(":demo")
        await again(app, app.page, action)
    elif row.id == "2":
        _servers(app, page)
    elif row.id == "3":
        if not page.show_disk():
            await look_in(app, page, action)
    elif row.id == "4":
        from aiwm_tui.feeding import ask_for_file

        ask_for_file(app, action)
    else:
        from aiwm_tui.guide import guide

        guide(app, action)


async def feed(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    """Put a file of prompts through a model, as a batch."""
    from aiwm_tui.feeding import ask_for_file

    ask_for_file(app, action)


async def again(app: ConsoleApp, page: Page, action: Action) -> None:
    """Run the messages again, when they are over."""
    from aiwm_tui.screens.demo.page import DemoPage

    if isinstance(page, DemoPage) and not page.again():
        app.say(((f"{action.shown} ", "key"), ("they are still under way", "text")))


# A server's models


def _servers(app: ConsoleApp, page: StartPage) -> None:
    from aiwm_tui.screens.dialogs.form import FormDialog

    found = page.facts.detected.servers if page.facts.detected is not None else ()
    server = next((it for it in found if not it.known_as), found[0] if found else None)
    names = server.models if server is not None else ()
    texts = {
        "url": server.url if server is not None else "",
        "remote": ", ".join(names) if len(names) <= _NAMED else ALL,
    }
    fields = (
        FormField("url", Kind.text, required=True, help="The server's address, such as http://127.0.0.1:8080."),
        FormField(
            "remote",
            Kind.text,
            default=ALL,
            help="Its models, with commas between; * takes all it offers.",
            title="models",
        ),
        FormField(
            "key", Kind.text, default="", help="The API key of config.toml that is sent ([keys.NAME]); most need none."
        ),
    )

    async def send(values: dict[str, Any]) -> Line:
        return await _take_over(app, values["url"], values["remote"], values["key"])

    head: list[Line] = [_offer(it) for it in found]
    head += [(("Same from the shell:  ", "dim"), (f"aiwm model add {clean(texts['url'], 80) or 'URL'} --all", "text"))]
    dialog = FormDialog("2  USE THE MODELS OF A SERVER", fields, texts, send, verb="use them", head=head)
    ask_in_dialog(app, dialog, lambda done: say_result(app, done))


def _offer(server: FoundServer) -> Line:
    offers = "says nothing without a key" if server.needs_key else ", ".join(server.models[:_NAMED])
    return (
        (f"{clean(server.program or 'a server', 30)} at {clean(server.url, 80)}: ", "text"),
        (clean(offers, 200), "dim"),
    )


async def _take_over(app: ConsoleApp, url: str, models: str, key: str) -> Line:
    """Add a server's models one after the other; what is refused hinders nothing and is said."""
    names = await _names(app, url, models)
    added: list[str] = []
    refused: list[AiwmError] = []
    for name in names:
        try:
            answer = await app.link.call(ModelAdd(url=url, remote=name, key=key))
        except AiwmError as error:
            if len(names) == 1:
                raise
            refused.append(error)
            continue
        added.append(answer.definition.name)
        app.say((("2 ", "key"), (f"{len(added)} of {len(names)} added …", "coming")))
    if not added:
        raise refused[0]
    app.open_location(":models")
    why = f"; {len(refused)} refused: {refused[0].info.message}" if refused else ""
    line = f"in use: {', '.join(added[:6])}{f' and {len(added) - 6} more' if len(added) > 6 else ''}{why}"
    return (("2 ", "key"), (clean(line, 300), "text"), ("   T", "key"), (" puts a prompt to one", "dim"))


async def _names(app: ConsoleApp, url: str, models: str) -> Sequence[str]:
    """The models that are meant. For all of them a server of this machine is asked what it offers; of others one has to be named."""
    said = [name for part in models.split(",") if (name := part.strip())]
    if said and said != [ALL]:
        return said
    port = url.rstrip("/").removesuffix("/v1").rpartition(":")[2]
    if not port.isdecimal():
        return [""]  # the engine takes the only one, or says which there are
    found = await app.link.call(ModelDetect(ports=(int(port),)))
    names = [name for server in found.servers if f":{port}/" in f"{server.url}/" for name in server.models]
    return names or [""]


# A model on disk


async def look_in(app: ConsoleApp, page: Page, action: Action) -> None:
    """Ask for a directory, judge the models in it, and put the cursor among them."""
    from aiwm_tui.screens.dialogs.form import FormDialog
    from aiwm_tui.screens.start.page import StartPage

    if not isinstance(page, StartPage):
        return

    async def send(values: dict[str, Any]) -> Line:
        path = absolute_path(values["path"])
        await page.check(path)
        page.show_found(path)
        return ((f"{action.shown} ", "key"), (f"judged what is in {clean(path, 200)}", "text"))

    fields = (FormField("path", Kind.text, required=True, help="A directory or .gguf file of the engine's machine."),)
    shell: Line = (("Same from the shell:  ", "dim"), ("aiwm model check PATH", "text"))
    dialog = FormDialog(f"{action.shown}  MODELS IN A DIRECTORY", fields, {}, send, verb="judge them", head=(shell,))
    ask_in_dialog(app, dialog, lambda done: say_result(app, done))


async def use_found(app: ConsoleApp, page: Page, action: Action) -> None:
    """Add the model under the cursor and load it, by a way of its plan where there is no room."""
    from aiwm_tui.screens.start.disk import DiskRow

    row = page.row
    if isinstance(row, DiskRow):
        in_background(app, _use(app, row, action))


async def _use(app: ConsoleApp, row: Any, action: Action) -> None:
    from aiwm_tui.serving import load_model

    verdict = row.verdict
    name = verdict.known_as
    if not name:
        if verdict.state not in ("usable", "no room"):
            raise AiwmError(Code.model_refused, f"{verdict.name}: {verdict.why}", fix=verdict.fix)
        app.say(((f"{action.shown} ", "key"), (f"adding {clean(verdict.name, 60)} …", "coming")))
        name = (await app.link.call(ModelAdd(path=verdict.path))).definition.name
    if len(app.screen_stack) > 1 or app.shell.prompted:
        # Somebody is at something else by now: no dialog comes between.
        app.say(((f"{action.shown} ", "key"), (f"added {clean(name, 60)}; on :models it is loaded", "text")))
        return
    app.open_location(f":models model:{name}")
    load_model(app, name, action)
