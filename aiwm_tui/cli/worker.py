"""`aiwm worker`: definitions, and reading them again."""

from __future__ import annotations

import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.exit_codes import ExitCode
from engine.contract.errors import AiwmError
from engine.contract.requests import fleet


def add(app: typer.Typer) -> None:
    noun = group(app, "worker", "Worker definitions: kind, model, instruction, adapters.")
    plain(noun, fleet.WorkerList)
    plain(noun, fleet.WorkerShow)
    command(noun, "reload", fleet.WorkerReload)(_reload)


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
    for error in done.errors:
        cli.output.error(AiwmError.of(error))
    return ExitCode.usage if done.errors else ExitCode.ok
