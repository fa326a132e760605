"""`aiwm operation` and `aiwm undo`: what was changed or will be, and taking it back."""

from __future__ import annotations

from typing import Annotated

import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.exit_codes import ExitCode
from engine.contract.requests import operations


def add(app: typer.Typer) -> None:
    noun = group(app, "operation", "Operations: what was changed by hand or will be, and taking it back.")
    plain(noun, operations.OperationList)
    plain(noun, operations.OperationShow)
    command(noun, "undo")(_undo)
    command(noun, "defer", operations.OperationDefer, omit=("params",))(_defer)
    command(app, "undo")(_undo)


def _undo(
    cli: Cli, *, id: Annotated[str, typer.Argument(metavar="ID", help="such as op-118", show_default=False)]
) -> int:
    """Take an operation back: one that waits is never done; of one that was done, what has not gone further since is put back.

    Exit code 0 when something was taken back, 1 when nothing could be. JSON: kind undone."""
    undone = cli.call(operations.OperationUndo(id=id))
    cli.output.one("undone", undone, lambda: f"taken back {' '.join(undone.taken_back)}".strip())
    for task, why in undone.refused.items():
        cli.output.talk(f"{task} was not taken back: {why}")
    return ExitCode.ok if undone.taken_back or not undone.refused else ExitCode.failed


def _defer(
    cli: Cli,
    request: operations.OperationDefer,
    *,
    params: Annotated[
        str, typer.Argument(metavar="JSON", help="the request's parameters, a JSON object", show_default=False)
    ] = "{}",
) -> None:
    """Do any request later: REQUEST is its name, such as queue.delete. Until it is due, aiwm undo takes it back.

    JSON: kind operation."""
    import msgspec

    from aiwm_tui.cli.output import fields_text
    from aiwm_tui.typed import json_object

    row = cli.call(msgspec.structs.replace(request, params=json_object(params, "JSON")))
    cli.output.one("operation", row, lambda: fields_text(row))
