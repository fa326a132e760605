"""What makes the console fit where it is used: the mouse, a thin line, a screen that something else has written on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiwm_tui.live.text import Line
from aiwm_tui.widgets.live_table import LiveTable

if TYPE_CHECKING:
    from aiwm_tui.actions import Action
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.screens.page import Page

LEAN_MS = 2_000
"""Over a thin line what is shown changes this often at most, unless somebody presses a key."""


async def mouse(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    """The console's, or the terminal's: then its own selecting and copying works as everywhere else."""
    app.mouse = not app.mouse
    _report_mouse(app, app.mouse)
    said = "is the console's" if app.mouse else "is the terminal's: it selects and copies as elsewhere"
    app.say(_line(action, f"the mouse {said}", f"aiwm config set console.mouse {str(app.mouse).lower()}"))


def _report_mouse(app: ConsoleApp, on: bool) -> None:
    """Textual asks the terminal for reports when it starts and not again; its driver has no public way to change that."""
    driver: Any = app._driver
    change = getattr(driver, "_enable_mouse_support" if on else "_disable_mouse_support", None)
    if change is not None:
        driver._mouse = True
        change()
        driver._mouse = on
        driver.flush()


async def bandwidth(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    """Fewer and smaller frames, or all of them again."""
    app.use_lean(not app.lean)
    app.hub.reopen()
    for table in app.screen.query(LiveTable):
        table.rearrange()
    said = f"small: at most a frame in {LEAN_MS // 1000} s, no drawings" if app.lean else "full"
    app.say(_line(action, f"bandwidth {said}", f"aiwm config set console.bandwidth {'small' if app.lean else 'full'}"))


async def redraw(app: ConsoleApp, page: Page, action: Action) -> None:  # noqa: ARG001
    """Everything once more, from an empty screen: something else has written on it."""
    app.console.clear()
    app.screen.refresh(layout=True)
    for widget in app.screen.walk_children():
        widget.refresh()


def _line(action: Action, said: str, for_good: str) -> Line:
    return ((f"{action.shown} ", "key"), (said, "text"), (f"   for good: {for_good}", "key"))
