"""`aiwm why` and `aiwm call`: asking why something does not move, and any request as it is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aiwm_tui.cli.answers import show, why_text
from aiwm_tui.cli.build import converted
from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.typed import json_object
from engine.contract.errors import AiwmError, Code
from engine.contract.requests import catalogue, fleet, session, tasks
from engine.contract.requests.base import Request, result_type
from engine.contract.why import Why


def add(app: typer.Typer) -> None:
    command(app, "why")(_why)
    command(app, "call")(_call)


_EXPLAINS: dict[str, type[Request[Why]]] = {
    "queues": fleet.QueueExplain,
    "pools": fleet.PoolExplain,
    "models": fleet.ModelExplain,
}


def _why(
    cli: Cli,
    *,
    location: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LOCATION", help="a task id, ':queues etl', ':pools demo', ':models NAME'", show_default=False
        ),
    ] = None,
) -> int:
    """Why nothing moves.

    Asks the whole engine, or about one task, queue, pool or model.

    Exit code 0 when it moves, 1 when something stands still: fit for a cron line."""
    why = cli.call(_why_request(" ".join(location or [])))
    cli.output.one("why", why, lambda: why_text(why))
    return ExitCode.ok if why.moving else ExitCode.failed


def _why_request(text: str) -> Request[Why]:
    """The request that explains a location: `:queues etl` and `:queues/etl` are the same."""
    text = text.strip()
    if not text or text == ":overview":
        return session.EngineWhy()
    if text.startswith("t-"):
        return tasks.TaskExplain(id=text)
    table, _, item = text.removeprefix(":").replace("/", " ", 1).partition(" ")
    item = item.strip()
    if item and " " not in item and ":" not in item:
        if table == "tasks":
            return tasks.TaskExplain(id=item)
        if table in _EXPLAINS:
            return _EXPLAINS[table](name=item)
    raise AiwmError(
        Code.bad_location,
        f'"{text[:60]}" does not name one task, queue, pool or model',
        field="location",
        fix="such as ':queues demo', or nothing for the whole engine",
    )


def _call(
    cli: Cli,
    *,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="such as queue.show", show_default=False)],
    params: Annotated[
        str, typer.Argument(metavar="JSON", help="its parameters, a JSON object", show_default=False)
    ] = "{}",
) -> None:
    """Send any request as it is.

    METHOD is a request's name or alias, JSON its parameters; the answer is printed as the request's own command would."""
    request = catalogue().find(method)
    made: Request[Any] = converted(json_object(params, "JSON"), request)
    show(cli.output, result_type(request), cli.call(made))
