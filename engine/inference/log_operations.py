"""Requests about logs: what the engine and its processes wrote, this life and the ones before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from engine.contract.errors import AiwmError, Code
from engine.contract.records.logs import LogRow
from engine.contract.requests.logs import LogFollow, LogFollowed, LogList, LogRead, LogText, LogUnfollow
from engine.inference.log_files import LogFiles, last_lines, lines_before, read_on
from engine.inference.log_following import LogFollowers
from engine.requests.caller import Caller
from engine.requests.table import RequestTable

_MAX_LINES = 5_000
_AGAIN_S = 1.0


class LogOperations:
    """The logs of one home, and who follows them. `watched` says whether somebody looks at the table of logs, `changed` is called when
    it looks different then: nobody tells us of a file that grows, and nobody looks at one unasked."""

    def __init__(self, home: Path, watched: Callable[[], bool], changed: Callable[[], None]) -> None:
        self._files = LogFiles(home)
        self._followers = LogFollowers()
        self._watched = watched
        self._changed = changed
        self._seen: list[LogRow] = []
        self._timer: asyncio.TimerHandle | None = None

    def register(self, table: RequestTable) -> None:
        table.register(LogList, self.all)
        table.register(LogRead, self.read)
        table.register(LogFollow, self.follow)
        table.register(LogUnfollow, self.unfollow)

    def rows(self) -> list[LogRow]:
        """The table of logs. While it is watched it is looked at again."""
        self._seen = self._files.rows()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_AGAIN_S, self._look)
        return self._seen

    def _look(self) -> None:
        self._timer = None
        if not self._watched():
            return
        before = self._seen
        if self.rows() != before:
            self._changed()

    def close_client(self, client: int) -> None:
        """A client is gone, and everything it followed."""
        self._followers.leave(client)

    async def all(self, _: LogList, __: Caller) -> list[LogRow]:
        return self._files.rows()

    async def read(self, request: LogRead, _: Caller) -> LogText:
        if not 0 <= request.lines <= _MAX_LINES:
            raise AiwmError(
                Code.bad_request, f"lines is {request.lines}, but must lie between 0 and {_MAX_LINES}", field="lines"
            )
        path = self._files.path(request.name, request.previous)
        if request.after is not None:
            return read_on(request.name, path, request.after, request.life)
        if request.before is not None:
            if request.before < 0:
                raise AiwmError(
                    Code.bad_request, f"before is {request.before}: a place in a log is 0 or more", field="before"
                )
            return lines_before(request.name, path, request.before)
        return last_lines(request.name, path, request.lines)

    async def follow(self, request: LogFollow, caller: Caller) -> LogFollowed:
        path = self._files.path(request.name)
        every_ms = max(0, request.every_ms)
        stream = self._followers.follow(
            request.name, path, request.after, request.life, caller.id, caller.send, every_ms
        )
        return LogFollowed(stream=stream)

    async def unfollow(self, request: LogUnfollow, caller: Caller) -> None:
        self._followers.unfollow(caller.id, request.stream)
