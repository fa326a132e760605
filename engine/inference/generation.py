"""One generation as the rooms above see it: an iteration over text, then an outcome."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.inference import protocol
from engine.inference.line import Moved
from engine.inference.pouring import Pouring
from engine.ports import AdapterUsed, Delta, GenerateRequest, Outcome

if TYPE_CHECKING:
    from engine.inference.supervisor import ModelProcess

Place = Callable[[], Awaitable["ModelProcess"]]
"""Gives the process that the request is to go to, brought up; asked again when that one takes no requests any more."""

_numbers = itertools.count(1)


class LocalGeneration(Pouring):
    """A generation in a model process (`ports.Generation`); it is the request's sink there.

    If the process crashes before any text has come, the request is made once more in the restarted process. After that, or
    when text has been shown, the iteration raises `model_crashed`, which is retryable."""

    def __init__(
        self, place: Place, request: GenerateRequest, adapters: tuple[protocol.AdapterFile, ...], name: str
    ) -> None:
        super().__init__()
        self._place = place
        self._process: ModelProcess | None = None
        self._request = request
        self._adapters = adapters
        self._name = name
        self._id = ""
        self._prompt = ""
        self._parts: list[str] = []
        self._again = True
        self._cancelled = False
        self._retrying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Wait for the process, hand the request over. Raises AiwmError."""
        try:
            await self._hand_over()
        except AiwmError as error:
            if error.code != Code.model_crashed or not self._again:
                raise
            self._again = False
            await self._hand_over()

    async def _hand_over(self) -> None:
        while True:
            process = await self._place()
            self._process = process
            try:
                async with asyncio.timeout(self._seconds_left()):
                    self._prompt = (await process.generate(self._asking, self)).prompt
            except Moved:
                continue
            except TimeoutError:
                raise AiwmError(Code.deadline_passed, "the deadline passed while others were before it") from None
            return

    def _seconds_left(self) -> float | None:
        left = self._time_left()
        return None if left is None else left / 1000

    def _asking(self) -> protocol.Generate:
        self._id = f"{self._name}#{next(_numbers)}"
        sampling = self._request.sampling
        return protocol.Generate(
            id=self._id,
            prompt=self._request.prompt or None,
            messages=None if self._request.prompt else self._turns(),
            adapters=self._adapters,
            sampling=protocol.Draw(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=sampling.seed,
                max_tokens=sampling.max_tokens,
                stop=sampling.stop,
            ),
            deadline_ms=self._time_left(),
            tools=tuple({"type": "function", "function": msgspec.to_builtins(tool)} for tool in self._request.tools),
            schema=self._request.schema,
            call_tools=self._request.call_tools,
        )

    def _turns(self) -> tuple[protocol.Turn, ...]:
        return tuple(protocol.Turn(message.role, message.content) for message in self._request.messages)

    def _time_left(self) -> int | None:
        deadline = self._request.deadline_ms
        if deadline is None:
            return None
        left = deadline - int((self._loop.time() - self._asked) * 1000)
        if left <= 0:
            raise AiwmError(Code.deadline_passed, "the deadline passed before the model was ready")
        return left

    # -- ports.Generation ----------------------------------------------------------------------------------------------------

    @property
    def outcome(self) -> Outcome:
        # A short answer's end may be heard before what the process said to the request is handled.
        return msgspec.structs.replace(super().outcome, prompt=self._prompt)

    async def cancel(self) -> None:
        self._cancelled = True
        if self._retrying is not None:
            self._retrying.cancel()
            self._finish("cancelled", 0, 0, ())
        elif not self.ended and self._process is not None:
            await self._process.cancel(self._id)

    async def _abandon(self) -> None:
        if self._retrying is not None:
            self._retrying.cancel()
        if self._process is not None:
            self._process.forget(self._id)

    # -- supervisor.Sink -------------------------------------------------------------------------------------------------------

    def delta(self, note: protocol.DeltaNote) -> None:
        self._parts.append(note.text)
        self._pour(Delta(note.text, note.tokens))

    def done(self, note: protocol.DoneNote) -> None:
        adapters = tuple(AdapterUsed(name=a.name, digest=a.digest, weight=a.weight) for a in note.adapters)
        self._finish(note.reason, note.tokens_in, note.tokens_out, adapters, note.cached)

    def failed(self, error: AiwmError) -> None:
        if self._cancelled:
            self._finish("cancelled", 0, 0, ())
        elif error.code == Code.model_crashed and self._again and self._first is None:
            self._again = False
            self._retrying = self._loop.create_task(self._retry())
        else:
            self._end(error)

    async def _retry(self) -> None:
        try:
            await self._hand_over()
        except AiwmError as error:
            self._end(error)
        finally:
            self._retrying = None

    def _finish(
        self, reason: str, tokens_in: int, tokens_out: int, adapters: tuple[AdapterUsed, ...], cached: int = 0
    ) -> None:
        first_ms, total_ms = self._times()
        outcome = Outcome(
            reason=reason,
            text="".join(self._parts),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            first_token_ms=first_ms,
            total_ms=total_ms,
            adapters=adapters,
            process=self._process.id if self._process is not None else "",
            cached=cached,
        )
        self._end(outcome)
