"""One generation as the rooms above see it: an iteration over text, then an outcome."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.inference import protocol
from engine.inference.line import Moved
from engine.ports import AdapterUsed, Delta, GenerateRequest, Outcome

if TYPE_CHECKING:
    from engine.inference.supervisor import ModelProcess

Place = Callable[[], Awaitable["ModelProcess"]]
"""Gives the process that the request is to go to, brought up; asked again when that one takes no requests any more."""

_numbers = itertools.count(1)


class LocalGeneration:
    """A generation in a model process (`ports.Generation`); it is the request's sink there.

    If the process crashes before any text has come, the request is made once more in the restarted process. After that, or
    when text has been shown, the iteration raises `model_crashed`, which is retryable."""

    def __init__(
        self, place: Place, request: GenerateRequest, adapters: tuple[protocol.AdapterFile, ...], name: str
    ) -> None:
        self._place = place
        self._process: ModelProcess | None = None
        self._request = request
        self._adapters = adapters
        self._name = name
        self._id = ""
        self._prompt = ""
        self._loop = asyncio.get_running_loop()
        self._asked = self._loop.time()
        self._deltas: list[protocol.DeltaNote] = []
        self._parts: list[str] = []
        self._wake = asyncio.Event()
        self._first: float | None = None
        self._again = True
        self._cancelled = False
        self._retrying: asyncio.Task[None] | None = None
        self._error: AiwmError | None = None
        self._outcome: Outcome | None = None

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

    async def __aiter__(self) -> AsyncIterator[Delta]:
        try:
            while True:
                while self._deltas:
                    notes, self._deltas = self._deltas, []
                    yield Delta("".join(note.text for note in notes), sum(note.tokens for note in notes))
                if self._error is not None:
                    raise self._error
                if self._outcome is not None:
                    return
                self._wake.clear()
                await self._wake.wait()
        finally:
            if self._error is None and self._outcome is None:  # whoever reads was cancelled or lost interest
                self._abandon()

    @property
    def outcome(self) -> Outcome:
        if self._outcome is None:
            raise RuntimeError("a generation has no outcome before its iteration has ended")
        # A short answer's end may be heard before what the process said to the request is handled.
        return msgspec.structs.replace(self._outcome, prompt=self._prompt)

    async def cancel(self) -> None:
        self._cancelled = True
        if self._retrying is not None:
            self._retrying.cancel()
            self._finish("cancelled", 0, 0, ())
        elif self._outcome is None and self._error is None and self._process is not None:
            await self._process.cancel(self._id)

    def _abandon(self) -> None:
        if self._retrying is not None:
            self._retrying.cancel()
        if self._process is not None:
            self._process.forget(self._id)

    # -- supervisor.Sink -------------------------------------------------------------------------------------------------------

    def delta(self, note: protocol.DeltaNote) -> None:
        if self._first is None and note.text:
            self._first = self._loop.time()
        self._parts.append(note.text)
        self._deltas.append(note)
        self._wake.set()

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
            self._fail(error)

    async def _retry(self) -> None:
        try:
            await self._hand_over()
        except AiwmError as error:
            self._fail(error)
        finally:
            self._retrying = None

    def _fail(self, error: AiwmError) -> None:
        self._error = error
        self._wake.set()

    def _finish(
        self, reason: str, tokens_in: int, tokens_out: int, adapters: tuple[AdapterUsed, ...], cached: int = 0
    ) -> None:
        now = self._loop.time()
        self._outcome = Outcome(
            reason=reason,
            text="".join(self._parts),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            first_token_ms=((self._first or now) - self._asked) * 1000,
            total_ms=(now - self._asked) * 1000,
            adapters=adapters,
            process=self._process.id if self._process is not None else "",
            cached=cached,
        )
        self._wake.set()
