"""The console without a terminal: one screen, as it is when everything that it asks for has been answered.

The overview and the pages are made of several parts; what a shell prints of them is what this console would have drawn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from rich.segment import Segment

from aiwm_tui.live.link import Phase
from engine.contract.errors import AiwmError, Code

if TYPE_CHECKING:
    from textual.strip import Strip

    from aiwm_tui.app import Connect

QUIET_S = 0.25
"""Nothing was asked for so long: what a resting cursor asks for (the strip) has been asked and answered."""
DEADLINE_S = 20.0
_LOOK_S = 0.02


def picture(connect: Connect, location: str, size: tuple[int, int], *, theme: str, whole: bool) -> list[list[Segment]]:
    """The lines of a screen of `size` (columns, rows), without the empty ones at its end. `whole`: with the machine and location line above
    and the keys below, otherwise the page alone. Raises what kept the engine from being reached, or the page from being shown."""
    from aiwm_tui.app import ConsoleApp

    app = ConsoleApp(connect, location=location, theme=theme, read_only=True, mouse=False)
    found: list[list[Segment]] = []

    async def look(_: Any) -> None:
        await _settled(app)
        found.extend(lines_of(app.shell if whole else app.page))
        app.exit()

    app.run(headless=True, size=size, auto_pilot=look)
    error = app.link.error
    if error is not None:
        raise error
    while found and not "".join(segment.text for segment in found[-1]).strip():
        found.pop()
    return found


async def _settled(app: Any) -> None:
    """Until nothing has been asked for a while, or the engine cannot be reached."""
    loop = asyncio.get_running_loop()
    deadline, quiet = loop.time() + DEADLINE_S, loop.time()
    while loop.time() - quiet < QUIET_S:
        if app.link.phase is Phase.failed:
            return
        if app.link.phase is not Phase.live or app.link.asking:
            quiet = loop.time()
        if loop.time() > deadline:
            raise AiwmError(
                Code.timeout, f"the engine did not answer everything within {DEADLINE_S:g} s", retryable=True
            )
        await asyncio.sleep(_LOOK_S)


def lines_of(widget: Any) -> list[list[Segment]]:
    """What a widget, or a whole screen, shows now."""
    # There is no public way to the drawn lines of a screen; this is the one place that takes the other one.
    strips: list[Strip] = widget.screen._compositor.render_strips()
    region = widget.region
    return [list(strip.crop(region.x, region.right)) for strip in strips[region.y : region.bottom]]
