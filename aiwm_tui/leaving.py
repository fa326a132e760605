"""Leaving the console: what becomes of running work is asked, never assumed."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from aiwm_tui.live.link import Phase
from engine.contract.errors import AiwmError
from engine.contract.requests.session import EngineStop

if TYPE_CHECKING:
    from aiwm_tui.app import ConsoleApp

LEAVE = "leave"


async def leave(app: ConsoleApp) -> None:
    """Leave at once when nothing runs or waits; else ask: leave it running, drain, stop. Out of the past one leaves for now first."""
    if app.link.away:
        from aiwm_tui.replaying import back

        await back(app)
        return
    row = app.machine
    working = row is not None and (row.running or row.waiting) and app.link.phase is Phase.live
    if row is None or not working or app.read_only:
        app.leave()
        return
    from aiwm_tui.changing import ask_in_dialog
    from aiwm_tui.screens.dialogs.quit import QuitDialog

    ask_in_dialog(app, QuitDialog(row.running, row.waiting, unfinished(app)), lambda choice: _go(app, choice))


def unfinished(app: ConsoleApp) -> tuple[str, ...]:
    """What ends with the console although the work goes on: answers are written to files from here. Each as the command that goes on."""
    open_ones = [it for it in app.collections.values() if not it.over]
    return tuple(f"aiwm batch wait {it.batch} --out {shlex.quote(str(it.path))}" for it in open_ones)


async def _go(app: ConsoleApp, choice: str | None) -> None:
    if choice is None:
        return
    if choice != LEAVE:
        app.leaving = True
        try:
            await app.link.call(EngineStop(mode=choice), timeout_s=5.0)
        except AiwmError as error:
            app.leaving = False
            app.fail(error)
            return
    app.leave()
