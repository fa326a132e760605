"""One call of a remote model as the rooms above see it: a task of the engine's that reads the answer, and an iteration over its text."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.inference.pouring import Pouring
from engine.inference.remote.answer import Answer, Malformed, ServerError
from engine.inference.remote.connection import Broken, Connection, Reply, Unreachable
from engine.inference.remote.promises import check
from engine.inference.remote.refusals import MAX_BODY, Server, clean, cut, failed, refused, retry_after_ms, unreachable
from engine.inference.remote.sse import Event, SseReader, TooLong
from engine.ports import AdapterUsed, Delta, GenerateRequest, Outcome
from engine.secret import Secret

_log = logging.getLogger(__name__)

_DRAIN_S = 0.5
"""How long the end of a finished answer's body is waited for: read whole, its connection serves the next call."""


class Reader(Protocol):
    """A protocol's events, read one after the other into `answer`."""

    answer: Answer

    def read(self, event: Event) -> str:
        """The text that an event adds. Raises Malformed, ServerError."""

    def finish(self) -> str:
        """The text that only the end brings. Raises Malformed for an answer that has not ended."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent, to whom, and for how long at most (None: no limit). `secret` is what must not show."""

    server: Server
    request: GenerateRequest
    headers: dict[str, str]
    body: bytes
    secret: Secret | None
    adapters: tuple[AdapterUsed, ...]
    deadline_ms: int | None


class End(msgspec.Struct, frozen=True):
    """How a call went: what was wrong, if anything was; the time to the first text in ms (0: there was none); whether the server had begun
    to answer at all."""

    error: AiwmError | None
    first_ms: float
    heard: bool


class RemoteGeneration(Pouring):
    """`ports.Generation` over one POST. `turn` is awaited before anything is sent; `ended` is told how it went.
    `wall_ms` and `most_wait_ms` are for what a server asks in dates."""

    def __init__(
        self,
        call: Call,
        reader: Reader,
        connection: Connection,
        *,
        turn: Callable[[], Awaitable[None]],
        counted: Callable[[int], None],
        ended: Callable[[End], None],
        wall_ms: Callable[[], int],
        most_wait_ms: int,
    ) -> None:
        super().__init__()
        self._call = call
        self._reader = reader
        self._connection = connection
        self._turn = turn
        self._counted = counted
        self._told_end = ended
        self._wall_ms = wall_ms
        self._most_wait_ms = most_wait_ms
        self._begun = False
        self._task = self._loop.create_task(self._run())

    async def over(self) -> None:
        """Wait until it is over and its connection given back."""
        await asyncio.wait([self._task])

    async def cancel(self) -> None:
        """Close the connection: a server that notices stops making tokens."""
        self._finish("cancelled")
        self._task.cancel()

    # -- the call ------------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        deadline = self._call.deadline_ms
        try:
            async with asyncio.timeout(None if deadline is None else deadline / 1000):
                await self._turn()
                await self._exchange()
        except TimeoutError:
            self._finish("deadline")
        except AiwmError as error:
            self._fail(error)
        except Exception as error:
            # Its text could hold anything that was sent: only its kind is told.
            _log.error("a call of %s failed: %s", self._call.server.model, type(error).__name__)
            self._fail(
                AiwmError(Code.internal, f"{self._call.server.model}: {type(error).__name__} while it was called")
            )

    async def _exchange(self) -> None:
        call = self._call
        try:
            async with self._connection.post(call.headers, call.body) as reply:
                if reply.status != 200:
                    raise await self._refusal(reply)
                self._check_type(reply)
                self._begun = True
                await self._stream(reply)
        except Unreachable as error:
            raise unreachable(call.server, str(error)) from None
        except (Broken, Malformed) as error:
            raise cut(call.server, _sentence(error)) from None
        except TooLong:
            raise cut(call.server, "sent an event larger than 4 MiB") from None
        except ServerError as error:
            raise failed(call.server, error.error, call.secret) from None

    async def _stream(self, reply: Reply) -> None:
        events, reader = SseReader(), self._reader
        try:
            async for piece in reply.pieces:
                for event in events.feed(piece) if self._outcome is None else ():
                    self._say(reader.read(event))
                    if reader.answer.ended:
                        self._complete()
                        # The rest of the body is nothing; read, the connection can be used again.
                        self._loop.call_later(_DRAIN_S, self._task.cancel)
                        break
        except Broken:
            if not reader.answer.reason:
                raise
        if self._outcome is None:
            self._complete()

    def _complete(self) -> None:
        """The answer is whole. Raises AiwmError for one that is not what was asked for."""
        reader, call = self._reader, self._call
        self._say(reader.finish())
        answer = reader.answer
        if answer.withheld:
            raise AiwmError(
                Code.remote_failed,
                f"{call.server.model}: {call.server.host} withheld its answer: {clean(answer.withheld)}",
                field="prompt",
                fix="see what its provider does not answer",
            )
        if call.request.schema is not None and answer.reason == "stop":
            check(call.server, call.request.schema, answer.text)
        self._finish(answer.reason)

    async def _refusal(self, reply: Reply) -> AiwmError:
        call = self._call
        if 300 <= reply.status < 400:
            return AiwmError(
                Code.remote_failed,
                f"{call.server.model}: {call.server.host} answered {reply.status} and points to"
                f" {clean(reply.headers.get('location', 'nowhere'), call.secret, 100)!a}; redirects are not followed",
                field="url",
                fix="give the address that it points to, if it is the right one",
            )
        body = bytearray()
        try:
            async for piece in reply.pieces:
                body += piece
                if len(body) >= MAX_BODY:
                    break
        except Broken:
            pass  # its status says enough
        wait_ms = retry_after_ms(reply.headers, self._wall_ms(), self._most_wait_ms)
        return refused(call.server, reply.status, bytes(body[:MAX_BODY]), wait_ms, call.secret)

    def _check_type(self, reply: Reply) -> None:
        kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "text/event-stream":
            raise Malformed(f"answered {clean(kind, self._call.secret, 60) or 'something'!a}, not an event stream")

    # -- what came of it -----------------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        if text:
            tokens = tokens_of(text)
            self._counted(tokens)
            self._pour(Delta(text, tokens))

    def _finish(self, reason: str) -> None:
        if self.ended:
            return
        tokens_in, tokens_out = self._spent()
        answer, (first_ms, total_ms) = self._reader.answer, self._times()
        self._end(
            Outcome(
                reason=reason,
                text=answer.text,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                first_token_ms=first_ms,
                total_ms=total_ms,
                adapters=self._call.adapters,
                tool_calls=answer.tool_calls() if reason == "tool_calls" else (),
                process=self._call.server.model,
                cached=answer.usage.cached if answer.usage is not None else 0,
            )
        )

    def _fail(self, error: AiwmError) -> None:
        error.spent = self._spent()
        self._end(error)

    def _end(self, end: Outcome | AiwmError) -> bool:
        if not super()._end(end):
            return False
        took = 0.0 if self._first is None else self._times()[0]
        self._told_end(End(end if isinstance(end, AiwmError) else None, took, self._begun))
        return True

    def _spent(self) -> tuple[int, int]:
        """Tokens in and out: as the server counted them, or about four characters each. Nothing before it began to answer."""
        if not self._begun:
            return 0, 0
        usage, answer = self._reader.answer.usage, self._reader.answer
        request = self._call.request
        read = sum(tokens_of(message.content) + 4 for message in request.messages)
        if usage is None:
            return read, tokens_of("", answer.length)
        return usage.tokens_in or read, usage.tokens_out or tokens_of("", answer.length)


def tokens_of(text: str, more: int = 0) -> int:
    """How many tokens a text (and `more` characters) has, roughly: four characters are about one."""
    length = len(text) + more
    return max(1, length // 4) if length else 0


def _sentence(error: Exception) -> str:
    """`Broken` says what the server did; `Malformed` what was wrong with what it said."""
    return str(error) if isinstance(error, Broken) else f"does not speak its protocol: {error}"
