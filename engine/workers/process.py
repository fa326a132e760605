"""A kind process: `python -P -m engine.workers.process KIND PARENT`. One worker, one task at a time, over its stdin and stdout."""

from __future__ import annotations

import sys

from engine.wire.child import die_with_parent, protect_stdio

if __name__ == "__main__":
    _READING, _WRITING = protect_stdio()
    die_with_parent(int(sys.argv[2]))

import asyncio
from collections.abc import AsyncIterator
from typing import Any, BinaryIO

import msgspec

from engine.contract.definitions import WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.ports import Delta, GenerateRequest, Outcome, ToolAnswer, ToolDeclaration
from engine.wire.peer import Peer, notification
from engine.wire.rpc import Incoming, encode, params_of
from engine.wire.transports import over_pipes
from engine.workers.isolation import (
    AskModel,
    AskTool,
    ModelSaid,
    NoteInsight,
    ProcessTask,
    StopModel,
    WriteText,
    work_of,
)
from engine.workers.registry import KindRegistry
from engine.workers.template import TaskOutput, WorkerTemplate


class RemoteGeneration:
    """A generation that runs in the engine's care, read from here."""

    def __init__(self, peer: Peer, number: int) -> None:
        self._peer = peer
        self._number = number
        self._said: asyncio.Queue[ModelSaid] = asyncio.Queue()
        self._outcome: Outcome | None = None

    def hear(self, said: ModelSaid) -> None:
        self._said.put_nowait(said)

    async def __aiter__(self) -> AsyncIterator[Delta]:
        while True:
            said = await self._said.get()
            if said.error is not None:
                raise AiwmError.of(said.error)
            if said.outcome is not None:
                self._outcome = said.outcome
                return
            yield Delta(said.text, said.tokens)

    @property
    def outcome(self) -> Outcome:
        if self._outcome is None:
            raise RuntimeError("the generation has not ended")
        return self._outcome

    async def cancel(self) -> None:
        await self._peer.call(StopModel.method, encode(StopModel(generation=self._number)))


class RemoteTools:
    """The task's tools (`ports.ToolBox`): every call goes to the engine's gate."""

    def __init__(self, peer: Peer, work: str, declared: tuple[ToolDeclaration, ...]) -> None:
        self._peer = peer
        self._work = work
        self.declared = declared

    async def call(self, name: str, arguments: Any) -> ToolAnswer:
        answer = await self._peer.call(AskTool.method, encode(AskTool(work=self._work, name=name, arguments=arguments)))
        return msgspec.json.decode(answer, type=ToolAnswer)


class RemoteContext:
    """The context of a task in this process: its requests go over the pipe."""

    def __init__(self, peer: Peer, generations: dict[int, RemoteGeneration], asked: ProcessTask) -> None:
        self._peer = peer
        self._generations = generations
        self._work = work_of(asked.task)
        self.tools = None if asked.tools is None else RemoteTools(peer, self._work, asked.tools)

    async def generate(self, request: GenerateRequest) -> RemoteGeneration:
        answer = await self._peer.call(AskModel.method, encode(AskModel(work=self._work, request=request)))
        number = msgspec.json.decode(answer, type=int)
        return self._generations.setdefault(number, RemoteGeneration(self._peer, number))

    def write(self, text: str) -> None:
        notification(self._peer, WriteText(work=self._work, text=text))

    def insight(self, level: str, message: str, details: Any = None) -> None:
        try:
            notification(self._peer, NoteInsight(work=self._work, level=level, message=message, details=details))
        except (TypeError, ValueError):
            # Details that are no JSON are no insight; the task does not fail by them.
            pass


class KindProcess:
    """Answers the engine's `process` requests with one worker of one kind."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._registry = KindRegistry()
        self._worker: WorkerTemplate | None = None
        self._generations: dict[int, RemoteGeneration] = {}

    async def serve(self, peer: Peer, message: Incoming) -> bytes:
        if message.method != ProcessTask.method:
            raise AiwmError(Code.unknown_method, f'a kind process does not answer "{message.method}"')
        work = params_of(message, ProcessTask)
        try:
            worker = self._worker_of(work.definition)
            worker.check(work.task.payload)
            return _encoded(await worker.process(work.task, RemoteContext(peer, self._generations, work)))
        except AiwmError:
            raise
        except Exception as error:
            raise AiwmError(Code.task_failed, f"{type(error).__name__}: {error}"[:500], retryable=True) from error
        finally:
            self._generations.clear()

    def _worker_of(self, definition: WorkerDefinition) -> WorkerTemplate:
        """One object for all tasks of the instance, as in the engine."""
        if self._worker is None or self._worker.definition != definition:
            self._worker = self._registry.load(self._kind)(definition)
        return self._worker

    def heard(self, peer: Peer, message: Incoming) -> None:
        if message.method == ModelSaid.method:
            said = params_of(message, ModelSaid)
            # Text may come before the answer that carries the generation's number.
            self._generations.setdefault(said.generation, RemoteGeneration(peer, said.generation)).hear(said)

    async def run(self, reading: BinaryIO, writing: BinaryIO) -> None:
        peer = await over_pipes(reading, writing, self.serve, self.heard)
        await peer.closed


def _encoded(output: Any) -> bytes:
    if not isinstance(output, TaskOutput):
        raise AiwmError(Code.task_failed, f"the worker returned a {type(output).__name__}, not a TaskOutput")
    try:
        return encode(output)
    except (TypeError, ValueError) as error:
        raise AiwmError(Code.task_failed, f"the worker's result is not JSON: {error}") from None


if __name__ == "__main__":
    asyncio.run(KindProcess(sys.argv[1]).run(_READING, _WRITING))
