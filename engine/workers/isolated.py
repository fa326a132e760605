"""The engine's side of a kind process: an isolated kind looks like any other worker, but runs, and crashes, elsewhere."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from engine.contract.definitions import WorkerDefinition
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.inference.process_log import bound, open_log, tail
from engine.ports import Generation
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
from engine.workers.template import TaskInput, TaskOutput, WorkerContext, WorkerTemplate

_log = logging.getLogger(__name__)

_EXIT_S = 1.0
"""Seconds that a process whose pipe is closed has to end."""


class IsolatedWorker(WorkerTemplate):
    """Runs a kind in a process of its own. The process starts with the first task, is replaced when it dies, ends with `close`."""

    kind: ClassVar[str] = "isolated"

    def __init__(self, kind_name: str, definition: WorkerDefinition, log: Path) -> None:
        super().__init__(definition)
        self._kind_name = kind_name
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._peer: Peer | None = None
        self._context: WorkerContext | None = None
        self._work = ""
        self._numbers = itertools.count(1)
        self._generations: dict[int, tuple[Generation, asyncio.Task[None]]] = {}
        self._asking: set[asyncio.Task[Any]] = set()
        self._stopping: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def process(self, task: TaskInput, context: WorkerContext) -> TaskOutput:
        self._context, self._work = context, work_of(task)
        try:
            peer = await self._connected()
            bound(self._log)
            tools = context.tools.declared if context.tools is not None else None
            work = ProcessTask(definition=self.definition, task=task, tools=tools)
            answer = await peer.call(ProcessTask.method, encode(work))
        except AiwmError as error:
            if error.code == Code.connection_lost:
                raise await self._crashed() from None
            raise
        except asyncio.CancelledError:
            # A task that is told to stop may be deaf; its process is not asked but ended.
            self._kill()
            raise
        finally:
            self._context = None
            # A question that waits (for a budget, for a model to load) would be answered to nobody.
            for asking in self._asking:
                asking.cancel()
            self._stop_generations()
        return msgspec.json.decode(answer, type=TaskOutput)

    def _stop_generations(self) -> None:
        """Of models that still answer a task that is over. A pump that has not begun would not tell its generation: each is told itself."""
        for generation, pump in self._generations.values():
            if not pump.done():
                pump.cancel()
                stopping = asyncio.ensure_future(_stop(generation))
                self._stopping.add(stopping)
                stopping.add_done_callback(self._stopping.discard)
        self._generations.clear()

    def close(self) -> None:
        """End the process; a task that runs there fails as crashed. A log that nothing was written to goes with it."""
        self._kill()
        try:
            if self._log.stat().st_size == 0:
                self._log.unlink()
        except OSError:
            pass  # there is none, or it stays

    async def _connected(self) -> Peer:
        if self._peer is None or self._peer.closed.done():
            self._kill()
            with open_log(self._log) as log:
                self._process = subprocess.Popen(  # noqa: ASYNC220 (returns at once)
                    [sys.executable, "-P", "-m", "engine.workers.process", self._kind_name, str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    bufsize=0,
                )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._peer = await over_pipes(self._process.stdout, self._process.stdin, self._serve, self._heard)  # type: ignore[arg-type]
        return self._peer

    async def _serve(self, peer: Peer, message: Incoming) -> bytes:
        asking = asyncio.current_task()
        assert asking is not None
        self._asking.add(asking)
        try:
            return await self._answered(peer, message)
        finally:
            self._asking.discard(asking)

    async def _answered(self, peer: Peer, message: Incoming) -> bytes:
        if message.method == AskModel.method:
            ask = params_of(message, AskModel)
            generation = await self._context_of(ask.work).generate(ask.request)
            number = next(self._numbers)
            pump = asyncio.get_running_loop().create_task(_pump(peer, number, generation))
            self._generations[number] = (generation, pump)
            return encode(number)
        if message.method == AskTool.method:
            call = params_of(message, AskTool)
            tools = self._context_of(call.work).tools
            if tools is None:
                raise AiwmError(Code.denied, "this task has no tools")
            return encode(await tools.call(call.name, call.arguments))
        if message.method == StopModel.method:
            found = self._generations.get(params_of(message, StopModel).generation)
            if found is not None:
                await found[0].cancel()
            return b"null"
        raise AiwmError(Code.unknown_method, f'a worker may not ask for "{message.method}"')

    def _context_of(self, work: str) -> WorkerContext:
        if self._context is None or work != self._work:
            raise AiwmError(Code.denied, f"{work[:80]} is not running in this process")
        return self._context

    def _heard(self, _: Peer, message: Incoming) -> None:
        if message.method == WriteText.method:
            wrote = params_of(message, WriteText)
            if self._context is not None and wrote.work == self._work:
                self._context.write(wrote.text)
        elif message.method == NoteInsight.method:
            said = params_of(message, NoteInsight)
            if self._context is not None and said.work == self._work:
                self._context.insight(said.level, said.message, said.details)

    async def _crashed(self) -> AiwmError:
        code = await self._exit_code()
        if code is None:
            how = "closed its pipe"
            self._kill()  # it serves nobody any more
        else:
            how = f"ended by {_signal_name(-code)}" if code < 0 else f"ended with code {code}"
        return AiwmError(
            Code.worker_crashed,
            f'the process of worker kind "{self._kind_name}" {how}',
            retryable=True,
            stderr=tail(self._log),
        )

    async def _exit_code(self) -> int | None:
        """How the process ended; None for one that closed its pipe and has not ended a second later."""
        try:
            return None if self._process is None else await asyncio.to_thread(self._process.wait, _EXIT_S)
        except subprocess.TimeoutExpired:
            return None

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._peer is not None:
            self._peer.close()
        self._process = self._peer = None


async def _stop(generation: Generation) -> None:
    try:
        await generation.cancel()
    except AiwmError:
        pass  # its model is gone: so is the generation


async def _pump(peer: Peer, number: int, generation: Generation) -> None:
    try:
        async for delta in generation:
            notification(peer, ModelSaid(generation=number, text=delta.text, tokens=delta.tokens))
    except AiwmError as error:
        notification(peer, ModelSaid(generation=number, error=error.info))
    except Exception as error:
        # Whatever went wrong here, the worker waits for an end.
        _log.exception("a generation of a kind process failed")
        why = ErrorInfo(code=Code.internal, message=f"the generation failed: {type(error).__name__}", retryable=True)
        notification(peer, ModelSaid(generation=number, error=why))
    else:
        notification(peer, ModelSaid(generation=number, outcome=generation.outcome))


def _signal_name(number: int) -> str:
    try:
        return f"signal {signal.Signals(number).name}"
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


def worker_for(registry: Any, definition: WorkerDefinition, log: Path) -> WorkerTemplate:
    """A worker of the definition's kind: in the engine if it is ours and not isolated, else in a process of its own."""
    if registry.third_party(definition.kind) or registry.load(definition.kind).isolated:
        return IsolatedWorker(definition.kind, definition, log)
    worker: WorkerTemplate = registry.load(definition.kind)(definition)
    return worker
