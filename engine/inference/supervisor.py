"""One supervised model process: a life that `driver.Driver` drives.

It spawns, loads, watches, restarts and stops the process, and carries requests to it. Its death, however it comes, ends the
requests in it with `model_crashed` and touches nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.inference import protocol
from engine.inference.child import Child, default_command
from engine.inference.crashes import exit_text, oom_kills, verdict
from engine.inference.driver import Driver, loop_s
from engine.inference.figures import Figures
from engine.inference.line import Line, Moved
from engine.inference.process_log import CRASH_LINES, tail
from engine.inference.settings import ProcessSettings
from engine.inference.supervision import EventName, Life, ProcessState
from engine.wire import rpc
from engine.wire.peer import Peer

_OVER_LIMIT = 1.25  # of its memory limit: a process that passes it this far is killed


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a life that nobody asked for; `code` is negative for a signal."""

    code: int
    verdict: str
    error: ErrorInfo
    requests: int
    started_ms: int
    stderr: tuple[str, ...] = ()

    @property
    def signal(self) -> str:
        """The signal's name, empty when it ended by itself."""
        return exit_text(self.code).removeprefix("killed by ") if self.code < 0 else ""


class Sink(Protocol):
    """Who waits for a request's text. Exactly one of done and failed comes, last."""

    def delta(self, note: protocol.DeltaNote) -> None: ...
    def done(self, note: protocol.DoneNote) -> None: ...
    def failed(self, error: AiwmError) -> None: ...


class ModelProcess:
    """`changed` is called after every change of state, slots or load; `died` after a crash; `released` is awaited when a process has ended,
    until its memory is really free. `load` and `settings` may be replaced: the next start takes them. All methods belong to the loop's
    thread."""

    def __init__(
        self,
        process_id: str,
        load: protocol.Load,
        settings: ProcessSettings,
        *,
        clock: Clock,
        log: Path,
        changed: Callable[[ModelProcess], None],
        died: Callable[[ModelProcess, Death], None] = lambda *_: None,
        noted: Callable[[ModelProcess, protocol.AdapterNote], None] = lambda *_: None,
        released: Callable[[int], Awaitable[None]] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        self.id = process_id
        self.load = load
        self.settings = settings
        self.loaded: protocol.LoadResult | None = None
        self.status: protocol.StatusNote | None = None
        self.progress: protocol.ProgressNote | None = None
        self.last_error: ErrorInfo | None = None
        self.line = Line(settings.slots + settings.depth)
        self.log = log
        self._clock = clock
        self._changed = changed
        self._died = died
        self._noted = noted
        self._released = released
        self._command = list(command or default_command())
        self._child: Child | None = None
        self._sinks: dict[str, Sink] = {}
        self._idle_since = 0.0
        self._heard_at = self._spawned_at = 0.0
        self._oom_kills = 0
        self._over_limit = False
        self.figures = Figures()
        self._driver = Driver(
            lambda: self.settings.policy, clock, live=self._live, kill=self._end_child, changed=self._moved
        )

    # -- what others see -------------------------------------------------------------------------------------------------

    @property
    def life(self) -> Life:
        return self._driver.life

    @property
    def state(self) -> ProcessState:
        return self._driver.state

    @property
    def since_ms(self) -> int:
        """Unix ms since when it has been in its state."""
        return self._driver.since_ms

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def requests(self) -> int:
        """How many requests are in it, running or waiting."""
        return len(self._sinks)

    @property
    def up(self) -> bool:
        """Whether it takes requests."""
        return self.state in (ProcessState.ready, ProcessState.busy) and self.loaded is not None

    @property
    def slots(self) -> int:
        """How many requests it runs at once; 0 while it cannot take any."""
        return self.loaded.slots if self.up and self.loaded else 0

    @property
    def startable(self) -> bool:
        """Whether there is no process and none is about to come: `start` would make one."""
        return not self.life.alive and self.state in (ProcessState.stopped, ProcessState.failed)

    @property
    def idle_s(self) -> float | None:
        """For how long it has had nothing to do; None while it works, starts or is gone."""
        return loop_s() - self._idle_since if self.state is ProcessState.ready and not self.line.waiting else None

    @property
    def loading_s(self) -> float:
        """For how long it has been loading."""
        return loop_s() - self._spawned_at if self.state is ProcessState.starting else 0.0

    def tokens_per_second(self) -> float:
        return self.figures.tokens_per_second(loop_s())

    def steps_per_second(self) -> float:
        return self.figures.steps_per_second(loop_s())

    # -- what others ask for -----------------------------------------------------------------------------------------------

    def go_to(self, devices: tuple[int, ...]) -> None:
        """The GPUs that the next start takes."""
        self.load = msgspec.structs.replace(self.load, devices=devices)

    def forgive(self) -> None:
        """Try it again at once, whatever it failed of."""
        self._driver.forgive()

    def start(self) -> None:
        """Start it if there is no process; whoever calls has seen to it that there is room for one."""
        self._driver.feed("wanted")

    async def settled(self) -> protocol.LoadResult | None:
        """Wait until it takes requests, or until it will not by itself (None). Raises the error of one that failed lately."""
        while True:
            if self.up:
                return self.loaded
            if self._driver.recently_failed:
                raise self._failure()
            if self.startable:
                return None
            await self._driver.turn()

    async def generate(self, asking: Callable[[], protocol.Generate], sink: Sink) -> protocol.GenerateResult:
        """Hand a request over, made when there is a place for it in the line. From the moment this returns, the sink hears of it. Raises
        `Moved` when it takes no requests, and AiwmError (bad_request, prompt_too_long, adapter_…, model_crashed)."""
        if not self.up:
            raise Moved(self.id, self.state)
        line = self.line
        await line.enter()
        child = self._child
        if child is None or not self.up:
            line.leave()
            raise Moved(self.id, self.state)
        if not self._sinks:
            child.progress = loop_s()
        try:
            request = asking()
        except AiwmError:
            line.leave()
            raise
        self._sinks[request.id] = sink
        self._driver.feed("busy")
        try:
            return msgspec.json.decode(await child.call(request), type=protocol.GenerateResult)
        except AiwmError as error:
            self._forget(request.id)
            if error.code != Code.connection_lost:
                raise
            while self._child is child:  # until it is known how the process ended
                await self._driver.turn()
            raise self._crash() from error
        except asyncio.CancelledError:
            self.forget(request.id)
            raise

    async def prefetch(
        self, adapters: tuple[protocol.AdapterFile, ...], *, next: bool = False, keep: bool = False
    ) -> protocol.PrefetchResult | None:
        """Make adapters ready before somebody needs them; None when it is not up."""
        if self._child is None or not self.up:
            return None
        answer = await self._child.call(protocol.Prefetch(adapters=adapters, next=next, keep=keep))
        return msgspec.json.decode(answer, type=protocol.PrefetchResult)

    async def evict(self, digests: tuple[str, ...]) -> protocol.EvictResult | None:
        """Let adapters go that no request uses; None when it is not up."""
        if self._child is None or not self.up:
            return None
        return msgspec.json.decode(await self._child.call(protocol.Evict(digests=digests)), type=protocol.EvictResult)

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
            self._driver.spawn(self._cancel_quietly(request_id))

    async def memory(self) -> protocol.MemoryResult | None:
        """What it holds now; None when it does not run."""
        if self._child is None or not self.slots:
            return None
        return msgspec.json.decode(await self._child.call(protocol.Memory()), type=protocol.MemoryResult)

    def drain(self) -> None:
        """Take no more requests; stop when the last has ended."""
        self._driver.feed("drain")
        self.line.break_up(self.id, self.state)

    def stop(self) -> None:
        """Stop now. Requests in it end with model_crashed."""
        self._driver.feed("stop")

    async def stopped(self) -> None:
        """Wait until there is no process."""
        await self._driver.stopped()

    # -- the state machine ---------------------------------------------------------------------------------------------------

    def _moved(self) -> None:
        if self.state is ProcessState.ready:
            self._idle_since = loop_s()
        elif self.state is ProcessState.starting:
            self.loaded = self.status = None
        self._changed(self)

    async def _live(self) -> None:
        """One process from its start to its end."""
        started_ms = self._clock.wall_ms()
        self._oom_kills, self._over_limit = oom_kills(), False
        self._heard_at = self._spawned_at = loop_s()
        self.progress = None
        self.line = Line(self.settings.slots + self.settings.depth)
        try:
            child = await Child.spawn(self._command, self.log, self.settings.address_space, self._heard)
        except OSError as error:
            self.last_error = ErrorInfo(code=Code.model_crashed, message=f"{self.id} cannot be started: {error}")
            self._driver.feed("exited")
            return
        self._child = child
        if self.life.leaving:  # it was stopped while it was being started
            self._end_child("stop")
        loop = asyncio.get_running_loop()
        helpers = [loop.create_task(self._watch(child)), loop.create_task(self._load(child))]
        try:
            code = await child.ended()
        finally:
            for helper in helpers:
                helper.cancel()
        if self._released is not None:
            await self._released(child.pid)
        self._buried(code, started_ms)

    def _end_child(self, why: EventName) -> None:
        if self._child is not None:
            self._driver.spawn(self._child.end(abort=why == "hung"))

    def _buried(self, code: int, started_ms: int) -> None:
        """The process has ended: record how, end its requests, decide what comes next."""
        self._child = None
        if not self.life.leaving:
            known = self.last_error if self.last_error is not None and self.last_error.code == Code.timeout else None
            why = known.message if known else f"the process of {self.id} ended"
            rose = oom_kills() > self._oom_kills
            meaning = verdict(code, oom_rose=rose, hung=known is not None, over_limit=self._over_limit)
            message = f"{why}: {exit_text(code)} ({meaning})"
            self.last_error = ErrorInfo(code=Code.model_crashed, message=message, retryable=True, stderr=tail(self.log))
            lines = tail(self.log, CRASH_LINES)
            self._died(self, Death(code, meaning, self.last_error, len(self._sinks), started_ms, lines))
        error = self._crash()
        sinks, self._sinks = list(self._sinks.values()), {}
        self._driver.feed("exited")
        self.line.break_up(self.id, self.state)
        for sink in sinks:
            sink.failed(error)

    async def _load(self, child: Child) -> None:
        calling = asyncio.ensure_future(child.call(self.load))
        calling.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            while not calling.done():
                # A build or a load may take minutes: it is given up when nothing was heard of it for so long.
                left = self._heard_at + self.settings.start_timeout - loop_s()
                if left <= 0:
                    self._hangs(f"{self.id} was not loaded after {self.settings.start_timeout:g} s")
                    return
                await asyncio.wait((calling,), timeout=left)
            loaded = msgspec.json.decode(calling.result(), type=protocol.LoadResult)
        except AiwmError as error:
            if error.code != Code.connection_lost:
                self.last_error = error.info
                self._driver.feed("refused")
        else:
            self.loaded = loaded
            self._driver.feed("loaded")
        finally:
            calling.cancel()

    # -- watching ----------------------------------------------------------------------------------------------------------

    async def _watch(self, child: Child) -> None:
        """While requests are in it: notice when its steps, or its answers, stand still. (Loading has a time limit of its own.)"""
        limit = self.settings.hang_timeout
        while True:
            while not self._sinks or self.state is ProcessState.starting:
                await self._driver.turn()
            await asyncio.sleep(min(limit / 4, 1.0))
            now = loop_s()
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
        self._driver.feed("hung")

    def _heard(self, _: Peer, message: rpc.Incoming) -> None:
        """A notification. Its sender is our own program, but a damaged line must still harm nobody."""
        try:
            match message.method:
                case protocol.DeltaNote.method:
                    self._delta(msgspec.json.decode(message.params, type=protocol.DeltaNote))
                case protocol.DoneNote.method:
                    self._done(msgspec.json.decode(message.params, type=protocol.DoneNote))
                case protocol.FailedNote.method:
                    failed = msgspec.json.decode(message.params, type=protocol.FailedNote)
                    self._ended(failed.id, lambda sink: sink.failed(AiwmError.of(failed.error)))
                case protocol.StatusNote.method:
                    self._status(msgspec.json.decode(message.params, type=protocol.StatusNote))
                case protocol.ProgressNote.method:
                    self.progress, self._heard_at = (
                        msgspec.json.decode(message.params, type=protocol.ProgressNote),
                        loop_s(),
                    )
                    self._changed(self)
                case protocol.AdapterNote.method:
                    self._adapter(msgspec.json.decode(message.params, type=protocol.AdapterNote))
        except msgspec.ValidationError as error:
            self.last_error = ErrorInfo(code=Code.bad_line, message=f"{self.id} sent a malformed notification: {error}")

    def _delta(self, note: protocol.DeltaNote) -> None:
        self.figures.tokens(self._progress(), note.tokens)
        sink = self._sinks.get(note.id)
        if sink is not None:
            sink.delta(note)

    def _done(self, note: protocol.DoneNote) -> None:
        self.figures.request(note.first_token_ms if note.tokens_out else None, note.total_ms)
        self._ended(note.id, lambda sink: sink.done(note))
        self._driver.feed("served")

    def _ended(self, request_id: str, tell: Callable[[Sink], None]) -> None:
        self._progress()
        sink = self._forget(request_id)
        if sink is not None:
            tell(sink)

    def _status(self, status: protocol.StatusNote) -> None:
        child = self._child
        if child is not None and status.step > child.step:
            self.figures.steps(self._progress(), status.step - child.step)
            child.step = status.step
        self.status = status
        limit = self.settings.memory_limit
        if limit is not None and status.rss_bytes > limit * _OVER_LIMIT and not self._over_limit:
            self._over_limit = True
            self._driver.feed("hung")
        self._changed(self)

    def _adapter(self, note: protocol.AdapterNote) -> None:
        self._noted(self, note)
        status = self.status
        if status is not None and note.event != "refused":
            # The next status says it too; whoever places requests by what is there must not wait for that.
            left = tuple(digest for digest in status.adapters if digest != note.digest)
            adapters = (*left, note.digest) if note.event == "loaded" else left
            self.status = msgspec.structs.replace(status, adapters=adapters)
            self._changed(self)

    def _progress(self) -> float:
        now = loop_s()
        if self._child is not None:
            self._child.progress = now
        return now

    def _forget(self, request_id: str) -> Sink | None:
        sink = self._sinks.pop(request_id, None)
        if sink is not None:
            self.line.leave()
            if not self._sinks:
                self._driver.feed("idle")
        return sink

    # -- errors --------------------------------------------------------------------------------------------------------------

    async def _cancel_quietly(self, request_id: str) -> None:
        if self._child is not None:
            try:
                await self._child.call(protocol.Cancel(request_id))
            except AiwmError:
                pass  # it ended by itself, or the process did

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
