"""`aiwm queue`."""

from __future__ import annotations

import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import group
from aiwm_tui.cli.defining import deleting
from engine.contract.requests import definitions, fleet


def add(app: typer.Typer) -> None:
    noun = group(app, "queue", "Queues: what waits, what runs, and who serves it.")
    for request in (
        fleet.QueueList,
        fleet.QueueShow,
        fleet.QueueCreate,
        definitions.QueueUpdate,
        fleet.QueuePause,
        fleet.QueueResume,
        definitions.QueueDrain,
        fleet.QueueExplain,
    ):
        plain(noun, request)
    deleting(noun, definitions.QueueDelete, fleet.QueueShow)
