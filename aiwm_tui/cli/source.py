"""`aiwm source`."""

from __future__ import annotations

import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import group
from aiwm_tui.cli.defining import deleting
from engine.contract.requests import definitions


def add(app: typer.Typer) -> None:
    noun = group(app, "source", "Data sources: guarded places to read files from.")
    plain(noun, definitions.SourceList)
    plain(noun, definitions.SourceShow)
    plain(noun, definitions.SourceCreate)
    plain(noun, definitions.SourceUpdate)
    deleting(noun, definitions.SourceDelete, definitions.SourceShow)
