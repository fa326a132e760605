"""`aiwm info`: which aiwm this is, where everything lies, what the terminal can show and how the console would use it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.output import fields_text
from engine import __version__
from engine.config import user_config_path
from engine.contract.errors import AiwmError
from engine.contract.requests.session import EngineStatus
from engine.home import database_path, log_path, socket_path


def add(app: typer.Typer) -> None:
    command(app, "info")(_info)


def _info(
    cli: Cli,
    *,
    keys: Annotated[
        bool, typer.Option("--keys", help="the ids of the console's actions and their keys", show_default=False)
    ] = False,
) -> None:
    """Where everything is: versions, files, the engine, the terminal. Nothing is started or made.

    With --keys the actions of the console by id, with the keys that they have, as [keymap] in the configuration names them. JSON: kind info
    with data.paths, engine, console, terminal; with --keys kind actions."""
    if keys:
        _keys(cli)
        return
    about: dict[str, Any] = {
        "version": __version__,
        "python": f"{sys.version.split()[0]} ({sys.executable})",
        "paths": _paths(cli.home),
        "engine": _engine(cli),
        "console": _console(cli),
        "terminal": _terminal(),
    }
    cli.output.one("info", about, lambda: fields_text(about | {"paths": _for_people(about["paths"])}))


def _keys(cli: Cli) -> None:
    from aiwm_tui.preferences import preferences

    actions = preferences().actions
    rows = [{"id": each.id, "keys": each.keys, "label": each.label, "group": each.group.value} for each in actions]
    if cli.output.for_people:
        cli.output.table("actions", rows)
    else:
        cli.output.many("action", "actions", rows, len(rows))


def _paths(home: Path) -> dict[str, dict[str, Any]]:
    """Every file and directory, and whether it is there yet."""
    config = user_config_path()
    paths = {
        "home": home,
        "database": database_path(home),
        "definitions": home / "ai_worker_definitions.json",
        "files": home / "files",
        "models": home / "models",
        "adapters": home / "adapters",
        "recordings": home / "recordings",
        "logs": log_path(home, "engine").parent,
        "socket": socket_path(home),
        "configuration": config,
        "views": config.with_name("views.toml"),
        "themes": config.with_name("themes"),
    }
    return {name: {"path": str(path), "exists": path.exists()} for name, path in paths.items()}


def _for_people(paths: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: each["path"] + ("" if each["exists"] else " (not there)") for name, each in paths.items()}


def _engine(cli: Cli) -> dict[str, Any]:
    try:
        status = cli.call(EngineStatus(), spawn=False)
    except AiwmError as error:
        return {"running": False, "why": error.info.message}
    return {"running": True, "version": status.version, "pid": status.pid, "clients": status.clients}


def _console(cli: Cli) -> dict[str, Any]:
    from aiwm_tui.preferences import preferences
    from aiwm_tui.terminal import ascii_only, no_colour

    try:
        wants = preferences(**cli.console)
    except AiwmError as error:
        return {"configuration": f"refused: {error.info.message}"}
    return {
        "theme": "mono (no colours here)" if no_colour() else wants.theme,
        "glyphs": "ASCII" if ascii_only() else "Unicode",
        "mouse": wants.mouse,
        "bandwidth": "small" if wants.lean else "full",
        "read_only": wants.read_only or cli.read_only,
    }


def _terminal() -> dict[str, Any]:
    across, down = shutil.get_terminal_size((0, 0))
    names = ("TERM", "COLORTERM", "NO_COLOR", "AIWM_ASCII", "LC_ALL", "LANG", "SSH_CONNECTION", "TMUX")
    return {
        "columns": across,
        "lines": down,
        "encoding": sys.stdout.encoding,
        **{name: os.environ[name] for name in names if name in os.environ},
    }
