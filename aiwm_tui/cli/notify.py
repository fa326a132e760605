"""`aiwm notify`."""

from __future__ import annotations

import typer

from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.exit_codes import ExitCode
from engine.contract.requests.notify import NotifyTest


def add(app: typer.Typer) -> None:
    noun = group(app, "notify", "The notify hook: a command or webhook told of the first of each kind of trouble.")
    command(noun, "test", NotifyTest)(_test)


def _test(cli: Cli, request: NotifyTest) -> int:
    tried = cli.call(request)
    cli.output.one("tried", tried, lambda: f"{tried.ways - len(tried.failures)} of {tried.ways} ways work")
    for failure in tried.failures:
        cli.output.talk(f"failed: {failure}")
    if not tried.ways:
        cli.output.talk("no way is configured: set command or webhook under [notify] in config.toml")
    return ExitCode.failed if tried.failures or not tried.ways else ExitCode.ok


_test.__doc__ = NotifyTest.__doc__
