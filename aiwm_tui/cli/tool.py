"""`aiwm tool`: what a worker may call, and trying it with a worker's rights."""

from __future__ import annotations

from typing import Annotated

import typer

from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import shown, write
from aiwm_tui.typed import json_object
from engine.contract.requests.tools import ToolCall, ToolList


def add(app: typer.Typer) -> None:
    noun = group(app, "tool", "Tools: what workers may call, and through which gate.")
    command(noun, "list", ToolList)(_list)
    command(noun, "call")(_call)


def _list(
    cli: Cli,
    request: ToolList,
    *,
    allowed: Annotated[
        bool, typer.Option("--allowed", help="only those that may be called", show_default=False)
    ] = False,
) -> None:
    """Every tool, whether a worker definition may call it, and which gate says so. JSON: kind tools."""
    rows = [row for row in cli.call(request) if not allowed or row.allowed in ("allowed", "approval")]
    nothing = f"{request.definition} may call no tools (tools_allow in ai_worker_definitions.json)"
    cli.output.many("tool", "tools", rows, len(rows), empty=nothing)


def _call(
    cli: Cli,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    definition: Annotated[
        str, typer.Option("--as", metavar="WORKER", help="the worker definition whose rights count", show_default=False)
    ],
    arguments: Annotated[
        str, typer.Argument(metavar="JSON", help="""such as '{"path": "notes.txt"}'""", show_default=False)
    ] = "{}",
) -> int:
    """Call a tool with a worker's rights, through the same gate as its tasks; print its answer.

    Exit code: 0 done, 1 the tool failed, 5 the gate refused. JSON: kind tool; data.verdict and data.gate say what decided."""
    request = ToolCall(name=name, definition=definition, arguments=json_object(arguments, "JSON"))
    done = cli.call(request)
    if done.ok or not cli.output.for_people:
        cli.output.one("tool", done, lambda: shown(done.text), exact=True)
    else:
        write(shown(f"{done.text} [{done.verdict}, gate {done.gate}]"))
    if done.ok:
        return ExitCode.ok
    return ExitCode.failed if done.verdict == "allowed" else ExitCode.refused
