"""`aiwm doctor`: what works here, even when the engine does not."""

from __future__ import annotations

import typer

from aiwm_tui.cli.answers import show
from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.exit_codes import ExitCode, exit_code_of
from engine.contract.errors import AiwmError
from engine.contract.requests.base import result_type
from engine.contract.requests.session import EngineDoctor, Finding


def add(app: typer.Typer) -> None:
    command(app, "doctor", EngineDoctor)(_doctor)


def _doctor(cli: Cli, request: EngineDoctor) -> int:
    """What works on this machine, and the fix for what does not."""
    code = ExitCode.ok
    try:
        findings = cli.call(request)
    except AiwmError as error:
        # That the engine does not start is the most important finding of all.
        findings = [Finding(what="engine", state="missing", seen=error.info.message, fix=error.info.fix)]
        code = exit_code_of(error.code)
    show(cli.output, result_type(EngineDoctor), findings)
    return code
