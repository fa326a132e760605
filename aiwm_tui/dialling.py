"""The console's way to its engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.contract.notifications import EngineNotice


class Dialling:
    """Connects to the engine of a home. With `spawn` one is started if none runs, and again when it is gone: but not when somebody
    stopped it, who had a reason; then it waits for one."""

    def __init__(self, home: Path, *, spawn: bool, read_only: bool) -> None:
        self._home = home
        self._spawn = spawn
        self._read_only = read_only
        self.stopped = False

    async def __call__(self) -> Any:
        """A connection. Raises `engine_unreachable` while there is no engine and none is to be started."""
        from engine.client import connect

        spawn = self._spawn and not self.stopped
        client = await connect(self._home, spawn=spawn, work=True, read_only=self._read_only, name="console")
        self.stopped = False
        client.on(EngineNotice, self._heard)
        return client

    def _heard(self, note: EngineNotice) -> None:
        self.stopped = self.stopped or note.what == "stopping"
