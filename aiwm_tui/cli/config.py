"""`aiwm config`."""

from __future__ import annotations

from typing import Annotated

import typer

from aiwm_tui.cli.command import Cli, command, group
from engine.contract.requests.session import ConfigShow


def add(app: typer.Typer) -> None:
    noun = group(app, "config", "Settings in force and where they come from.")
    command(noun, "show", ConfigShow)(_show)


def _show(
    cli: Cli,
    request: ConfigShow,
    *,
    origin: Annotated[
        bool, typer.Option("--origin", help="say where each value comes from", show_default=False)
    ] = False,
) -> None:
    """All configuration values in force; with --origin, where each comes from (default, a file, the environment, a flag)."""
    settings = cli.call(request)
    if cli.output.for_people:
        rows = [{"key": one.key, "value": one.value, "origin": one.origin} for one in settings]
        cli.output.table("settings", rows, None if origin else 2)
    else:
        cli.output.many("setting", "settings", settings, len(settings))
