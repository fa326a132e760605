"""Insights of a worker that runs in a process of its own cross the pipe, and harm nobody."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

from engine.contract.definitions import WorkerDefinition
from engine.wire.peer import Peer
from engine.wire.rpc import encode
from engine.workers.isolated import IsolatedWorker
from engine.workers.isolation import ProcessTask
from engine.workers.kinds.template import TemplateWorker
from engine.workers.process import KindProcess
from engine.workers.template import TaskInput, TaskOutput, WorkerContext


class Thoughtful(TemplateWorker):
    async def process(self, task: TaskInput, context: WorkerContext) -> TaskOutput:
        context.insight("info", "first", {"a": 1})
        context.insight("warn", "no json", {object()})
        context.insight("warn", "second")
        return TaskOutput(result="done")


class Heard:
    tools = None

    def __init__(self) -> None:
        self.insights: list[tuple[str, str, Any]] = []

    def insight(self, level: str, message: str, details: Any = None) -> None:
        self.insights.append((level, message, details))


async def test_insights_cross_the_pipe(tmp_path: Path) -> None:
    definition = WorkerDefinition(name="w", kind="template")
    worker, heard = IsolatedWorker("template", definition, tmp_path / "log"), Heard()
    worker._context = heard  # type: ignore[assignment]
    process = KindProcess("template")
    process._registry._loaded["template"] = Thoughtful
    left, right = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, engine = await loop.create_unix_connection(lambda: Peer(worker._serve, worker._heard), sock=left)
    _, child = await loop.create_unix_connection(lambda: Peer(process.serve, process.heard), sock=right)
    work = ProcessTask(definition=definition, task=TaskInput(id="t-10001", attempt=1, payload={}))
    assert b'"done"' in await engine.call(ProcessTask.method, encode(work))
    assert heard.insights == [("info", "first", {"a": 1}), ("warn", "second", None)]
    child.close()
    engine.close()
