"""What a kind process asks of the engine, and what becomes of it when the task is over."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract.definitions import Sampling, WorkerDefinition
from engine.ports import GenerateRequest, Message
from engine.wire.rpc import Incoming, encode
from engine.workers.isolated import IsolatedWorker
from engine.workers.isolation import AskModel
from engine.workers.template import TaskInput
from tests.support.waiting import until


class Waits:
    """A context whose budget is used up for long, and a pipe that never answers."""

    tools = None

    def __init__(self) -> None:
        self.asked = self.gave_up = 0

    async def generate(self, request: GenerateRequest) -> Any:
        self.asked += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.gave_up += 1

    async def call(self, method: str, params: bytes) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError(method)


async def test_a_question_of_a_task_that_was_stopped_waits_for_no_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = IsolatedWorker("template", WorkerDefinition(name="w", model="m"), tmp_path / "log")
    context: Any = Waits()

    async def connected() -> Any:
        return context

    monkeypatch.setattr(worker, "_connected", connected)
    work = TaskInput(id="t-10001", attempt=1, payload={}, deadline_ms=None)
    running = asyncio.ensure_future(worker.process(work, context))
    await until(lambda: worker._context is not None)
    request = GenerateRequest(messages=(Message(role="user", content="x"),), sampling=Sampling(), deadline_ms=None)
    question = Incoming(id=1, method=AskModel.method, params=msgspec.Raw(encode(AskModel(request=request))))
    asking = asyncio.ensure_future(worker._serve(context, question))
    await until(lambda: context.asked == 1)
    running.cancel()
    await until(lambda: running.done() and asking.done())
    assert asking.cancelled()
    assert context.gave_up == 1
    assert not worker._asking
