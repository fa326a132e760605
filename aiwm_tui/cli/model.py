"""`aiwm model`."""

from __future__ import annotations

import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import group
from engine.contract.requests import fleet


def add(app: typer.Typer) -> None:
    noun = group(app, "model", "Model processes: which run, where, how fast, how big.")
    plain(noun, fleet.ModelList, "ps")
    plain(noun, fleet.ModelList)
    plain(noun, fleet.ModelExplain)
