"""What a kind process asks of the engine, and what becomes of it when the task is over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract.definitions import Sampling, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.ports import GenerateRequest, Message
from engine.wire.rpc import Incoming, encode
from engine.workers import isolated
from engine.workers.isolated import IsolatedWorker
from engine.workers.isolation import AskModel, AskTool, WriteText
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
    question = Incoming(
        id=1, method=AskModel.method, params=msgspec.Raw(encode(AskModel(work="t-10001/1", request=request)))
    )
    asking = asyncio.ensure_future(worker._serve(context, question))
    await until(lambda: context.asked == 1)
    running.cancel()
    await until(lambda: running.done() and asking.done())
    assert asking.cancelled()
    assert context.gave_up == 1
    assert not worker._asking


async def test_a_process_that_is_killed_fails_its_task_and_the_next_has_a_new_one(tmp_path: Path) -> None:
    definition = WorkerDefinition(name="w", kind="goat", model="m")
    worker = IsolatedWorker("goat", definition, tmp_path / "log")
    context: Any = Waits()
    work = TaskInput(id="t-10001", attempt=1, payload={"prompt": "x"})
    for _ in range(2):
        before = context.asked
        running = asyncio.ensure_future(worker.process(work, context))
        await until(lambda before=before: context.asked == before + 1, 30)  # type: ignore[misc]
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(AiwmError, match='the process of worker kind "goat" ended by signal SIGKILL') as crashed:
            await running
        assert crashed.value.code == Code.worker_crashed
        assert crashed.value.info.retryable
    assert context.gave_up == 2, "nobody waits for an answer any more"
    assert (tmp_path / "log").exists()
    worker.close()
    assert not (tmp_path / "log").exists(), "it said nothing"


class Open:
    """A context that keeps what it is told."""

    tools = None

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


async def test_what_a_task_left_behind_speaks_for_no_other(tmp_path: Path) -> None:
    worker = IsolatedWorker("template", WorkerDefinition(name="w", model="m"), tmp_path / "log")
    context: Any = Open()
    worker._context, worker._work = context, "t-10002/1"
    peer: Any = None

    def message(said: Any, id: int | None = None) -> Incoming:
        return Incoming(id=id, method=said.method, params=msgspec.Raw(encode(said)))

    worker._heard(peer, message(WriteText(work="t-10001/1", text="late ")))
    worker._heard(peer, message(WriteText(work="t-10002/1", text="mine")))
    assert context.text == "mine"
    request = GenerateRequest(messages=(Message(role="user", content="x"),), sampling=Sampling())
    for late in (AskModel(work="t-10001/1", request=request), AskTool(work="t-10001/1", name="read_file")):
        with pytest.raises(AiwmError, match="t-10001/1 is not running"):
            await worker._serve(peer, message(late, 1))
    with pytest.raises(AiwmError, match="no tools"):
        await worker._serve(peer, message(AskTool(work="t-10002/1", name="read_file"), 2))


class Endless:
    """A model's answer that has not begun to be read."""

    def __init__(self) -> None:
        self.cancelled = 0

    async def cancel(self) -> None:
        self.cancelled += 1


async def test_an_answer_that_nobody_began_to_read_is_stopped_with_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = IsolatedWorker("template", WorkerDefinition(name="w", model="m"), tmp_path / "log")
    endless = Endless()

    class Asks:
        tools = None

        async def generate(self, request: GenerateRequest) -> Any:
            return endless

    class Peer:
        async def call(self, method: str, params: bytes) -> bytes:
            """The task asks its model, and is over before the answer is read."""
            asked = encode(AskModel(work="t-10001/1", request=GenerateRequest(messages=())))
            await worker._serve(self, Incoming(id=1, method=AskModel.method, params=msgspec.Raw(asked)))  # type: ignore[arg-type]
            return b'{"result": null}'

    async def connected() -> Any:
        return Peer()

    monkeypatch.setattr(worker, "_connected", connected)
    context: Any = Asks()
    await worker.process(TaskInput(id="t-10001", attempt=1, payload={}), context)
    await until(lambda: endless.cancelled == 1)
    await until(lambda: not worker._stopping)


async def test_a_process_that_only_closed_its_pipe_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "_EXIT_S", 0.05)
    worker = IsolatedWorker("template", WorkerDefinition(name="w", model="m"), tmp_path / "log")
    process = subprocess.Popen(["sleep", "60"])  # noqa: ASYNC220 (returns at once)
    worker._process = process
    error = await worker._crashed()
    assert 'worker kind "template" closed its pipe' in error.info.message
    assert process.wait(timeout=5) == -signal.SIGKILL
