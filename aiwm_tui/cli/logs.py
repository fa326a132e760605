"""`aiwm logs`: what the engine and its model processes wrote."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import msgspec
import typer

from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.output import shown
from engine.contract.requests.logs import LogList, LogRead, LogText

_POLL_S = 0.3


def add(app: typer.Typer) -> None:
    command(app, "logs")(_logs)


def _logs(
    cli: Cli,
    *,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="engine, or a process such as nano.0 (none: which there are)", show_default=False
        ),
    ] = None,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="of the life before this one", show_default=False)
    ] = False,
    life: Annotated[
        int, typer.Option("--life", metavar="N", help="of so many lives before this one", show_default=False)
    ] = 0,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", help="lines at most")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on with what comes", show_default=False)] = False,
) -> None:
    """The last lines of a log: of the engine, or of a model process, also of its lives before. JSON: kind log; --jsonl: one object a
    piece."""
    with cli.connected() as client:
        if name is None:
            found = client.call(LogList())
            cli.output.many("log", "logs", found, len(found), empty="nothing was logged yet")
            return
        made = LogRead(name=name, previous=life or int(previous), lines=lines)
        piece = client.call(made)
        _print(cli, piece)
        if not piece.text and not follow:
            when = "in that life" if made.previous else "in this life"
            how = "" if name == "engine" else f" (aiwm model crashes {name}: how lives ended)"
            cli.output.talk(f"{name} wrote nothing {when}{how}")
        while follow:
            time.sleep(_POLL_S)
            more = client.call(msgspec.structs.replace(made, after=piece.next, life=piece.life))
            if more.text or more.life != piece.life:
                _print(cli, more)
            piece = more


def _print(cli: Cli, piece: LogText) -> None:
    if not cli.output.for_people:
        cli.output.line("log", piece)
    elif piece.text:
        text = shown(piece.text)
        sys.stdout.write(text if text.endswith("\n") or not text else text + "\n")
        sys.stdout.flush()
