"""Who is here, and whether the engine works and stays: the rules of DESIGN §2 about its life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum


class Stay(Enum):
    """How an engine was started: `headless` by hand, `attached` by a console, `on_demand` by a subcommand."""

    headless = "headless"
    attached = "attached"
    on_demand = "on_demand"


class Presence:
    """Counts clients. A headless engine stays until it is told to go. One that a console started goes when nobody is there and no
    work is left. One that a subcommand started works only while a client waits for work, and goes soon after the last one."""

    def __init__(
        self,
        stay: Stay,
        linger_ms: int,
        busy: Callable[[], bool],
        enable: Callable[[bool, str], None],
        leave: Callable[[], None],
    ) -> None:
        self._stay = stay
        self._linger_s = linger_ms / 1000
        self._busy = busy
        self._enable = enable
        self._leave = leave
        self._here: dict[int, bool] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.dispatching = stay is not Stay.on_demand

    def begin(self) -> None:
        """Start counting: an engine that nobody comes to goes, too."""
        self.look()

    def arrived(self, client: int, works: bool) -> None:
        self._here[client] = works
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._set_dispatching()

    def left(self, client: int) -> None:
        self._here.pop(client, None)
        self._set_dispatching()
        self.look()

    @property
    def brief(self) -> bool:
        """Whether the engine goes as soon as the one client that is here has gone."""
        return self._stay is not Stay.headless and len(self._here) <= 1 and not self._kept_by_work()

    def _kept_by_work(self) -> bool:
        return self._stay is Stay.attached and self._busy()

    def look(self) -> None:
        """See whether to go: called when a client left and when work may have ended."""
        if self._stay is Stay.headless or self._here or self._timer is not None:
            return
        if self._kept_by_work():
            return
        self._timer = asyncio.get_running_loop().call_later(self._linger_s, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        if not self._here and not self._kept_by_work():
            self._leave()

    def _set_dispatching(self) -> None:
        if self._stay is not Stay.on_demand:
            return
        wanted = any(self._here.values())
        if wanted != self.dispatching:
            self.dispatching = wanted
            self._enable(wanted, "" if wanted else "no command waits for work")
