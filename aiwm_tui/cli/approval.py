"""`aiwm approval`: what agents asked for and a person decides on."""

from __future__ import annotations

import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.exit_codes import ExitCode
from engine.contract.errors import AiwmError
from engine.contract.requests.approvals import ApprovalApprove, ApprovalList, ApprovalReject, ApprovalShow


def add(app: typer.Typer) -> None:
    noun = group(app, "approval", "Approvals: requests of agents that wait for a person.")
    plain(noun, ApprovalList)
    plain(noun, ApprovalShow)
    command(noun, "approve", ApprovalApprove)(_approve)
    plain(noun, ApprovalReject)


def _approve(cli: Cli, request: ApprovalApprove) -> int:
    """Allow a parked request: it is made once, now, on behalf of whoever asked.

    Exit code: 0 it was made, 1 it failed. JSON: kind approval; data.result or data.error."""
    row = cli.call(request)
    cli.output.one("approval", row, lambda: f"{row.id}  {row.state}  {row.method}")
    if row.error is not None:
        cli.output.error(AiwmError.of(row.error))
    return ExitCode.ok if row.error is None else ExitCode.failed
