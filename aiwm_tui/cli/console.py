"""When the console is opened, and what happens instead where there is no terminal.

Bare `aiwm` comes here without typer: the first frame does not pay for a command line that nobody typed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.errors import AiwmError, Code

if TYPE_CHECKING:
    from aiwm_tui.cli.command import Cli


def terminal_on_both_ends() -> bool:
    """Whether keys come from one and frames go to one: frames are written to stderr, data to stdout."""
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()


def on_terminal(cli: Cli) -> bool:
    """Whether a person sits in front: a terminal on both ends, and no JSON asked for."""
    return cli.output.for_people and terminal_on_both_ends()


def console_on(
    home: Path,
    *,
    location: str | None = None,
    read_only: bool = False,
    spawn: bool = True,
    record: bool = False,
    mouse: bool | None = None,
    bandwidth: str | None = None,
) -> int:
    """The console on a home until it is left, as it is configured; the exit code. Without a location it opens where a home begins.
    `config_invalid` before anything is drawn."""
    from aiwm_tui.preferences import preferences
    from aiwm_tui.running import run_console

    wants = preferences(mouse=mouse, bandwidth=bandwidth)
    return run_console(home, location=location, read_only=read_only, preferences=wants, spawn=spawn, record=record)


def bare(arguments: list[str]) -> int | None:
    """`aiwm` with nothing but options of the console, on a terminal: the console; its exit code. None leaves it to typer."""
    from aiwm_tui.cli.quick import home_path

    given = None
    options: dict[str, Any] = {}
    rest = iter(arguments)
    for argument in rest:
        if argument == "--home":
            given = next(rest, None)
            if given is None:
                return None
        elif argument.startswith("--home="):
            given = argument.removeprefix("--home=")
        elif argument == "--read-only":
            options["read_only"] = True
        elif argument == "--record":
            options["record"] = True
        elif argument in ("--mouse", "--no-mouse"):
            options["mouse"] = argument == "--mouse"
        elif argument.startswith("--bandwidth="):
            options["bandwidth"] = argument.removeprefix("--bandwidth=")
        else:
            return None
    if not terminal_on_both_ends():
        return None
    try:
        return console_on(Path(home_path(given)), **options)
    except AiwmError as error:
        from aiwm_tui.cli.output import Format, Output

        return Output(Format.people).error(error)


def open_console(cli: Cli) -> int:
    """`aiwm`: the console; without a terminal the demo, headless, and its result."""
    if not on_terminal(cli):
        from aiwm_tui.cli.demo import headless_demo

        return headless_demo(cli)
    return console_on(cli.home, read_only=cli.read_only, record=cli.record, **cli.console)


def console_on_host(cli: Cli, host: str, home: Path | None) -> int:
    """The console here on an engine of another machine, which is started there if none runs. `home` is a directory of that machine."""
    from aiwm_tui.cli.remote import ssh_command
    from aiwm_tui.preferences import preferences
    from aiwm_tui.running import run_console

    command = ssh_command(host, ["engine", "attach", "--stdio"], home)
    if not on_terminal(cli):
        fix = f"aiwm --ssh {host} task list"
        raise AiwmError(Code.bad_request, "the console needs a terminal", field="--ssh", fix=fix)

    async def play(files: Sequence[str]) -> Any:
        """The ring is a file of that machine: it is played there."""
        from engine.client import connect_through

        there = ssh_command(host, ["replay", *files, "--stdio"])
        return await connect_through(there, work=False, read_only=True, name="console")

    wants = preferences(**cli.console, ssh=True)
    return run_console(
        cli.home, read_only=cli.read_only, preferences=wants, through=command, record=cli.record, play=play
    )


def attach_console(cli: Cli) -> int:
    """The console on an engine that runs already; none is started, also not when that one goes."""
    if not on_terminal(cli):
        raise AiwmError(
            Code.bad_request, "the console needs a terminal", field="stdio", fix="aiwm engine attach --stdio"
        )
    with cli.connected(spawn=False):
        pass
    return console_on(cli.home, read_only=cli.read_only, spawn=False, record=cli.record, **cli.console)
