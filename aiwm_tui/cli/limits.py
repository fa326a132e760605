"""`aiwm limits`: what definitions' calls have used of their rate limits, and when the next may be made."""

from __future__ import annotations

import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import Cli, command, group
from engine.contract.requests import limits


def add(app: typer.Typer) -> None:
    noun = group(app, "limits", "Rate limits: what is used of them, and when the next call may be made.")
    plain(noun, limits.LimitsList)
    command(noun, "show", limits.LimitsShow)(show_one)


def show_one(cli: Cli, request: limits.LimitsShow) -> None:
    """What one definition has used of its limits. JSON: kind limit."""
    row = cli.call(request)
    if cli.output.for_people:
        cli.output.many("limit", "limits", [row], 1)
    else:
        cli.output.one("limit", row)
