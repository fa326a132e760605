"""Running one attempt of a task on an instance: what its worker may ask for, and how it ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.states import TaskState
from engine.control.instances import Instance
from engine.ports import GenerateRequest, Generation, Models, Reservation
from engine.workers.template import TaskInput, TaskOutput

_log = logging.getLogger(__name__)

CRASHES = frozenset({Code.worker_crashed, Code.engine_crashed})
"""Errors by which a task is suspected of having taken its process down. A model's crash is not one: it hits all its requests."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended. `result` is encoded JSON; `outcome` is the scheduler's word for it."""

    outcome: str
    state: TaskState
    result: bytes | None = None
    error: ErrorInfo | None = None
    reason: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None


class TaskContext:
    """What a running task's worker may use. One for each attempt."""

    def __init__(self, models: Models, reservation: Reservation, write: Callable[[str], None]) -> None:
        self._models = models
        self._reservation = reservation
        self._write = write
        self._generations: list[Generation] = []

    async def generate(self, request: GenerateRequest) -> Generation:
        generation = await self._models.handle(self._reservation.model).generate(request, self._reservation)
        self._generations.append(generation)
        return generation

    def write(self, text: str) -> None:
        self._write(text)

    async def stop(self) -> None:
        """Stop whatever the worker left running at a model."""
        for generation in self._generations:
            await generation.cancel()


async def execute(instance: Instance, task: TaskInput, context: TaskContext, max_result_bytes: int) -> Ended:
    """Process the task. Every way it can end is in the answer; only the engine's own stop comes out as CancelledError."""
    try:
        output = await _within_deadline(instance, task, context)
        result = _encode_result(output, max_result_bytes)
    except AiwmError as error:
        return failure(error.info)
    except asyncio.CancelledError:
        await asyncio.shield(context.stop())
        raise
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
        await context.stop()
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
