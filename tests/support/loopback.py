"""A server on this machine that speaks OpenAI's and Anthropic's protocols as they are documented, and every way in which they go wrong."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """What the server does with one request.

    It says `say` word by word, then makes `calls` (id, name, arguments as text), then ends for `reason` with `usage` (in, out, cached;
    None: it does not count). A `status` other than 200 is answered with `body`. `hold` is after how many events it waits until it is
    released or its caller is gone (0: before the first byte, -1: never), `cut` after how many it closes the connection, `spoil` what it
    sends instead of the first event. Events are sent in pieces of `piece` bytes (0: whole). `tail` follows the last event."""

    say: str = "it is four"
    calls: tuple[tuple[str, str, str], ...] = ()
    reason: str = ""
    usage: tuple[int, int, int] | None = (11, 3, 0)
    status: int = 200
    headers: dict[str, str] = {}
    body: bytes = b""
    kind: str = "text/event-stream"
    hold: int = -1
    cut: int = -1
    spoil: bytes = b""
    piece: int = 0
    done: bool = True


class Asked(msgspec.Struct, frozen=True):
    """A request as it came. Header names are lower case."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Loopback:
    """The server, on a thread of its own. It does the `plays` in their order, and then says `usual` to whoever comes."""

    def __init__(self) -> None:
        self.plays: deque[Play] = deque()
        self.usual = Play()
        self.asked: list[Asked] = []
        self.running = 0
        self.most = 0
        self.left = 0
        """Callers that went away before their answer was whole."""
        self.connections = 0
        self.knocked = 0
        """Requests that asked for nothing."""
        self._loop = asyncio.new_event_loop()
        self._go = asyncio.Event()
        self._open = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = 0

    @property
    def url(self) -> str:
        """Where the OpenAI protocol is spoken; Anthropic's is at the same place."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        assert self._open.wait(10)

    def release(self) -> None:
        """Let the held go on, and hold nobody until somebody is held again."""

        def go() -> None:
            self._go.set()
            self._go = asyncio.Event()

        self._loop.call_soon_threadsafe(go)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connection, "127.0.0.1", self.port))
        self.port = server.sockets[0].getsockname()[1]
        self._open.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; False when the connection is over."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        if not head[0].startswith("POST "):
            self.knocked += 1
            writer.write(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            return True
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.asked.append(Asked(head[0].split()[1], headers, body))
        play = self.plays.popleft() if self.plays else self.usual
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._answer(play, self.asked[-1], reader, writer)
        except ConnectionError:
            self.left += 1
            raise
        finally:
            self.running -= 1

    async def _answer(
        self, play: Play, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if play.hold == 0 and not await self._held(reader):
            return False
        more = "".join(f"{name}: {value}\r\n" for name, value in play.headers.items())
        if play.status != 200 or play.body:
            kind = play.kind if play.status == 200 else "application/json"
            writer.write(
                f"HTTP/1.1 {play.status} So\r\ncontent-type: {kind}\r\n{more}content-length: {len(play.body)}\r\n\r\n".encode()
                + play.body
            )
            await writer.drain()
            return True
        writer.write(
            f"HTTP/1.1 200 OK\r\ncontent-type: {play.kind}\r\n{more}transfer-encoding: chunked\r\n\r\n".encode()
        )
        events = anthropic(play) if asked.path.endswith("/messages") else openai(play)
        if play.spoil:
            events = [play.spoil, *events[1:]]
        for number, event in enumerate(events):
            if number == play.cut:
                await writer.drain()
                return False
            if number == play.hold and number and not await self._held(reader):
                return False
            for start in range(0, len(event), play.piece or len(event)):
                piece = event[start : start + (play.piece or len(event))]
                writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _held(self, reader: asyncio.StreamReader) -> bool:
        """Wait until released; False when the caller is gone."""
        go, gone = asyncio.ensure_future(self._go.wait()), asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([go, gone], return_when=asyncio.FIRST_COMPLETED)
            if not go.done():
                self.left += 1
            return go.done()
        finally:
            go.cancel()
            gone.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await gone


@contextmanager
def loopback() -> Iterator[Loopback]:
    """A server that is gone when the test is."""
    server = Loopback()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def openai(play: Play) -> list[bytes]:
    """An answer's events (platform.openai.com/docs/api-reference/chat-streaming)."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "far-1"}

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + json.dumps({**head, "choices": [choice], **more}).encode() + b"\n\n"

    events = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({"content": word}) for word in _words(play.say)]
    for index, (id_, name, arguments) in enumerate(play.calls):
        function = {"name": name, "arguments": ""}
        events.append(chunk({"tool_calls": [{"index": index, "id": id_, "type": "function", "function": function}]}))
        events += [
            chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]}) for part in _halves(arguments)
        ]
    events.append(chunk({}, play.reason or ("tool_calls" if play.calls else "stop")))
    if play.usage is not None:
        read, written, cached = play.usage
        usage = {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        events.append(b"data: " + json.dumps({**head, "choices": [], "usage": usage}).encode() + b"\n\n")
    return [*events, b"data: [DONE]\n\n"] if play.done else events


def anthropic(play: Play) -> list[bytes]:
    """An answer's events (docs.anthropic.com/en/api/messages-streaming)."""
    read, written, cached = play.usage or (0, 0, 0)

    def event(kind: str, **fields: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()

    usage = {"input_tokens": read - cached, "cache_read_input_tokens": cached, "output_tokens": 1 if play.usage else 0}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "far-1", "usage": usage}
    events = [event("message_start", message=message), event("ping")]
    if play.say:
        events.append(event("content_block_start", index=0, content_block={"type": "text", "text": ""}))
        events += [
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
            for word in _words(play.say)
        ]
        events.append(event("content_block_stop", index=0))
    for index, (id_, name, arguments) in enumerate(play.calls, start=1):
        block = {"type": "tool_use", "id": id_, "name": name, "input": {}}
        events.append(event("content_block_start", index=index, content_block=block))
        events += [
            event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": part})
            for part in ("", *_halves(arguments))
        ]
        events.append(event("content_block_stop", index=index))
    reason = play.reason or ("tool_use" if play.calls else "end_turn")
    delta = {"stop_reason": reason, "stop_sequence": None}
    events.append(event("message_delta", delta=delta, usage={"output_tokens": written}))
    return [*events, event("message_stop")] if play.done else events


def _words(text: str) -> list[str]:
    """The text in pieces that together are the text."""
    return [f"{word} " for word in text.split(" ")[:-1]] + text.split(" ")[-1:] if text else []


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]
