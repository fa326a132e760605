"""A spawned model process and its pipe: starting it, ending it, and the calls that wait for its answers."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.inference import protocol
from engine.inference.process_log import open_log
from engine.wire import rpc
from engine.wire.peer import Heard, Peer
from engine.wire.transports import over_pipes

GRACE = 1.0  # seconds between asking a process to end and killing it


def default_command() -> list[str]:
    return [sys.executable, "-P", "-m", "engine.inference.process"]


class Child:
    """`progress` is when it last did something for its requests, `step` its step counter then; times on the loop's clock."""

    def __init__(self, process: subprocess.Popen[bytes], peer: Peer) -> None:
        self._process = process
        self._peer = peer
        self._unanswered: dict[int, float] = {}
        self._numbers = itertools.count()
        self.progress = asyncio.get_running_loop().time()
        self.step = 0

    @classmethod
    async def spawn(cls, command: Sequence[str], log: Path, memory_limit: int | None, heard: Heard) -> Child:
        """Start a process that logs to `log` and dies with this thread. Raises OSError."""
        words = ["--parent", str(os.getpid())]
        if memory_limit is not None:
            words += ["--memory", str(memory_limit)]
        with open_log(log) as file:
            process = subprocess.Popen(  # noqa: ASYNC220 (returns at once)
                [*command, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                bufsize=0,
                start_new_session=True,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        return cls(process, await over_pipes(process.stdout, process.stdin, heard=heard))  # type: ignore[arg-type]

    @property
    def pid(self) -> int:
        return self._process.pid

    async def call(self, request: protocol.Request) -> bytes:
        """The encoded result. Raises the process's error, or connection_lost when it is gone."""
        number = next(self._numbers)
        if not isinstance(
            request, protocol.Prefetch
        ):  # it takes as long as the disk does, and waits for requests' own adapters
            self._unanswered[number] = asyncio.get_running_loop().time()
        try:
            return await self._peer.call(request.method, rpc.encode(request))
        finally:
            self._unanswered.pop(number, None)

    @property
    def oldest_call(self) -> float | None:
        """Since when the oldest unanswered call waits that should be answered at once."""
        return min(self._unanswered.values(), default=None)

    async def ended(self) -> int:
        """Wait until it has closed its pipe, which is its end, and give its exit code; negative for a signal."""
        await self._peer.closed
        try:
            return await asyncio.to_thread(self._process.wait, GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return await asyncio.to_thread(self._process.wait)

    async def end(self, *, abort: bool) -> None:
        """Ask it to end, then force it. `abort` makes it write a traceback of where it is to its log first."""
        if abort:
            self._signal(signal.SIGABRT)
        else:
            self._peer.close()
        await asyncio.sleep(GRACE)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)
