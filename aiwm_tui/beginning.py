"""Where the console opens when nobody says: on the start page as long as nothing has been done in a home."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.errors import AiwmError

if TYPE_CHECKING:
    from aiwm_tui.app import ConsoleApp

START = ":start"


def first_location(home: Path, usual: str) -> str:
    """Before the engine can be asked: a home without a database is a new one."""
    from engine.home import database_path

    return usual if database_path(home).exists() else START


async def decide(app: ConsoleApp, usual: str) -> None:
    """The engine is there: from the usual place go to the start page if this home has nothing of its own, and nobody went elsewhere."""
    from engine.contract.requests.home import HomeLook

    try:
        report = await app.link.call(HomeLook())
    except AiwmError:
        # Where one begins is no reason to complain; what is wrong with the engine is said by what needs it.
        return
    here = app.navigation.history.here
    untouched = here is not None and here.location == usual and len(app.screen_stack) == 1 and not app.shell.prompted
    if report.pristine and untouched:
        app.call_later(partial(app.go, START, instead=True))
