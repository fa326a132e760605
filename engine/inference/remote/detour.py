"""One call of a hybrid model: its stops, tried one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.inference.pouring import Pouring
from engine.inference.remote.refusals import clean
from engine.inference.served import Served
from engine.ports import Delta, GenerateRequest, Generation, Outcome, Reservation

_ITS_OWN = frozenset({Code.bad_request, Code.payload_invalid, Code.deadline_passed, Code.task_cancelled, Code.internal})
"""Failures that another model would not help."""

replace = msgspec.structs.replace


class No(msgspec.Struct, frozen=True):
    """Why a model is not asked now; `busy`: it could be waited for."""

    why: str
    busy: bool = False


class Stop(msgspec.Struct, frozen=True):
    """A model of the route: what serves it (or why nothing does), whether that is this machine, how long its first word is waited for
    (s; None: as long as it takes), and a look at whether it is to be asked now."""

    name: str
    member: Served | AiwmError
    local: bool
    wait: float | None
    look: Callable[[], No | None]


class _Slow(Exception):
    """Nothing was said in time."""


class HybridGeneration(Pouring):
    """`ports.Generation` over a route. `detour` is told the route when the first stop did not answer; `ended` when it is over."""

    def __init__(
        self,
        request: GenerateRequest,
        reservation: Reservation,
        stops: Sequence[Stop],
        *,
        held: Callable[[str, tuple[str, ...]], AbstractContextManager[str | None]],
        detour: Callable[[tuple[str, ...]], None],
        ended: Callable[[], None],
    ) -> None:
        super().__init__()
        self._request = request
        self._reservation = reservation
        self._stops = stops
        self._held = held
        self._detour = detour
        self._told_end = ended
        self._tried: list[str] = []
        self._spent = (0, 0)
        self._parts: list[str] = []
        self._written = 0
        self._current: Generation | None = None
        self._task = self._loop.create_task(self._run())

    async def cancel(self) -> None:
        """Stop whichever model is being asked."""
        if self.ended:
            return
        current = self._current
        self._task.cancel()
        # First of all: whoever reads must hear its end, however the model takes the news.
        self._end(self._own_outcome("cancelled"))
        if current is not None:
            await current.cancel()

    # -- the route -----------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            outcome = await self._answer()
        except AiwmError as error:
            spent = error.spent or (0, self._written)
            error.spent = (spent[0] + self._spent[0], spent[1] + self._spent[1])
            self._end(error)
        else:
            self._end(outcome)

    async def _answer(self) -> Outcome:
        stops, busy = deque(self._stops), list[Stop]()
        while True:
            stop = stops.popleft()
            last = not stops
            no = stop.look() if not last else None
            if no is not None:
                self._on(stop, no.why)
                busy += [stop] if no.busy else []
                continue
            try:
                outcome = await self._ask(stop, None if last else stop.wait)
            except _Slow:
                self._on(stop, f"said nothing for {stop.wait:g} s")
                busy.append(stop)
            except AiwmError as error:
                if last and busy:
                    # Nobody else can: so the first that only had too much to do is waited for.
                    stops.append(busy.pop(0))
                if not stops or self._first is not None or error.code in _ITS_OWN:
                    raise self._failed(stop, error) from None
                spent = error.spent or (0, 0)
                self._spent = (self._spent[0] + spent[0], self._spent[1] + spent[1])
                self._on(stop, f"{error.code}: {error.info.message}")
            else:
                return self._answered(stop, outcome)

    async def _ask(self, stop: Stop, wait: float | None) -> Outcome:
        """Ask one model, and pass on what it says. Raises _Slow, AiwmError."""
        if isinstance(stop.member, AiwmError):
            raise stop.member
        names = tuple(use.name for use in self._request.adapters)
        with self._held(stop.name, names) as replica:
            reservation = replace(self._reservation, model=stop.name, replica=replica)
            limit = asyncio.timeout(wait)
            try:
                async with limit:
                    generation = self._current = await stop.member.generate(self._left(), reservation)
                    async for delta in generation:
                        if delta.text:
                            limit.reschedule(None)
                        self._say(delta)
            except TimeoutError:
                if self._current is not None:
                    await self._current.cancel()
                raise _Slow from None
            finally:
                self._current = None
        return generation.outcome

    def _left(self) -> GenerateRequest:
        """The request with the time that is left to it."""
        deadline = self._request.deadline_ms
        if deadline is None:
            return self._request
        left = deadline - int((self._loop.time() - self._asked) * 1000)
        if left <= 0:
            raise AiwmError(Code.deadline_passed, "the deadline passed on the way from one model to the next")
        return replace(self._request, deadline_ms=left)

    def _on(self, stop: Stop, why: str) -> None:
        self._tried.append(f"{stop.name}: {clean(why, most=160)}")

    def _say(self, delta: Delta) -> None:
        self._parts.append(delta.text)
        self._written += delta.tokens
        self._pour(delta)

    def _answered(self, stop: Stop, outcome: Outcome) -> Outcome:
        route = (*self._tried, f"{stop.name}: answered")
        if self._tried:
            self._detour(route)
        first_ms, total_ms = self._times()
        return replace(
            outcome,
            route=route,
            process=outcome.process or stop.name,
            tokens_in=outcome.tokens_in + self._spent[0],
            tokens_out=outcome.tokens_out + self._spent[1],
            first_token_ms=first_ms,
            total_ms=total_ms,
        )

    def _failed(self, stop: Stop, error: AiwmError) -> AiwmError:
        """The error of the stop that ends the route, with what was tried before."""
        if not self._tried:
            return error
        self._on(stop, error.code)
        info = error.info
        message = f"{info.message} (tried before: {'; '.join(self._tried[:-1])})"[:800]
        found = AiwmError.of(replace(info, message=message))
        found.spent = error.spent
        return found

    def _own_outcome(self, reason: str) -> Outcome:
        """The end of a call that was given up."""
        first_ms, total_ms = self._times()
        return Outcome(
            reason=reason,
            text="".join(self._parts),
            tokens_in=self._spent[0],
            tokens_out=self._written + self._spent[1],
            first_token_ms=first_ms,
            total_ms=total_ms,
            route=tuple(self._tried),
        )

    def _end(self, end: Outcome | AiwmError) -> bool:
        ends = super()._end(end)
        if ends:
            self._told_end()
        return ends
