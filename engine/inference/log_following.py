"""Logs that clients follow: looked at while somebody does, told when they have grown. Nothing runs when nobody follows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.contract.errors import AiwmError, Code
from engine.contract.notifications import LogMore
from engine.inference.log_files import read_on

MOST_FOLLOWED = 20
"""Logs that one client may follow at a time."""

BUSY_S = 0.1
QUIET_S = 0.5
_LATELY_S = 2.0

_log = logging.getLogger(__name__)


class _Follower:
    def __init__(self, name: str, path: Path, client: int, send: Callable[[Any], bool]) -> None:
        self.name = name
        self.path = path
        self.client = client
        self.send = send
        self.after = 0
        self.life: int | None = None
        self.every_s = 0.0
        self.told = 0.0


class LogFollowers:
    """Looks at followed files ten times a second while they grow, twice a second while they rest. The processes write these files
    themselves, so that what they say last is not lost with the engine: there is no pipe to wait on."""

    def __init__(self) -> None:
        self._followers: dict[str, _Follower] = {}
        self._named = 0
        self._timer: asyncio.TimerHandle | None = None
        self._grew = 0.0

    def follow(
        self,
        name: str,
        path: Path,
        after: int,
        life: int | None,
        client: int,
        send: Callable[[Any], bool],
        every_ms: int = 0,
    ) -> str:
        """Begin to tell a client what a log holds from a place on, not more often than every so many ms. The name of the stream;
        `bad_request` for one too many."""
        if sum(it.client == client for it in self._followers.values()) >= MOST_FOLLOWED:
            raise AiwmError(
                Code.bad_request,
                f"a client may follow {MOST_FOLLOWED} logs at a time",
                field="name",
                fix="stop following one",
            )
        self._named += 1
        stream = f"l{self._named}"
        follower = self._followers[stream] = _Follower(name, path, client, send)
        follower.after, follower.life, follower.every_s = after, life, every_ms / 1000
        self._look_in(0)
        return stream

    def unfollow(self, client: int, stream: str) -> None:
        """Stop; nothing happens when the stream is another client's or gone."""
        follower = self._followers.get(stream)
        if follower is not None and follower.client == client:
            del self._followers[stream]
            self._rest()

    def leave(self, client: int) -> None:
        """A client is gone, and everything it followed."""
        self._followers = {stream: it for stream, it in self._followers.items() if it.client != client}
        self._rest()

    def _rest(self) -> None:
        if not self._followers and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for stream, follower in self._followers.items():
            try:
                if now - follower.told >= follower.every_s and self._tell(stream, follower):
                    self._grew = follower.told = now
            except OSError as error:
                # Its process ended and took an empty log along; a new life makes a new one.
                _log.debug("the log %s cannot be read now: %s", follower.name, error)
        if self._followers:
            self._look_in(BUSY_S if now - self._grew < _LATELY_S else QUIET_S)

    def _tell(self, stream: str, follower: _Follower) -> bool:
        """Send what is new, if the client takes it; what it does not take is sent later. Whether there was anything."""
        stat = follower.path.stat()
        if stat.st_ino == follower.life and stat.st_size == follower.after:
            return False
        piece = read_on(follower.name, follower.path, follower.after, follower.life)
        if piece.life == follower.life and piece.next == follower.after:
            return False
        if follower.send(LogMore(stream=stream, piece=piece)):
            follower.after, follower.life = piece.next, piece.life
        return True
