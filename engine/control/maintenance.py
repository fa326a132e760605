"""Maintenance: nothing new starts until somebody ends it, whatever is restarted in between."""

from __future__ import annotations

from collections.abc import Callable

from engine.contract.requests.maintenance import Maintenance
from engine.control.dispatcher import Dispatcher
from engine.control.keeping import Keeping
from engine.scheduling.inputs import DispatchEnabled

_SETTING = "maintenance"


class Dispatching:
    """Whether tasks may start, from the two who have a say: the engine's life (is anybody there who waits for work, is it stopping) and
    the operator's maintenance, which outlasts restarts."""

    def __init__(self, dispatcher: Dispatcher, keeping: Keeping, changed: Callable[[], None]) -> None:
        self._dispatcher = dispatcher
        self._keeping = keeping
        self._changed = changed
        self._enabled = True
        self._reason = ""
        self.maintenance: Maintenance | None = None

    def begin(self) -> None:
        """Go on with the maintenance that an earlier engine was in."""
        self.maintenance = self._keeping.setting(_SETTING, Maintenance)
        self._tell()

    def enable(self, enabled: bool, reason: str = "") -> None:
        """The engine's life lets tasks start, or lets none start."""
        self._enabled, self._reason = enabled, reason
        self._tell()

    async def maintain(self, maintenance: Maintenance | None) -> None:
        """Begin maintenance, or (None) end it. What starts nothing holds at once, and no longer when it cannot be stored; what lets tasks
        start is stored first."""
        before = self.maintenance
        if maintenance is not None:
            self.maintenance = maintenance
            self._tell()
        try:
            await self._keeping.set(_SETTING, maintenance)
        except BaseException:
            maintenance = before
            raise
        finally:
            self.maintenance = maintenance
            self._tell()

    def mode(self) -> str:
        """The machine line's words for it, empty without maintenance."""
        if self.maintenance is None:
            return ""
        reason = f": {self.maintenance.reason}" if self.maintenance.reason else ""
        return f"maintenance{reason} ({self.maintenance.by})"

    def _tell(self) -> None:
        if not self._enabled:
            self._dispatcher.feed(DispatchEnabled(False, self._reason))
        elif self.maintenance is not None:
            self._dispatcher.feed(
                DispatchEnabled(False, self.maintenance.reason or "no reason given", maintenance=True)
            )
        else:
            self._dispatcher.feed(DispatchEnabled(True))
        self._changed()
