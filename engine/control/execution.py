"""Running one attempt of a task on an instance: what its worker may ask for, and how it ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from engine.contract.definitions import Cost, WorkerDefinition
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.models import model_name
from engine.contract.states import TaskState
from engine.control.budget import Budget, Call, Waiting, estimate, prompt_tokens
from engine.control.instances import Instance
from engine.control.metering import Meter, MeteredGeneration, Pulse
from engine.control.pinning import Pins
from engine.ports import ContextFile, GenerateRequest, Keys, Models, Outcome, Reservation, ToolBox
from engine.workers.template import TaskInput, TaskOutput

_log = logging.getLogger(__name__)

CRASHES = frozenset({Code.worker_crashed, Code.engine_crashed})
"""Errors by which a task is suspected of having taken its process down. A model's crash is not one: it hits all its requests."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended. `result` is encoded JSON; `outcome` is the scheduler's word for it. What it took from models is None for
    one that called none; tokens of failed attempts count too."""

    outcome: str
    state: TaskState
    result: bytes | None = None
    error: ErrorInfo | None = None
    reason: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    adapter: str | None = None
    prompt: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    calls: int | None = None
    input_chars: int | None = None
    summary: str = ""
    reflection: str | None = None


Files = Callable[[], Awaitable[tuple[ContextFile, ...]]]
"""Reads the file contexts of a piece of work."""


class TaskContext:
    """What a running task's worker may use. One for each attempt; `waiting` is told when a call waits for the budget, `pulse` when a model
    answers. `replica` is the model process whose slot is kept for it (None: any), `pins` the versions of its adapters."""

    def __init__(
        self,
        models: Models,
        budget: Budget,
        definition: WorkerDefinition,
        task: TaskInput,
        write: Callable[[str], None],
        waiting: Waiting,
        tools: ToolBox | None = None,
        insight: Callable[[str, str, Any], None] = lambda *_: None,
        keys: Keys | None = None,
        files: Files | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self._files = files
        self._pulse = pulse
        self._keys = keys
        self._models = models
        self.tools = tools
        self._budget = budget
        self._definition = definition
        self._model = model_name(definition)
        self._task = task
        self._write = write
        self._insight = insight
        self._waiting = waiting
        self._generations: list[MeteredGeneration] = []
        self.meter = Meter()
        self.replica: str | None = None
        self.pins = Pins(models.pinned)

    async def begin(self, task: TaskInput) -> TaskInput:
        """The work with its file contexts, as they are now. Raises what is wrong with one of them."""
        return task if self._files is None else msgspec.structs.replace(task, files=await self._files())

    async def generate(self, request: GenerateRequest) -> MeteredGeneration:
        definition = self._definition
        if request.adapters:
            request = msgspec.structs.replace(request, adapters=self.pins(request.adapters))
        if request.options != definition.options:
            # They are the operator's to say: a kind of somebody else's cannot add to what is sent to a server.
            request = msgspec.structs.replace(request, options=definition.options)
        if definition.key and self._keys is not None:
            await self._keys.require(definition.key)
        call = Call(
            task=self._task.id,
            attempt=self._task.attempt,
            definition=definition.name,
            model=self._model,
            tokens=estimate(request),
            replica=self.replica,
        )
        reservation = await self._budget.reserve(call, self._waiting)
        try:
            generation = await self._models.handle(self._model).generate(request, reservation)
        except BaseException:
            self._budget.release(reservation)
            raise
        self.meter.asked(request)
        metered = MeteredGeneration(generation, partial(self._settle, request, reservation), self._pulse)
        self._generations.append(metered)
        return metered

    def write(self, text: str) -> None:
        self._write(text)

    def insight(self, level: str, message: str, details: Any = None) -> None:
        self._insight(level, message, details)

    async def stop(self) -> None:
        """Stop whatever still runs at a model; it ends with reason `cancelled`."""
        for generation in self._generations:
            await generation.cancel()

    async def close(self) -> None:
        """The worker is done: nothing of it may still run at a model, and every call is settled."""
        for generation in self._generations:
            await generation.close()

    def _settle(
        self, request: GenerateRequest, reservation: Reservation, outcome: Outcome | None, spent: tuple[int | None, int]
    ) -> None:
        if outcome is not None:
            self.meter.ended(outcome)
            self._budget.settle(reservation, outcome.tokens_in + outcome.tokens_out)
        else:
            read, written = spent
            read = prompt_tokens(request) if read is None else read
            self.meter.broke_off(read, written)
            self._budget.settle(reservation, read + written)

    def note(self, instance: Instance) -> None:
        """Write into the instance how full its context is."""
        if self.meter.calls:
            instance.context = self.meter.context
            limit = self._models.handle(self._model).context
            instance.context_max = self._definition.context_tokens or limit or instance.context_max

    def spent(self, ended: Ended) -> Ended:
        """The end with what it took from models."""
        meter, definition = self.meter, self._definition
        if not meter.calls:
            return ended
        return msgspec.structs.replace(
            ended,
            tokens_in=_count(meter.tokens_in),
            tokens_out=_count(meter.tokens_out),
            cost_usd=meter.cost_usd(definition.cost) if definition.cost != Cost() else None,
            adapter=",".join(meter.adapters)[:200] or None,
            prompt=meter.prompt,
            model=",".join(meter.models)[:200] or self._model,
            finish_reason=meter.finish_reason,
            calls=meter.calls,
            input_chars=meter.input_chars,
        )


async def execute(instance: Instance, task: TaskInput, context: TaskContext, max_result_bytes: int) -> Ended:
    """Process the task. Every way it can end is in the answer; only the engine's own stop comes out as CancelledError."""
    try:
        ended = await _processed(instance, task, context, max_result_bytes)
    finally:
        if context.meter.calls:
            await asyncio.shield(context.close())
    return context.spent(ended)


async def _processed(instance: Instance, task: TaskInput, context: TaskContext, max_result_bytes: int) -> Ended:
    try:
        output = await _within_deadline(instance, await context.begin(task), context)
        result = _encode_result(output, max_result_bytes)
    except AiwmError as error:
        return failure(error.info)
    except Exception as error:
        _log.exception("task %s failed in its worker", task.id)
        return failure(
            ErrorInfo(
                code=Code.task_failed,
                message=f"{type(error).__name__}: {error}"[:500],
                retryable=True,
                fix="see logs/engine.log",
            )
        )
    return Ended(
        outcome="completed",
        state=TaskState.completed,
        result=result,
        reason=output.summary[:200],
        summary=output.summary[:256],
        tokens_in=_count(output.tokens_in),
        tokens_out=_count(output.tokens_out),
    )


def failure(error: ErrorInfo) -> Ended:
    """An attempt that ended with this error."""
    outcome = "crashed" if error.code in CRASHES else "failed"
    return Ended(outcome=outcome, state=TaskState.failed, error=error, reason=f"{error.code}: {error.message}"[:200])


async def _within_deadline(instance: Instance, task: TaskInput, context: TaskContext) -> TaskOutput:
    if task.deadline_ms is None:
        return await instance.worker.process(task, context)
    import time

    left_s = (task.deadline_ms - time.time_ns() // 1_000_000) / 1000
    try:
        async with asyncio.timeout(max(0.0, left_s)):
            return await instance.worker.process(task, context)
    except TimeoutError:
        raise AiwmError(Code.deadline_passed, "the deadline passed while the task ran") from None


def _encode_result(output: TaskOutput, max_bytes: int) -> bytes:
    try:
        result = msgspec.json.encode(output.result)
    except (TypeError, ValueError) as error:
        raise AiwmError(Code.task_failed, f"the worker's result is not JSON: {error}") from None
    if len(result) > max_bytes:
        raise AiwmError(
            Code.task_failed,
            f"the result has {len(result)} bytes, more than the {max_bytes} allowed",
            fix="queues.max_result_bytes",
        )
    return result


def _count(tokens: int) -> int:
    return min(max(tokens, 0), 2**53)


def decode_payload(payload: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(payload, type=dict[str, Any])
    return decoded
