"""One supervised model process: the thin shell around `supervision.advance`.

It spawns, loads, watches, restarts and stops the process, and carries requests to it. Its death, however it comes, ends the
requests in it with `model_crashed` and touches nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.inference import protocol
from engine.inference.child import Child, default_command, exit_text
from engine.inference.meter import Meter
from engine.inference.process_log import tail
from engine.inference.supervision import EventName, Life, Policy, ProcessState, advance
from engine.wire import rpc
from engine.wire.peer import Peer

FAILED_FOR = 15.0  # seconds for which a failed model is not tried again: its callers get the recorded error at once


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """How model processes are run. Times in seconds, sizes in bytes, `memory_limit` of the address space."""

    slots: int = 8
    context: int | None = None
    adapter_slots: int = 20
    adapter_bytes: int = 500_000_000
    start_timeout: float = 60.0
    hang_timeout: float = 30.0
    memory_limit: int | None = None
    policy: Policy = field(default_factory=Policy)


class Sink(Protocol):
    """Who waits for a request's text. Exactly one of done and failed comes, last."""

    def delta(self, note: protocol.DeltaNote) -> None: ...
    def done(self, note: protocol.DoneNote) -> None: ...
    def failed(self, error: AiwmError) -> None: ...


class ModelProcess:
    """`changed` is called after every change of state, slots or load. All methods belong to the loop's thread."""

    def __init__(
        self,
        process_id: str,
        directory: Path,
        settings: ProcessSettings,
        *,
        clock: Clock,
        log: Path,
        changed: Callable[[ModelProcess], None],
        command: Sequence[str] | None = None,
    ) -> None:
        self.id = process_id
        self.directory = directory
        self.settings = settings
        self.life = Life()
        self.since_ms = clock.wall_ms()
        self.loaded: protocol.LoadResult | None = None
        self.status: protocol.StatusNote | None = None
        self.last_error: ErrorInfo | None = None
        self._clock = clock
        self._log = log
        self._changed = changed
        self._command = list(command or default_command())
        self._child: Child | None = None
        self._sinks: dict[str, Sink] = {}
        self._turn = asyncio.Event()  # set and replaced at every change of state: everyone who waits looks again
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed_at = 0.0
        self._tokens, self._steps = Meter(), Meter()

    # -- what others see -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> ProcessState:
        return self.life.state

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def requests(self) -> int:
        """How many requests are in it, running or waiting."""
        return len(self._sinks)

    @property
    def slots(self) -> int:
        """How many requests it runs at once; 0 while it cannot take any."""
        up = self.state in (ProcessState.ready, ProcessState.busy)
        return self.loaded.slots if up and self.loaded else 0

    def tokens_per_second(self) -> float:
        return self._tokens.per_second(_now())

    def steps_per_second(self) -> float:
        return self._steps.per_second(_now())

    # -- what others ask for -----------------------------------------------------------------------------------------------

    async def ready(self) -> protocol.LoadResult:
        """Wait until it can take requests, starting it if need be. Raises the error of a model that cannot be loaded."""
        while True:
            if self.state in (ProcessState.ready, ProcessState.busy) and self.loaded is not None:
                return self.loaded
            if self.state is ProcessState.failed and self._recently_failed():
                raise self._failure()
            before = self.life
            self._feed("wanted")
            if self.life == before:
                await self._turn.wait()

    async def generate(self, request: protocol.Generate, sink: Sink) -> protocol.GenerateResult:
        """Hand a request over. From the moment this returns, the sink hears of it. Raises AiwmError (bad_request,
        prompt_too_long, adapter_…, model_crashed)."""
        child = self._child
        if child is None or self.state not in (ProcessState.ready, ProcessState.busy):
            raise AiwmError(Code.model_unavailable, f"{self.id} is {self.state}", retryable=True)
        if not self._sinks:
            child.progress = _now()
        self._sinks[request.id] = sink
        self._feed("busy")
        try:
            return msgspec.json.decode(await child.call(request), type=protocol.GenerateResult)
        except AiwmError as error:
            self._forget(request.id)
            if error.code != Code.connection_lost:
                raise
            while self._child is child:  # until it is known how the process ended
                await self._turn.wait()
            raise self._crash() from error
        except asyncio.CancelledError:
            self.forget(request.id)
            raise

    async def cancel(self, request_id: str) -> bool:
        """Stop a request; its sink then hears `done` with reason cancelled. False if it has ended already."""
        if self._child is None or request_id not in self._sinks:
            return False
        try:
            answer = await self._child.call(protocol.Cancel(request_id))
        except AiwmError:
            return False  # the process is gone, and so is the request
        return msgspec.json.decode(answer, type=protocol.CancelResult).cancelled

    def forget(self, request_id: str) -> None:
        """Stop a request whose reader has gone; nobody hears of it any more."""
        if self._forget(request_id) is not None:
            self._spawn_task(self._cancel_quietly(request_id))

    async def memory(self) -> protocol.MemoryResult | None:
        """What it holds now; None when it does not run."""
        if self._child is None or not self.slots:
            return None
        return msgspec.json.decode(await self._child.call(protocol.Memory()), type=protocol.MemoryResult)

    def drain(self) -> None:
        """Take no more requests; stop when the last has ended."""
        self._feed("drain")

    def stop(self) -> None:
        """Stop now. Requests in it end with model_crashed."""
        self._feed("stop")

    async def stopped(self) -> None:
        """Wait until there is no process."""
        while self.life.alive:
            await self._turn.wait()
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()

    # -- the state machine ---------------------------------------------------------------------------------------------------

    def _feed(self, event: EventName) -> None:
        step = advance(self.life, event, self.settings.policy)
        if step.life.state is not self.life.state:
            self.since_ms = self._clock.wall_ms()
        changed, self.life = step.life != self.life, step.life
        for action in step.actions:
            if action == "spawn":
                self.loaded = self.status = None
                self._spawn_task(self._live())
            elif action == "rest":
                self._spawn_task(self._rest(self.life.rest))
            else:
                self._end_child(abort=event == "hung")
        if changed:
            if self.life.state is ProcessState.failed:
                self._failed_at = _now()
            turn, self._turn = self._turn, asyncio.Event()
            turn.set()
            self._changed(self)

    def _spawn_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._feed("rested")

    async def _live(self) -> None:
        """One process from its start to its end."""
        try:
            child = await Child.spawn(self._command, self._log, self.settings.memory_limit, self._heard)
        except OSError as error:
            self.last_error = ErrorInfo(code=Code.model_crashed, message=f"{self.id} cannot be started: {error}")
            self._feed("exited")
            return
        self._child = child
        if self.life.leaving:  # it was stopped while it was being started
            self._end_child(abort=False)
        loop = asyncio.get_running_loop()
        helpers = [loop.create_task(self._watch(child)), loop.create_task(self._load(child))]
        try:
            code = await child.ended()
        finally:
            for helper in helpers:
                helper.cancel()
        self._buried(code)

    def _end_child(self, *, abort: bool) -> None:
        if self._child is not None:
            self._spawn_task(self._child.end(abort=abort))

    def _buried(self, code: int) -> None:
        """The process has ended: record how, end its requests, decide what comes next."""
        self._child = None
        if not self.life.leaving:
            known = self.last_error if self.last_error is not None and self.last_error.code == Code.timeout else None
            why = known.message if known else f"the process of {self.id} ended"
            message = f"{why}: {exit_text(code)}"
            self.last_error = ErrorInfo(
                code=Code.model_crashed, message=message, retryable=True, stderr=tail(self._log)
            )
        error = self._crash()
        sinks, self._sinks = list(self._sinks.values()), {}
        self._feed("exited")
        for sink in sinks:
            sink.failed(error)

    async def _load(self, child: Child) -> None:
        settings = self.settings
        load = protocol.Load(
            model=str(self.directory),
            slots=settings.slots,
            context=settings.context,
            adapter_slots=settings.adapter_slots,
            adapter_bytes=settings.adapter_bytes,
        )
        try:
            async with asyncio.timeout(settings.start_timeout):
                answer = await child.call(load)
        except TimeoutError:
            self._hangs(f"{self.id} was not loaded after {settings.start_timeout:g} s")
        except AiwmError as error:
            if error.code != Code.connection_lost:
                self.last_error = error.info
                self._feed("refused")
        else:
            self.loaded = msgspec.json.decode(answer, type=protocol.LoadResult)
            self._feed("loaded")

    # -- watching ----------------------------------------------------------------------------------------------------------

    async def _watch(self, child: Child) -> None:
        """While requests are in it: notice when its steps, or its answers, stand still. (Loading has a time limit of its own.)"""
        limit = self.settings.hang_timeout
        while True:
            while not self._sinks or self.state is ProcessState.starting:
                await self._turn.wait()
            await asyncio.sleep(min(limit / 4, 1.0))
            now = _now()
            asked = child.oldest_call
            if asked is not None and now - asked > limit:
                self._hangs(f"{self.id} did not answer for {limit:g} s")
            elif self._sinks and now - child.progress > limit:
                self._hangs(f"{self.id} made no step for {limit:g} s")
            else:
                continue
            return

    def _hangs(self, message: str) -> None:
        self.last_error = ErrorInfo(code=Code.timeout, message=message, retryable=True)
        self._feed("hung")

    def _heard(self, _: Peer, message: rpc.Incoming) -> None:
        """A notification. Its sender is our own program, but a damaged line must still harm nobody."""
        try:
            match message.method:
                case protocol.DeltaNote.method:
                    self._delta(msgspec.json.decode(message.params, type=protocol.DeltaNote))
                case protocol.DoneNote.method:
                    done = msgspec.json.decode(message.params, type=protocol.DoneNote)
                    self._ended(done.id, lambda sink: sink.done(done))
                    self._feed("served")
                case protocol.FailedNote.method:
                    failed = msgspec.json.decode(message.params, type=protocol.FailedNote)
                    self._ended(failed.id, lambda sink: sink.failed(AiwmError.of(failed.error)))
                case protocol.StatusNote.method:
                    self._status(msgspec.json.decode(message.params, type=protocol.StatusNote))
        except msgspec.ValidationError as error:
            self.last_error = ErrorInfo(code=Code.bad_line, message=f"{self.id} sent a malformed notification: {error}")

    def _delta(self, note: protocol.DeltaNote) -> None:
        self._tokens.count(self._progress(), note.tokens)
        sink = self._sinks.get(note.id)
        if sink is not None:
            sink.delta(note)

    def _ended(self, request_id: str, tell: Callable[[Sink], None]) -> None:
        self._progress()
        sink = self._forget(request_id)
        if sink is not None:
            tell(sink)

    def _status(self, status: protocol.StatusNote) -> None:
        child = self._child
        if child is not None and status.step > child.step:
            self._steps.count(self._progress(), status.step - child.step)
            child.step = status.step
        self.status = status
        self._changed(self)

    def _progress(self) -> float:
        now = _now()
        if self._child is not None:
            self._child.progress = now
        return now

    def _forget(self, request_id: str) -> Sink | None:
        sink = self._sinks.pop(request_id, None)
        if sink is not None and not self._sinks:
            self._feed("idle")
        return sink

    # -- errors --------------------------------------------------------------------------------------------------------------

    async def _cancel_quietly(self, request_id: str) -> None:
        if self._child is not None:
            try:
                await self._child.call(protocol.Cancel(request_id))
            except AiwmError:
                pass  # it ended by itself, or the process did

    def _recently_failed(self) -> bool:
        return _now() - self._failed_at < FAILED_FOR

    def _crash(self) -> AiwmError:
        """What the requests of a process that ended are told."""
        if self.life.leaving or self.last_error is None:
            return AiwmError(
                Code.model_crashed, f"{self.id} was stopped while the answer was being made", retryable=True
            )
        return AiwmError.of(msgspec.structs.replace(self.last_error, code=Code.model_crashed, retryable=True))

    def _failure(self) -> AiwmError:
        assert self.last_error is not None
        return AiwmError.of(self.last_error)


def _now() -> float:
    return asyncio.get_running_loop().time()
