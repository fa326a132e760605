"""The budget: whoever calls a model has leave from here first, and says afterwards what the call took.

The scheduler decides (it knows the windows); this is its face for coroutines. A definition without limits costs one look into a table.
What a grant uses is on disk before the call is made, so that no restart gives it back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import msgspec

from engine.clock import Clock
from engine.contract.definitions import RateLimits
from engine.contract.errors import AiwmError, Code
from engine.contract.states import Durability
from engine.control.dispatcher import Dispatcher
from engine.ports import GenerateRequest, Reservation
from engine.scheduling.budget import DAY, DEFINITION
from engine.scheduling.decisions import DenyBudget, GrantBudget
from engine.scheduling.inputs import BudgetCancel, BudgetReserve, BudgetRestored, BudgetSettle
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers

KIND = "budget"
_LONGEST_S = 60.0
"""Nobody waits longer without another look: the wall clock may have been set meanwhile."""

Buckets = tuple[tuple[int, int, int], ...]


class Held(msgspec.Struct, frozen=True):
    """Why a call waits: until when (Unix ms) at the latest, for which window, in a sentence."""

    until_ms: int
    window: str
    reason: str


Waiting = Callable[[Held | None], None]
"""Told when a call begins to wait, when that becomes longer, and with None when it is over."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call that somebody wants to make. `task` and `attempt` name it; `tokens` is its estimate (`estimate`), `replica` whose slot is kept
    for it (None: it may go to any)."""

    task: str
    attempt: int
    definition: str
    model: str
    tokens: int
    replica: str | None = None


def prompt_tokens(request: GenerateRequest) -> int:
    """How many tokens a prompt has, roughly: four characters are about one, and every message has a frame. Tools are told with it."""
    told = sum(len(tool.description) + 20 * len(tool.parameters.get("properties", ())) for tool in request.tools)
    return sum(len(message.content) // 4 + 4 for message in request.messages) + told // 4


def estimate(request: GenerateRequest) -> int:
    """What a call may take in tokens: its prompt's estimate and its answer's bound."""
    return prompt_tokens(request) + request.sampling.max_tokens


class _Waits:
    """A call that waits: `asks` is set when it shall ask again before its time."""

    def __init__(self) -> None:
        self.asks = asyncio.Event()
        self.held: Held | None = None

    async def pause(self, seconds: float) -> None:
        """For that long, or until something changed."""
        try:
            async with asyncio.timeout(seconds):
                await self.asks.wait()
        except TimeoutError:
            pass
        self.asks.clear()


class Budget:
    """Grants, settles and remembers. `limits` are a definition's by name."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        journal: Journal,
        readers: Readers,
        clock: Clock,
        limits: Callable[[str], RateLimits],
    ) -> None:
        self._dispatcher = dispatcher
        self._journal = journal
        self._readers = readers
        self._clock = clock
        self._limits = limits
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[GrantBudget | DenyBudget]] = {}
        self._waits: dict[str, dict[int, _Waits]] = {}
        dispatcher.performs(GrantBudget, self._answered)
        dispatcher.performs(DenyBudget, self._answered)

    def restore(self) -> None:
        """Tell the scheduler what was used before this engine."""
        for document in self._readers.documents(KIND, limit=100_000):
            buckets = msgspec.json.decode(document.json, type=Buckets)
            self._dispatcher.feed(BudgetRestored(document.key, buckets))

    async def reserve(self, call: Call, waiting: Waiting) -> Reservation:
        """Leave for one call. Waits while a window is full; raises `rate_limited` for a call that no empty window would hold."""
        limits = self._limits(call.definition)
        if not (limits.requests_per_minute or limits.tokens_per_minute or limits.tokens_per_day):
            return _reservation(call, 0)
        grant = next(self._numbers)
        await self._granted(grant, call, waiting)
        reservation = _reservation(call, grant)
        try:
            await self._store(call.definition)
        except BaseException:
            self.release(reservation)
            raise
        return reservation

    def settle(self, reservation: Reservation, tokens: int) -> None:
        """The call is over and took so many tokens, in and out."""
        if reservation.grant:
            self._dispatcher.feed(BudgetSettle(reservation.grant, tokens))
            self._changed(reservation.definition)

    def release(self, reservation: Reservation) -> None:
        """The call was not made."""
        if reservation.grant:
            self._dispatcher.feed(BudgetCancel(reservation.grant))
            self._changed(reservation.definition)

    def look(self) -> None:
        """Limits or clocks have changed: let everyone who waits ask again."""
        for waits in self._waits.values():
            for one in waits.values():
                one.asks.set()

    def held(self, definition: str) -> tuple[int, Held | None]:
        """How many calls of a definition wait, and what the first of them waits for."""
        waits = self._waits.get(definition, {})
        return len(waits), next((one.held for one in waits.values()), None)

    async def _granted(self, grant: int, call: Call, waiting: Waiting) -> None:
        """Ask until it is granted. The scheduler keeps the order of those that were denied."""
        answer = await self._ask(grant, call)
        if isinstance(answer, GrantBudget):
            return
        line = self._waits.setdefault(call.definition, {})
        mine = line[grant] = _Waits()
        try:
            while isinstance(answer, DenyBudget):
                if answer.until_ms is None:
                    raise _never(answer)
                mine.held = Held(answer.until_ms, answer.window, answer.reason)
                waiting(mine.held)
                if answer.window == DAY:
                    # It waits for tomorrow; who stands behind it may need a window that is open.
                    self._next(call.definition, grant)
                left_s = (answer.until_ms - self._clock.wall_ms()) / 1000
                await mine.pause(min(max(left_s, 0.001), _LONGEST_S))
                answer = await self._ask(grant, call)
        except BaseException:
            self._dispatcher.feed(BudgetCancel(grant))
            raise
        finally:
            self._next(call.definition, grant)
            del line[grant]
            waiting(None)

    def _next(self, definition: str, grant: int) -> None:
        """Let the one behind a call ask."""
        behind = False
        for other, one in self._waits.get(definition, {}).items():
            if behind:
                one.asks.set()
                return
            behind = other == grant

    async def _ask(self, grant: int, call: Call) -> GrantBudget | DenyBudget:
        answer: asyncio.Future[GrantBudget | DenyBudget] = asyncio.get_running_loop().create_future()
        self._asked[grant] = answer
        self._dispatcher.feed(BudgetReserve(grant, call.definition, call.tokens))
        try:
            return await answer
        except asyncio.CancelledError:
            self._dispatcher.feed(BudgetCancel(grant))
            raise
        finally:
            del self._asked[grant]

    def _answered(self, decision: GrantBudget | DenyBudget) -> None:
        answer = self._asked.get(decision.id)
        if answer is not None and not answer.done():
            answer.set_result(decision)
        elif isinstance(decision, GrantBudget):
            self._dispatcher.feed(BudgetCancel(decision.id))

    def _changed(self, definition: str) -> None:
        self._store(definition)
        first = next(iter(self._waits.get(definition, {}).values()), None)
        if first is not None:
            first.asks.set()

    def _store(self, definition: str) -> asyncio.Future[ops.Receipt]:
        """Write what is used. It survives the engine; the machine's power is not worth a sync before every call."""
        buckets = self._dispatcher.budget_buckets(definition)
        put = ops.PutDocument(KIND, definition, "", self._clock.wall_ms(), msgspec.json.encode(buckets))
        return self._journal.write((put,), Durability.os)


def _never(answer: DenyBudget) -> AiwmError:
    if answer.window == DEFINITION:
        return AiwmError(Code.not_active, answer.reason, field="definition", fix="aiwm worker list")
    fix = "ask for fewer tokens (max_tokens), or raise the definition's limits"
    return AiwmError(Code.rate_limited, answer.reason, field=answer.window, fix=fix)


def _reservation(call: Call, grant: int) -> Reservation:
    return Reservation(
        task=call.task,
        attempt=call.attempt,
        definition=call.definition,
        model=call.model,
        grant=grant,
        tokens=call.tokens,
        replica=call.replica,
    )
