"""The toy model at work in a home of its own: an engine is started there, answers messages with known answers, and goes with everything
it made. Nothing of it touches the home that the console is on."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiwm_tui.demo_result import DemoResult, Message, is_right, judge, read_inbox, sample
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.session import EngineStop
from engine.contract.requests.tasks import TaskOutcome, TaskSubmit, TaskWait
from engine.contract.states import ENDED_STATES
from engine.resources import inbox

if TYPE_CHECKING:
    from engine.client import Client

QUEUE = "demo"
LOOK_MS = 250
"""How often it says how far it is."""
_STOP_S = 10.0
_AT_ONCE = 8


class Trial:
    """`listener` is called after every change. `stage` says in words what goes on; `error` why it ended early, if it did."""

    def __init__(self, count: int, listener: Callable[[], None]) -> None:
        self.messages: Sequence[Message] = sample(read_inbox(inbox()), count)
        self.outcomes: list[TaskOutcome] = []
        self.result: DemoResult | None = None
        self.stage = "an engine starts in a home of its own"
        self.error: AiwmError | None = None
        self.home: Path | None = None
        self.began_s = 0.0
        self.seconds = 0.0
        self.over = False
        self._listener = listener

    @property
    def ended(self) -> list[tuple[Message, TaskOutcome, bool]]:
        """What has ended, each with whether it is right."""
        pairs = zip(self.messages, self.outcomes, strict=False)
        return [(each, it, is_right(each, it)) for each, it in pairs if it.state in ENDED_STATES]

    async def run(self) -> None:
        """Run it to the end, or until cancelled: the home is gone afterwards either way."""
        self.home = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="aiwm-demo-"))
        try:
            await self._in(self.home)
        except AiwmError as error:
            self.error = error
        except OSError as error:
            self.error = AiwmError(Code.engine_unreachable, f"the demo's home cannot be used: {error.strerror}")
        finally:
            await asyncio.to_thread(shutil.rmtree, self.home, True)
            self.stage = "its home is removed: nothing of it is left"
            self.over = True
            self._listener()

    async def _in(self, home: Path) -> None:
        client = await _opened(home)
        try:
            self.began_s = time.monotonic()
            self._say("messages are submitted")
            ids: list[str] = []
            for start in range(0, len(self.messages), _AT_ONCE):
                asked = [
                    client.call(TaskSubmit(queue=QUEUE, payload=message.payload(), batch="demo"))
                    for message in self.messages[start : start + _AT_ONCE]
                ]
                ids += [task.id for task in await asyncio.gather(*asked)]
            self._say("the toy model answers")
            await self._watch(client, ids)
        finally:
            self._say("its engine is stopped")
            await _end(client)

    async def _watch(self, client: Client, ids: list[str]) -> None:
        while self.result is None:
            self.outcomes = await client.call(TaskWait(ids=tuple(ids), timeout_ms=LOOK_MS))
            self.seconds = time.monotonic() - self.began_s
            if len(self.ended) == len(ids):
                self.result = judge(self.messages, self.outcomes, self.seconds)
            self._listener()

    def _say(self, stage: str) -> None:
        self.stage = stage
        self._listener()


async def _opened(home: Path) -> Client:
    """A connection to an engine that is started there. One that is just starting when this is cancelled is waited for and stopped: it
    would make its home again after that was removed."""
    from engine.client import connect

    opening = asyncio.create_task(connect(home, work=True, name="demo"))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await _end(await opening)
        raise


async def _end(client: Client) -> None:
    """Stop the engine behind a connection and wait until its process is gone: its home goes next."""
    import subprocess

    process = client.process
    try:
        await client.call(EngineStop(mode="now"), timeout_s=_STOP_S)
        async with asyncio.timeout(_STOP_S):
            await asyncio.shield(client.closed)
    except (AiwmError, TimeoutError):
        # It is gone already, or does not answer: what follows makes an end of it.
        pass
    if process is not None:
        try:
            await asyncio.to_thread(process.wait, _STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
    await client.close()
