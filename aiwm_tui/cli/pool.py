"""`aiwm pool`."""

from __future__ import annotations

import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import group
from engine.contract.requests import fleet


def add(app: typer.Typer) -> None:
    noun = group(app, "pool", "Pools: instances of a worker, between min idle and max total.")
    for request in (fleet.PoolList, fleet.PoolShow, fleet.PoolCreate, fleet.PoolScale, fleet.PoolExplain):
        plain(noun, request)
