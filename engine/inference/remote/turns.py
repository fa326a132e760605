"""Who may ask a server now: its health, told by how calls end, and the waiting of calls for a rest to be over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.inference.remote.health import Health, RemoteState

_LONGEST_WAIT_MS = 60_000
"""A call in the midst of a task waits for a rest that is no longer; for a longer one its task waits in its queue instead."""


class Resting(AiwmError):
    """A call was not sent, because the server rests."""


class Turns:
    """Keeps `health`; `changed` is called when its state changes and when a rest is over. `reachable` says why no connection can be had,
    "" when one can: a server that nobody could reach is tried by that, and no task pays for it with an attempt."""

    def __init__(
        self, health: Health, clock: Clock, changed: Callable[[], None], reachable: Callable[[], Awaitable[str]]
    ) -> None:
        self.health = health
        self._reachable = reachable
        self._looking: asyncio.Task[None] | None = None
        self.error: ErrorInfo | None = None
        self._clock = clock
        self._changed = changed
        self._trying: object | None = None
        self._moved = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> int:
        """Monotonic ms."""
        return self._clock.mono_ns() // 1_000_000

    def resting(self) -> int:
        """How long the server is still left alone, ms."""
        return self.health.resting(self.now())

    async def wait(self, call: object, model: str) -> None:
        """Return when this call may be sent: at once while all is well. After a rest one goes first, the others wait for what comes of it.
        Raises remote_overloaded, model_unavailable while the rest is a long one."""
        while True:
            left = self.resting()
            if left > _LONGEST_WAIT_MS:
                raise self.refusal(model)
            if left:
                await asyncio.sleep(left / 1000)
            elif self.health.state is RemoteState.ready:
                return
            elif self._trying is None:
                self._trying = call
                return
            else:
                await self._moved.wait()

    def refusal(self, model: str) -> Resting:
        """Why it is not asked now, and when it will be."""
        left, limited = self.resting(), self.health.state is RemoteState.limited
        why = self.error.message if self.error is not None else str(self.health.state)
        return Resting(
            Code.remote_overloaded if limited else Code.model_unavailable,
            f"{model} rests for another {left / 1000:.0f} s: {why}"[:500],
            field="model",
            fix="it is tried again by itself",
            retryable=True,
            retry_after_ms=left,
        )

    def ended(self, call: object, error: AiwmError | None, *, heard: bool) -> None:
        """A call is over: what that says about the server, from which something was `heard` or nothing (a call can be given up)."""
        before, until = self.health.state, self.health.until
        if isinstance(error, Resting):
            return
        if error is not None or heard:
            self._judge(error)
        if self._trying is call:
            self._trying = None
        if self.health.state is not RemoteState.ready and error is not None:
            self.error = error.info
        if (self.health.state, self.health.until) != (before, until):
            self._set_timer()
            self._changed()
        self._wake()

    def close(self) -> None:
        """Look no more."""
        for pending in (self._timer, self._looking):
            if pending is not None:
                pending.cancel()

    def _judge(self, error: AiwmError | None) -> None:
        health, now = self.health, self.now()
        code = "" if error is None else error.code
        if code == Code.remote_overloaded and error is not None:
            health.overloaded(now, error.info.retry_after_ms)
        elif code == Code.model_unavailable:
            health.unreachable(now)
        elif error is not None and code == Code.remote_failed and error.info.retryable:
            health.broke(now, error.info.retry_after_ms)
        elif code != Code.internal:
            health.answered(now)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left = self.resting()
        self._timer = asyncio.get_running_loop().call_later(left / 1000 + 0.001, self._rested) if left else None

    def _rested(self) -> None:
        if self.resting():
            self._set_timer()
        elif self.health.state is RemoteState.unreachable:
            self._looking = asyncio.get_running_loop().create_task(self._look())
        else:
            self._timer = None
            self._changed()

    async def _look(self) -> None:
        """Whether an unreachable server can be reached again; if not, it rests on, longer."""
        if await self._reachable():
            self.health.unreachable(self.now())
            self._set_timer()
        else:
            self.health.answered(self.now())
        self._changed()
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
