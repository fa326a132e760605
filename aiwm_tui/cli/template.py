"""`aiwm template`."""

from __future__ import annotations

import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import group
from aiwm_tui.cli.defining import deleting
from engine.contract.requests import definitions


def add(app: typer.Typer) -> None:
    noun = group(app, "template", "Task templates: defaults and payload schemas.")
    plain(noun, definitions.TemplateList)
    plain(noun, definitions.TemplateShow)
    plain(noun, definitions.TemplateCreate)
    plain(noun, definitions.TemplateUpdate)
    deleting(noun, definitions.TemplateDelete, definitions.TemplateShow)
