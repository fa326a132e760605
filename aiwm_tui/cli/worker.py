"""`aiwm worker`: definitions, and reading them again."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from aiwm_tui.cli.answers import plain, show
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.defining import Yes, report, text_of
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.limits import show_one
from aiwm_tui.cli.output import confirm
from engine.contract.errors import AiwmError
from engine.contract.requests import definitions, fleet
from engine.contract.requests.base import result_type
from engine.contract.requests.limits import LimitsShow


def add(app: typer.Typer) -> None:
    noun = group(app, "worker", "Worker definitions: immutable, replaced as a whole set.")
    command(noun, "list", fleet.WorkerList, omit=("where",))(_list)
    plain(noun, fleet.WorkerShow)
    command(noun, "create", definitions.WorkerCreate, names={"key": "api-key"})(_create)
    command(noun, "limits", LimitsShow)(show_one)
    command(noun, "reload", fleet.WorkerReload)(_reload)
    command(noun, "load")(_load)
    command(noun, "validate")(_validate)


def _list(
    cli: Cli,
    request: fleet.WorkerList,
    *,
    where: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILTER", help="such as provider:local name:*extract* capabilities:json", show_default=False
        ),
    ] = None,
) -> None:
    """Worker definitions by name, all or those that match a filter in the language of locations."""
    found = cli.call(msgspec.structs.replace(request, where=" ".join(where or [])))
    show(cli.output, result_type(fleet.WorkerList), found)


def _create(cli: Cli, request: definitions.WorkerCreate) -> None:
    """Add one worker definition to those in force; there is no other way to change one than to replace the whole set.

    The file of worker definitions does not get it: a changed file that lacks it is refused as long as a pool names it.
    JSON: kind worker."""
    made = cli.call(request)
    if cli.output.for_people:
        cli.output.table("workers", [msgspec.structs.asdict(made.row)])
    else:
        show(cli.output, result_type(definitions.WorkerCreate), made)


File = Annotated[str, typer.Argument(metavar="FILE", help="- reads stdin", show_default=False)]


def _load(cli: Cli, *, file: File, yes: Yes = False) -> int:
    """Replace all worker definitions by those of a JSON file (a list, or an object with the list), or change nothing if anything in it
    is wrong. Removing some needs a yes. JSON: kind bundle."""
    text = text_of(file)
    with cli.connected() as client:
        planned = client.call(definitions.WorkerValidate(workers=text))
        gone = [name for change in planned.changes for name in change.removed]
        if gone and not planned.errors:
            confirm(cli.output, f"This removes worker {', '.join(gone)}. Go on?", yes=yes)
        done = client.call(definitions.WorkerLoad(workers=text))
    return report(cli, done, would=False)


def _validate(cli: Cli, *, file: File) -> int:
    """Everything that is wrong with a file of worker definitions, and what loading it would change. Changes nothing. JSON: kind bundle."""
    return report(cli, cli.call(definitions.WorkerValidate(workers=text_of(file))), would=True)


def _reload(cli: Cli, request: fleet.WorkerReload) -> int:
    """Read `ai_worker_definitions.json` again. It replaces the whole set, or nothing if anything in it is wrong."""
    done = cli.call(request)

    def people() -> str:
        changes = [("added", done.added), ("changed", done.changed), ("removed", done.removed)]
        return "\n".join(
            [f"{word} {', '.join(names)}" for word, names in changes if names] + [f"unchanged {done.unchanged}"]
        )

    if not done.errors or not cli.output.for_people:
        cli.output.one("reloaded", done, people)
    for warning in done.warnings:
        cli.output.talk(f"warning: {AiwmError.of(warning)}")
    for error in done.errors:
        cli.output.error(AiwmError.of(error))
    return ExitCode.usage if done.errors else ExitCode.ok
