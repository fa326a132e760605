"""What crosses the pipe between the engine and a kind process: insights, results, and the ends of generations."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from engine.contract.definitions import WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.ports import Delta
from engine.wire.peer import Peer
from engine.wire.rpc import Incoming, encode
from engine.workers.isolated import IsolatedWorker, _pump
from engine.workers.isolation import ModelSaid, ProcessTask
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
    worker._context, worker._work = heard, "t-10001/1"  # type: ignore[assignment]
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


class Counting(TemplateWorker):
    """Gives back how many tasks this very object has processed, or whatever the payload names."""

    done = 0

    async def process(self, task: TaskInput, context: WorkerContext) -> TaskOutput:
        self.done += 1
        wrong: dict[str, Any] = {"dict": {"result": 1}, "object": TaskOutput(result=object())}
        return wrong.get(task.payload.get("give", ""), TaskOutput(result=self.done))  # type: ignore[no-any-return]


async def _processed(process: KindProcess, definition: WorkerDefinition, **payload: Any) -> Any:
    work = ProcessTask(definition=definition, task=TaskInput(id="t-10001", attempt=1, payload=payload))
    peer: Any = None
    answer = await process.serve(peer, Incoming(id=1, method=ProcessTask.method, params=msgspec.Raw(encode(work))))
    return msgspec.json.decode(answer, type=TaskOutput).result


async def test_one_object_processes_an_instance_s_tasks_until_its_definition_changes() -> None:
    process = KindProcess("template")
    process._registry._loaded["template"] = Counting
    first = WorkerDefinition(name="w", kind="template")
    assert [await _processed(process, first), await _processed(process, first)] == [1, 2]
    assert await _processed(process, msgspec.structs.replace(first, system="other")) == 1


@pytest.mark.parametrize(("give", "why"), [("dict", "not a TaskOutput"), ("object", "is not JSON")])
async def test_a_result_that_is_none_fails_for_good(give: str, why: str) -> None:
    process = KindProcess("template")
    process._registry._loaded["template"] = Counting
    with pytest.raises(AiwmError, match=why) as failed:
        await _processed(process, WorkerDefinition(name="w", kind="template"), give=give)
    assert not failed.value.info.retryable


async def test_a_generation_that_fails_in_any_way_ends_for_its_worker() -> None:
    class Fails:
        async def __aiter__(self) -> AsyncIterator[Delta]:
            yield Delta("so far", 2)
            raise ZeroDivisionError

    class Listens:
        said: ClassVar[list[ModelSaid]] = []

        def notify(self, method: str, params: bytes, *, droppable: bool = False) -> bool:
            self.said.append(msgspec.json.decode(params, type=ModelSaid))
            return True

    generation: Any = Fails()
    listening: Any = Listens()
    await _pump(listening, 1, generation)
    text, end = Listens.said
    assert text.text == "so far"
    assert end.error is not None
    assert end.error.code == Code.internal
