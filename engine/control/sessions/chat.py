"""One turn of a chat: the conversation so far and what is said now go through the instance's worker, as a task would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.definitions import WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.models import model_name
from engine.contract.records.instances import ChatTurn
from engine.contract.requests.instances import InstanceChat
from engine.contract.states import InstanceState
from engine.control.budget import Budget, Held
from engine.control.execution import TaskContext, execute
from engine.control.instances import Instance, Instances
from engine.control.sessions.session import Session
from engine.control.sessions.speech import Speech
from engine.ports import ContextFile, Keys, Models, ToolBox
from engine.workers.template import TaskInput

MAX_MESSAGE_CHARS = 1_000_000
_FRAME = 8
"""Tokens that a turn takes beside its words."""
_LEAST_ROOM = 32
"""A conversation with fewer tokens left is full: a question and an answer need as many."""


class Turn:
    """A turn that is under way. `client` is who asked; `task` ends with the answer, `over` is set when it is written down."""

    def __init__(self, client: int, context: TaskContext) -> None:
        self.client = client
        self.context = context
        self.task: asyncio.Task[ChatTurn] | None = None
        self.over = asyncio.Event()


class Talk:
    """Makes turns."""

    def __init__(
        self,
        models: Models,
        budget: Budget,
        instances: Instances,
        clock: Clock,
        *,
        max_result_bytes: int,
        tools: Callable[[WorkerDefinition, str], ToolBox | None],
        keys: Keys | None,
        files: Callable[[WorkerDefinition, str, tuple[str, ...]], Awaitable[tuple[ContextFile, ...]]],
    ) -> None:
        self._tools = tools
        self._keys = keys
        self._files = files
        self._models = models
        self._budget = budget
        self._instances = instances
        self._clock = clock
        self._max_result_bytes = max_result_bytes

    def limit(self, session: Session) -> int:
        """How many tokens a conversation may have; 0 while that is not known."""
        known = self._models.handle(model_name(session.config)).context or session.context_max
        asked = session.config.context_tokens
        return min(asked, known) if asked and known else asked or known

    def check_room(self, session: Session, message: str) -> None:
        """Raises `context_full`, with numbers, for a turn that its context cannot hold."""
        limit = self.limit(session)
        need = len(message) // 4 + _FRAME
        if session.state is not InstanceState.full and (not limit or session.context + need < limit):
            return
        raise full(session, limit, f"and this turn needs about {need + 1} at least")

    def is_full(self, context: int, limit: int) -> bool:
        return bool(limit) and context + _LEAST_ROOM > limit

    def begin(
        self, instance: Instance, session: Session, history: list[ChatTurn], request: InstanceChat, speech: Speech
    ) -> tuple[TaskInput, TaskContext]:
        """The turn's work, and what its worker may use."""
        work = TaskInput(
            id=f"{session.id}/{session.turns + 1}", attempt=1, payload=self._payload(session, history, request.message)
        )
        waiting = partial(self._waits, instance, request.wait_ms, speech)
        whose = f"instance:{session.id}/{session.definition}"
        tools = self._tools(session.config, whose) if session.config.tools_allow else None
        files = partial(self._files, session.config, whose, session.files) if session.files else None
        context = TaskContext(
            self._models,
            self._budget,
            session.config,
            work,
            speech.write,
            waiting,
            tools,
            keys=self._keys,
            files=files,
            pulse=instance.pulse,
        )
        return work, context

    async def run(
        self, instance: Instance, session: Session, message: str, work: TaskInput, context: TaskContext
    ) -> ChatTurn:
        """The turn, ended. Raises what went wrong; `context.meter` has what it took nevertheless."""
        began_ms, began = self._clock.wall_ms(), time.monotonic()
        ended = await execute(instance, work, context, self._max_result_bytes)
        if ended.error is not None:
            raise AiwmError.of(ended.error)
        result: Any = msgspec.json.decode(ended.result or b"null")
        text = result.get("text") if isinstance(result, dict) else result
        if not isinstance(text, str):
            text = msgspec.json.encode(result).decode()
        meter = context.meter
        return ChatTurn(
            n=session.turns + 1,
            at_ms=began_ms,
            message=message,
            text=text,
            reason=meter.finish_reason or "stop",
            tokens_in=meter.tokens_in,
            tokens_out=meter.tokens_out,
            context=meter.context,
            cost_usd=meter.cost_usd(session.config.cost),
            first_token_ms=_number(result, "first_token_ms"),
            total_ms=round((time.monotonic() - began) * 1000, 1),
            adapters=tuple(meter.adapters),
        )

    def _payload(self, session: Session, history: list[ChatTurn], message: str) -> dict[str, Any]:
        messages = []
        for turn in history:
            messages += [{"role": "user", "content": turn.message}, {"role": "assistant", "content": turn.text}]
        messages.append({"role": "user", "content": message})
        payload: dict[str, Any] = {"messages": messages}
        limit = self.limit(session)
        room = limit - session.context - len(message) // 4 - _FRAME
        if limit and room < session.config.sampling.max_tokens:
            payload["max_tokens"] = max(1, room)
        return payload

    def _waits(self, instance: Instance, wait_ms: int | None, speech: Speech, held: Held | None) -> None:
        self._instances.hold(instance, held)
        if held is None:
            return
        if wait_ms is not None and held.until_ms > self._clock.wall_ms() + wait_ms:
            raise AiwmError(
                Code.rate_limited, held.reason, field=held.window, fix="wait, or raise wait_ms", retryable=True
            )
        speech.waits(held)


def full(session: Session, limit: int, more: str) -> AiwmError:
    return AiwmError(
        Code.context_full,
        f"the conversation of {session.id} has {session.context} of {limit} tokens, {more}",
        field="id",
        fix=f"aiwm instance retire {session.id} --status full; aiwm instance spawn {session.definition}",
    )


def _number(result: Any, name: str) -> float:
    value = result.get(name) if isinstance(result, dict) else None
    return float(value) if isinstance(value, (int, float)) else 0.0
