"""`aiwm instance`."""

from __future__ import annotations

import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import group
from engine.contract.requests import fleet


def add(app: typer.Typer) -> None:
    noun = group(app, "instance", "Instances: the live workers and what each is doing.")
    plain(noun, fleet.InstanceList)
