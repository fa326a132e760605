"""The door's connection to the engine: one for the whole process, made again when the engine was restarted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from engine.client import Client, connect
from engine.contract.errors import AiwmError, Code
from engine.contract.notifications import StreamChunk
from engine.contract.requests.fleet import QueueList, WorkerList
from engine.contract.requests.tasks import TaskCancel, TaskFollow, TaskOutcome, TaskSubmit, TaskUnfollow, TaskWait
from engine.contract.states import TaskState
from engine.doors.http.models import Target, offered

_NEWS = asyncio.Queue[StreamChunk | None]


class Gateway:
    """Everything that the door asks of the engine. All methods belong to one loop."""

    def __init__(self, home: Path, *, read_only: bool = False) -> None:
        self._home, self._read_only = home, read_only
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._following: dict[str, _NEWS] = {}
        self._leaving: set[asyncio.Future[None]] = set()
        self._open: set[str] = set()

    async def client(self, *, spawn: bool = True) -> Client:
        """The connection, to an engine that is started (with `spawn`) when there is none. Raises `engine_unreachable` and what keeps an
        engine from starting."""
        async with self._connecting:
            if self._client is None or self._client.closed.done():
                if self._client is not None:
                    await self._client.close()  # the engine that is gone may have been a child of ours
                client = await connect(
                    self._home, spawn=spawn, work=True, read_only=self._read_only, name="http", token="http"
                )
                client.on(StreamChunk, self._heard)
                client.closed.add_done_callback(lambda _: self._lost())
                self._client = client
            return self._client

    async def close(self) -> None:
        """Cancel the tasks that somebody still waits for here: nobody else does."""
        for task in list(self._open):
            self.abandon(task)
        await asyncio.gather(*self._leaving)
        if self._client is not None:
            await self._client.close()

    async def names(self) -> dict[str, Target]:
        """What clients may name as their model."""
        client = await self.client()
        workers, queues = await asyncio.gather(client.call(WorkerList()), client.call(QueueList()))
        return offered(workers, queues)

    async def submit(self, task: TaskSubmit) -> str:
        """The id of the task that this becomes. Await its `outcome`, or `abandon` it."""
        submitted = (await (await self.client()).call(task)).id
        self._open.add(submitted)
        return submitted

    async def outcome(self, task: str) -> TaskOutcome:
        """How a task ended, waiting for it. Raises what made it fail, or `task_cancelled`."""
        (outcome,) = await (await self.client()).call(TaskWait(ids=(task,)))
        self._open.discard(task)
        if outcome.state == TaskState.completed:
            return outcome
        if outcome.error is not None:
            raise AiwmError.of(outcome.error)
        raise AiwmError(Code.task_cancelled, f"task {task} is {outcome.state}")

    def abandon(self, task: str) -> None:
        """Nobody waits for a task any more: cancel it, once, unless it has ended. That is done apart, so that it outlives the request that
        is being torn down."""
        if task not in self._open:
            return
        self._open.discard(task)
        leaving = asyncio.ensure_future(self._cancel(task))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _cancel(self, task: str) -> None:
        # It may have ended, and the engine may be gone: both are fine. None is started for this.
        try:
            await (await self.client(spawn=False)).call(TaskCancel(ids=(task,), reason="the HTTP client left"))
        except AiwmError:
            pass

    async def texts(self, task: str) -> AsyncIterator[str]:
        """A task's text, piece by piece, to its end. Raises `model_crashed` if it starts anew after some was given, and
        `connection_lost` when the engine goes."""
        client = await self.client()
        news: _NEWS = asyncio.Queue()
        self._following[task] = news
        stream = None
        try:
            state = await client.call(TaskFollow(id=task))
            stream = state.stream
            attempt, offset, ended = state.attempt, len(state.text), state.ended
            if state.text:
                yield state.text
            while not ended:
                chunk = await news.get()
                if chunk is None:
                    raise AiwmError(Code.connection_lost, "the engine ended", retryable=True)
                if chunk.attempt != attempt and offset:
                    raise AiwmError(Code.model_crashed, "the answer broke off and starts anew", retryable=True)
                attempt, ended = chunk.attempt, chunk.ended
                text = chunk.text[max(0, offset - chunk.offset) :]
                offset += len(text)
                if text:
                    yield text
        finally:
            del self._following[task]
            if stream is not None and not client.closed.done():
                await client.call(TaskUnfollow(stream=stream))

    def _heard(self, chunk: StreamChunk) -> None:
        news = self._following.get(chunk.task)
        if news is not None:
            news.put_nowait(chunk)

    def _lost(self) -> None:
        for news in self._following.values():
            news.put_nowait(None)
