"""`aiwm start`: what is on this machine, and the ways to begin; what the console's start page shows, with the commands that do it."""

from __future__ import annotations

import time
from typing import Any

import typer

from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.output import hanging
from engine.client import BlockingClient
from engine.contract.requests.fleet import ModelList
from engine.contract.requests.home import HomeLook
from engine.contract.requests.memory import DeviceList
from engine.contract.requests.models import ModelDetect
from engine.contract.requests.session import EngineDoctor


def add(app: typer.Typer) -> None:
    command(app, "start", HomeLook)(_start)


def _start(cli: Cli, request: HomeLook) -> None:
    """What is here, and five ways to begin: the toy model at work, a server's models, a model on disk, a file of prompts, a first worker.

    Looks at this machine only, and changes nothing. In the console: :start. JSON: kind start, data.home, detected, findings, devices."""
    with cli.connected() as client:
        found = {
            "home": client.call(request),
            "detected": client.call(ModelDetect()),
            "findings": client.call(EngineDoctor()),
            "devices": client.call(DeviceList()),
        }
        text = "" if not cli.output.for_people else _text(client, found)
    cli.output.one("start", found, lambda: text)


def _text(client: BlockingClient, found: dict[str, Any]) -> str:
    from aiwm_tui.live.text import plain
    from aiwm_tui.screens.start.facts import TOY, Facts, here_lines
    from aiwm_tui.screens.start.ways import ways

    toy = next((row for row in client.call(ModelList(known=True)) if row.model == TOY), None)
    pid = client.welcome.pid if client.welcome is not None else 0
    facts = Facts(**found, toy=toy, pid=pid)
    lines = [part for line in here_lines(facts, time.time_ns() // 1_000_000) for part in hanging(plain(line), 21)]
    lines += ["", " START HERE"]
    for way in ways(facts, read_only=False):
        lines += hanging(f"  {way.id}  {way.what}: {way.barred or way.note}", 5)
        lines += hanging(f"     {way.shell}", 5)
    return "\n".join(lines)
