"""What a piece of work takes from models: its calls counted, and each settled with the budget however it ends."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

from engine.contract.definitions import Cost
from engine.contract.errors import AiwmError
from engine.ports import Delta, GenerateRequest, Generation, Outcome


class Meter:
    """The calls of one attempt or chat turn, summed. `context` is how many tokens the last conversation had, its answer included;
    `adapters` are those really applied, `input_chars` what the first call was given, `prompt` what the model read last, `models` those
    that answered for a hybrid one."""

    def __init__(self) -> None:
        self.calls = 0
        self.tokens_in = 0
        self.tokens_out = 0
        self.context = 0
        self.input_chars = 0
        self.finish_reason: str | None = None
        self.prompt: str | None = None
        self.adapters: dict[str, None] = {}
        self.models: dict[str, None] = {}

    def asked(self, request: GenerateRequest) -> None:
        if not self.calls:
            self.input_chars = sum(len(message.content) for message in request.messages)
        self.calls += 1

    def ended(self, outcome: Outcome) -> None:
        """A call that came to its end."""
        self._count(outcome.tokens_in, outcome.tokens_out)
        self.finish_reason = outcome.reason
        self.prompt = outcome.prompt or None
        if outcome.route:
            self.models[outcome.route[-1].partition(": ")[0]] = None
        self.adapters.update(dict.fromkeys(adapter.name for adapter in outcome.adapters))

    def broke_off(self, tokens_in: int, tokens_out: int) -> None:
        """A call that failed, or whose reader left: what it read is an estimate, what it wrote is counted."""
        self._count(tokens_in, tokens_out)
        self.finish_reason = "error"

    def _count(self, tokens_in: int, tokens_out: int) -> None:
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        self.context = tokens_in + tokens_out

    def cost_usd(self, cost: Cost) -> float:
        return cost_usd(cost, self.tokens_in, self.tokens_out)


def cost_usd(cost: Cost, tokens_in: int, tokens_out: int) -> float:
    """What tokens cost, in US dollars."""
    return (tokens_in * cost.input_usd_per_1k + tokens_out * cost.output_usd_per_1k) / 1000


STUCK_S, NEVER_BEGAN_S = 60.0, 300.0
"""A call whose model has said nothing for so long is stuck: between two tokens, and before the first one, when a long prompt is read."""


class Pulse:
    """When a model last gave something to who waits for it. `now_s` is a clock that only goes forward."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._since_s: float | None = None
        self._began = False

    def opened(self) -> None:
        self._since_s, self._began = self._now_s(), False

    def beat(self) -> None:
        self._since_s, self._began = self._now_s(), True

    def closed(self) -> None:
        self._since_s = None

    def stuck(self) -> str:
        """In words how long nothing has come, if that is too long; "" while no call is open or one is answered."""
        silent_s = 0.0 if self._since_s is None else self._now_s() - self._since_s
        if silent_s < (STUCK_S if self._began else NEVER_BEGAN_S):
            return ""
        long = f"{int(silent_s) // 60}m{int(silent_s) % 60:02d}s"
        return f"no token for {long}" if self._began else f"no first token after {long}"


Settle = Callable[[Outcome | None, tuple[int | None, int]], None]


class MeteredGeneration:
    """A generation (`ports.Generation`) that is settled once, when it ends, fails, or is given up. `settle` is told the outcome, or
    None and what it took: how many tokens it had read (None: nobody knows), and written."""

    def __init__(self, generation: Generation, settle: Settle, pulse: Pulse | None = None) -> None:
        self._generation = generation
        self._settle: Settle | None = settle
        self._pulse = pulse or Pulse()
        self._written = 0

    async def __aiter__(self) -> AsyncIterator[Delta]:
        ended = False
        self._pulse.opened()
        try:
            async for delta in self._generation:
                self._pulse.beat()
                self._written += delta.tokens
                yield delta
            ended = True
        except AiwmError as error:
            self._end(None, error.spent)
            raise
        finally:
            self._end(self._generation.outcome if ended else None)

    @property
    def outcome(self) -> Outcome:
        return self._generation.outcome

    async def cancel(self) -> None:
        await self._generation.cancel()

    async def close(self) -> None:
        """Whoever asked for it is done: stop it if it still runs, and settle it."""
        if self._settle is not None:
            await self._generation.cancel()
            self._end(None)

    def _end(self, outcome: Outcome | None, spent: tuple[int, int] | None = None) -> None:
        self._pulse.closed()
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(outcome, spent or (None, self._written))
