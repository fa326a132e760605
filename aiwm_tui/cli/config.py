"""`aiwm config`."""

from __future__ import annotations

from typing import Annotated

import typer

from aiwm_tui.cli.command import Cli, command, group
from engine.contract.requests.session import ConfigShow


def add(app: typer.Typer) -> None:
    noun = group(app, "config", "Settings in force and where they come from.")
    command(noun, "show", ConfigShow)(_show)
    command(noun, "path")(_path)
    command(noun, "set")(_set)
    command(noun, "init")(_init)


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


def _path(cli: Cli) -> None:
    """Where the user's configuration file is, or would be."""
    from engine.config import user_config_path

    path = user_config_path()
    cli.output.one("path", {"path": str(path), "exists": path.is_file()}, lambda: str(path))


def _set(
    cli: Cli,
    *,
    key: Annotated[str, typer.Argument(metavar="KEY", help="such as console.theme", show_default=False)],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="a TOML value, or plain text", show_default=False)],
) -> None:
    """Set one value in the user's configuration file; its comments stay. An engine that runs reads it at its next start."""
    from engine.config import user_config_path
    from engine.config_file import set_value

    if key.startswith("keymap."):
        from aiwm_tui.keymap import keyed
        from engine.config import load_config

        keyed({**load_config().config.keymap, key.removeprefix("keymap."): value})
    understood = set_value(key, value)
    cli.output.one(
        "setting", {"key": key, "value": understood}, lambda: f"{key} = {understood!r} in {user_config_path()}"
    )


def _init(cli: Cli) -> None:
    """Write the user's configuration file: every setting with its meaning, commented out."""
    from engine.config_file import init

    path = init()
    cli.output.one("path", {"path": str(path), "exists": True}, lambda: str(path))
