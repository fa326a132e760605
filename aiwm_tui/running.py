"""A console from its start to the end: which engine it is connected to, where it opens, with which keys; and its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from aiwm_tui.actions import ACTIONS
from aiwm_tui.app import HOME, ConsoleApp
from aiwm_tui.dialling import Dialling
from aiwm_tui.preferences import Preferences
from aiwm_tui.replaying import Play


async def play_here(files: Sequence[str]) -> Any:
    """A connection to an engine on this machine that plays these files, and leaves with it."""
    from engine.client import connect_through
    from engine.spawning import replay_command

    return await connect_through(replay_command(files), work=False, read_only=True, name="console")


async def _reach(command: Sequence[str], read_only: bool) -> Any:
    from engine.client import connect_through

    return await connect_through(command, work=True, read_only=read_only, name="console")


def run_console(
    home: Path,
    *,
    location: str | None = None,
    read_only: bool = False,
    preferences: Preferences | None = None,
    spawn: bool = True,
    through: Sequence[str] | None = None,
    record: bool = False,
    replay_at: str = "",
    play: Play | None = None,
) -> int:
    """Open the console on a home until it is left; the exit code. With `spawn` an engine is started behind the first frame if none
    runs, and again when it is gone (not when it was stopped); without, the console waits for one. `through` is a command that carries
    the protocol instead. `record` keeps the last minutes in a ring, `play` connects to an engine that plays files, `replay_at` is where
    it begins."""
    wants = preferences or Preferences()
    read_only = read_only or wants.read_only
    dial = Dialling(home, spawn=spawn, read_only=read_only)
    connect = dial if through is None else partial(_reach, through, read_only)
    first = location or HOME
    if location is None and through is None:
        from aiwm_tui.beginning import first_location

        first = first_location(home, HOME)
    kind = ConsoleApp
    if wants.actions is not ACTIONS:
        from aiwm_tui.keymap import console_class

        kind = console_class(ConsoleApp, wants.actions)
    app = kind(
        connect,
        location=first,
        theme=wants.theme,
        mouse=wants.mouse,
        lean=wants.lean,
        read_only=read_only,
        undecided=location is None,
        record=record,
        replay_at=replay_at,
        play=play or play_here,
        notices=wants.notices,
    )
    app.run(mouse=wants.mouse)
    return app.return_code or 0
