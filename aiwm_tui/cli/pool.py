"""`aiwm pool`."""

from __future__ import annotations

from typing import Annotated

import typer

from aiwm_tui.cli.answers import plain, show
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.defining import deleting
from engine.contract.requests import definitions, fleet
from engine.contract.requests.base import result_type
from engine.contract.requests.instances import InstanceList


def add(app: typer.Typer) -> None:
    noun = group(app, "pool", "Pools: instances of a worker, between min idle and max total.")
    for request in (
        fleet.PoolList,
        fleet.PoolShow,
        fleet.PoolCreate,
        definitions.PoolUpdate,
        fleet.PoolScale,
        definitions.PoolHistory,
        fleet.PoolExplain,
    ):
        plain(noun, request)
    deleting(noun, definitions.PoolDelete, fleet.PoolShow)
    command(noun, "instances")(_instances)


def _instances(
    cli: Cli, *, name: Annotated[str, typer.Argument(metavar="NAME", help="the pool", show_default=False)]
) -> None:
    """The instances of a pool and what each is doing."""
    with cli.connected() as client:
        client.call(fleet.PoolShow(name=name))
        found = client.call(InstanceList(where=f"pool:{name}"))
    show(cli.output, result_type(InstanceList), found)
