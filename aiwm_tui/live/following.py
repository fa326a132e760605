"""A followed task on the engine: keeps one `Followed` up to date over gaps and lost connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiwm_tui.live.follow import Followed, chunk, started
from aiwm_tui.live.link import Link, Phase
from engine.contract.errors import AiwmError
from engine.contract.notifications import StreamChunk
from engine.contract.requests.tasks import TaskFollow, TaskUnfollow


class Following:
    """`listener` is called after every change of `state` or `error`. Like a view, it lets chunks wait while its request is under way."""

    def __init__(self, link: Link, task: str, listener: Callable[[], None]) -> None:
        self._link = link
        self._task = task
        self._listener = listener
        self._waiting: list[StreamChunk] = []
        self._work: asyncio.Task[None] | None = None
        self._closed = False
        self._later: asyncio.TimerHandle | None = None
        self.state = Followed(task=task)
        self.error: AiwmError | None = None
        self._stop_hearing = link.on(StreamChunk, self._hear)
        link.listeners.append(self._phase)
        if link.phase is Phase.live:
            self._ask()

    def _phase(self, phase: Phase) -> None:
        if phase is Phase.live:
            self._ask()

    def _ask(self) -> None:
        if not self._closed and self._work is None:
            self._work = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        try:
            answer = await self._link.call(TaskFollow(id=self._task, offset=len(self.state.text)))
            if answer.attempt != self.state.attempt and self.state.text:
                # Another attempt began meanwhile: its text starts at 0 again.
                await self._link.call(TaskUnfollow(stream=answer.stream))
                answer = await self._link.call(TaskFollow(id=self._task))
                self.state = Followed(task=self._task)
            self.state, self.error = started(answer, self.state), None
        except AiwmError as error:
            self.error = error
        self._work = None
        self._listener()
        waiting, self._waiting = self._waiting, []
        for news in waiting:
            self._hear(news)

    def _hear(self, news: StreamChunk) -> None:
        if news.task != self._task or self._closed:
            return
        if self._work is not None:
            self._waiting.append(news)
            return
        after = chunk(self.state, news)
        if after is None:
            self._ask()
        elif after is not self.state:
            self.state = after
            self._tell()

    def _tell(self) -> None:
        """At once; over a thin line the pieces of a while together, and the end of the text at once."""
        if not self._link.every_ms or self.state.ended:
            self._listener()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(self._link.every_ms / 1000, self._told_later)

    def _told_later(self) -> None:
        self._later = None
        if not self._closed:
            self._listener()

    async def _unfollow(self) -> None:
        try:
            await self._link.call(TaskUnfollow(stream=self.state.stream))
        except AiwmError:
            # It ended by itself, or the connection did.
            pass

    def close(self) -> None:
        self._closed = True
        if self._later is not None:
            self._later.cancel()
        self._stop_hearing()
        self._link.listeners.remove(self._phase)
        if self._work is not None:
            self._work.cancel()
        if self.state.stream and not self.state.ended and self._link.phase is Phase.live:
            self._work = asyncio.create_task(self._unfollow())
