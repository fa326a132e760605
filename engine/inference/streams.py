"""The text of running tasks: rows that grow. Every follower has an offset and gets what is new since then, at its own pace.

A follower that reads slowly gets fewer and larger pieces; it never slows the model or another follower. The text is kept for
a while after its task's end, then the result on disk is all there is."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from engine.contract.ids import task_id
from engine.contract.notifications import StreamChunk
from engine.contract.requests.tasks import StreamState
from engine.contract.states import TaskState

FLUSH_INTERVAL = 1 / 15  # seconds between two pieces for one follower
KEEP_ENDED = 60.0  # seconds for which an ended task's text stays
MAX_ENDED = 2_000  # texts of ended tasks that stay at most
MAX_CHUNK = 256 * 1024  # characters of one piece

SendChunk = Callable[[StreamChunk], bool]
"""Returns False when the client is congested and nothing was sent: the piece is offered again later, grown."""

_FINAL = (TaskState.completed, TaskState.failed, TaskState.cancelled)


@dataclass(slots=True)
class _Text:
    attempt: int = 0
    text: str = ""
    state: str | None = None  # the task's final state, once it is on disk


@dataclass(slots=True)
class _Follower:
    stream: str
    seq: int
    send: SendChunk
    client: object
    attempt: int
    offset: int


class Streams:
    """`ports.Texts`, and its readers. All methods belong to the loop's thread."""

    def __init__(self) -> None:
        self._texts: dict[int, _Text] = {}
        self._followers: dict[str, _Follower] = {}
        self._by_task: dict[int, set[str]] = {}
        self._dirty: set[str] = set()
        self._ended: dict[int, float] = {}  # in order of their end
        self._numbers = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None

    # -- ports.Texts -------------------------------------------------------------------------------------------------------

    def open(self, seq: int, attempt: int) -> None:
        self._texts[seq] = _Text(attempt)
        self._ended.pop(seq, None)
        self._touch(seq)

    def append(self, seq: int, attempt: int, text: str) -> None:
        row = self._texts.get(seq)
        if row is not None and row.attempt == attempt and row.state is None and text:
            row.text += text
            self._touch(seq)

    def end(self, seq: int, attempt: int, state: str) -> None:
        row = self._texts.setdefault(seq, _Text(attempt))
        if row.attempt > attempt:
            return
        if not row.text and seq not in self._by_task:
            del self._texts[seq]  # a task without text, of which there may be thousands a second
            self._ended.pop(seq, None)
            return
        if state in _FINAL:
            row.state = state
            self._touch(seq)
        self._ended.pop(seq, None)
        self._ended[seq] = asyncio.get_running_loop().time() + KEEP_ENDED
        self._drop_old()

    # -- followers ---------------------------------------------------------------------------------------------------------

    def follow(self, seq: int, offset: int, send: SendChunk, client: object) -> StreamState:
        """Follow a task's text from an offset on: the answer has what is there, chunks bring the rest. Ended texts are not
        followed, only read. `client` is whatever `leave` will be called with."""
        row = self._texts.get(seq) or _Text()
        offset = min(max(offset, 0), len(row.text))
        stream = f"s-{next(self._numbers)}"
        if row.state is None:
            self._followers[stream] = _Follower(stream, seq, send, client, row.attempt, len(row.text))
            self._by_task.setdefault(seq, set()).add(stream)
        return StreamState(
            stream=stream,
            task=task_id(seq),
            attempt=row.attempt,
            offset=offset,
            text=row.text[offset:],
            ended=row.state is not None,
        )

    def knows(self, seq: int) -> bool:
        """Whether there is a text for this task; when not, it has not started, or its end is long past."""
        return seq in self._texts

    def unfollow(self, stream: str) -> None:
        follower = self._followers.pop(stream, None)
        if follower is not None:
            followers = self._by_task[follower.seq]
            followers.discard(stream)
            if not followers:
                del self._by_task[follower.seq]
        self._dirty.discard(stream)

    def leave(self, client: object) -> None:
        """A client is gone, and everything it followed."""
        for follower in [follower for follower in self._followers.values() if follower.client is client]:
            self.unfollow(follower.stream)

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _touch(self, seq: int) -> None:
        streams = self._by_task.get(seq)
        if streams:
            self._dirty |= streams
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(FLUSH_INTERVAL, self._flush)

    def _flush(self) -> None:
        self._timer = None
        for stream in list(self._dirty):
            follower = self._followers[stream]
            if self._send_news(follower):
                self._dirty.discard(stream)
                if self._texts[follower.seq].state is not None:
                    self.unfollow(stream)
        if self._dirty:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_INTERVAL, self._flush)

    def _send_news(self, follower: _Follower) -> bool:
        """Send what is new; whether the follower now has everything."""
        row = self._texts[follower.seq]
        if follower.attempt != row.attempt:
            follower.attempt, follower.offset = row.attempt, 0
        piece = row.text[follower.offset : follower.offset + MAX_CHUNK]
        whole = follower.offset + len(piece) == len(row.text)
        chunk = StreamChunk(
            stream=follower.stream,
            task=task_id(follower.seq),
            attempt=row.attempt,
            offset=follower.offset,
            text=piece,
            ended=whole and row.state is not None,
            state=row.state if whole else None,
        )
        if not follower.send(chunk):
            return False
        follower.offset += len(piece)
        return whole

    def _drop_old(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._ended:
            seq, until = next(iter(self._ended.items()))
            if until > now and len(self._ended) <= MAX_ENDED:
                return
            del self._ended[seq]
            if seq in self._by_task:
                self._ended[seq] = now + KEEP_ENDED  # someone still follows it
                return
            del self._texts[seq]
