"""Streamed text: every follower gets all of it, in order, however slowly it reads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from engine.contract.ids import task_id
from engine.contract.notifications import StreamChunk
from engine.inference import streams as module
from engine.inference.streams import Streams
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_INTERVAL", 0.001)


class Reader:
    """Assembles chunks as a client does, and refuses some."""

    def __init__(self, takes: Callable[[], bool] = lambda: True) -> None:
        self.takes = takes
        self.attempt, self.text, self.chunks = 0, "", 0
        self.final: StreamChunk | None = None

    def send(self, chunk: StreamChunk) -> bool:
        assert self.final is None, "a chunk after the end"
        if not self.takes():
            return False
        if chunk.attempt != self.attempt:
            assert chunk.offset == 0
            self.attempt, self.text = chunk.attempt, ""
        assert chunk.offset == len(self.text)
        self.text += chunk.text
        self.chunks += 1
        if chunk.ended:
            self.final = chunk
        return True


async def test_everyone_gets_everything_at_their_own_pace() -> None:
    chance = random.Random(1)
    streams = Streams()
    quick, slow = Reader(), Reader(lambda: chance.random() < 0.1)
    streams.open(7, 1)
    for reader in (quick, slow):
        state = streams.follow(7, 0, reader.send, reader)
        assert (state.task, state.attempt, state.text, state.ended) == (task_id(7), 1, "", False)
        reader.attempt = 1
    for number in range(200):
        streams.append(7, 1, f"{number} ")
        if number % 10 == 0:
            await asyncio.sleep(0.002)
    streams.end(7, 1, "completed")
    await until(lambda: quick.final is not None and slow.final is not None)
    expected = "".join(f"{number} " for number in range(200))
    assert quick.text == slow.text == expected
    assert slow.chunks < quick.chunks < 200
    assert quick.final is not None
    assert quick.final.state == "completed"


async def test_following_from_an_offset_and_after_the_end() -> None:
    streams = Streams()
    streams.open(1, 1)
    streams.append(1, 1, "hello world")
    reader = Reader()
    state = streams.follow(1, 6, reader.send, reader)
    assert (state.offset, state.text) == (6, "world")
    streams.append(1, 1, "!")
    streams.end(1, 1, "failed")
    reader.attempt, reader.text = 1, "hello world"
    await until(lambda: reader.final is not None)
    assert reader.text == "hello world!"
    late = streams.follow(1, 0, reader.send, reader)
    assert (late.text, late.ended) == ("hello world!", True)
    assert streams.follow(1, 999, reader.send, reader).offset == 12


async def test_a_new_attempt_starts_again_and_old_writers_are_ignored() -> None:
    streams, reader = Streams(), Reader()
    streams.follow(3, 0, reader.send, reader)  # before it has started
    streams.open(3, 1)
    streams.append(3, 1, "first")
    await until(lambda: reader.text == "first")
    streams.end(3, 1, "retrying")
    assert reader.final is None
    streams.open(3, 2)
    streams.append(3, 1, "zombie")
    streams.end(3, 1, "completed")
    streams.append(3, 2, "second")
    streams.end(3, 2, "completed")
    await until(lambda: reader.final is not None)
    assert (reader.attempt, reader.text) == (2, "second")


async def test_whoever_leaves_hears_no_more() -> None:
    streams, gone, stays = Streams(), Reader(), Reader()
    streams.open(1, 1)
    first = streams.follow(1, 0, gone.send, gone)
    streams.follow(1, 0, gone.send, gone)
    streams.follow(1, 0, stays.send, stays)
    gone.attempt = stays.attempt = 1
    streams.append(1, 1, "a")
    streams.unfollow(first.stream)
    streams.unfollow(first.stream)
    streams.leave(gone)
    await until(lambda: stays.text == "a")
    assert gone.chunks == 0


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams()
    for seq in range(1000):
        streams.open(seq, 1)
        streams.end(seq, 1, "completed")
    assert not any(streams.knows(seq) for seq in range(1000))  # tasks without text leave nothing behind
    monkeypatch.setattr(module, "MAX_ENDED", 10)
    for seq in range(100):
        streams.open(seq, 1)
        streams.append(seq, 1, "text")
        streams.end(seq, 1, "completed")
    assert [seq for seq in range(100) if streams.knows(seq)] == list(range(90, 100))
    monkeypatch.setattr(module, "KEEP_ENDED", -1.0)
    streams = Streams()
    streams.open(200, 1)
    streams.append(200, 1, "text")
    streams.end(200, 1, "retrying")
    assert not streams.knows(200)


async def test_long_text_goes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHUNK", 10)
    streams, reader = Streams(), Reader()
    streams.open(1, 1)
    streams.follow(1, 0, reader.send, reader)
    streams.append(1, 1, "x" * 95)
    streams.end(1, 1, "completed")
    reader.attempt = 1
    await until(lambda: reader.final is not None)
    assert (reader.text, reader.chunks) == ("x" * 95, 10)
