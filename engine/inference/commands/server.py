"""One server behind an address, supervised: a life that `driver.Driver` drives, as `supervisor.ModelProcess` is for our own.

With a command it is a program that we start, on a port of its own; without one it runs already and is only probed (adopted). Text is not
its business: `ready` gives the address that an OpenAI client asks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.clock import Clock
from engine.contract.definitions import ModelDefinition
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.inference.commands.probe import Prober
from engine.inference.commands.program import Program, free_port, memory_held
from engine.inference.commands.words import check_words, environment, fill
from engine.inference.crashes import exit_text
from engine.inference.driver import Driver, loop_s
from engine.inference.memory.words import size_text
from engine.inference.process_log import tail
from engine.inference.supervision import Life, Policy, ProcessState

_NEVER = 2**31


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Times in seconds. `slots` and `context` are what a definition gets that does not say. A server that is up is probed every
    `probe_every`; one that has not been healthy for `hang_timeout` is started again. `hidden` are environment
    variables that no program is given."""

    slots: int = 8
    context: int = 4096
    start_timeout: float = 600.0
    hang_timeout: float = 30.0
    probe_every: float = 5.0
    first_probe: float = 0.1
    grace: float = 5.0
    policy: Policy = field(default_factory=Policy)
    hidden: frozenset[str] = frozenset()


class CommandServer:
    """`changed` is called after every change of state. All methods belong to the loop's thread."""

    def __init__(
        self,
        server_id: str,
        definition: ModelDefinition,
        settings: ServerSettings,
        *,
        clock: Clock,
        log: Path,
        changed: Callable[[CommandServer], None],
    ) -> None:
        """Raises bad_request for a command that can never be run."""
        if definition.command:
            check_words(definition.command)
        self.id = server_id
        self.definition = definition
        self.last_error: ErrorInfo | None = None
        self.last_exit: int | None = None
        self.requests = 0
        self.slots = definition.slots or settings.slots
        self.context = definition.context or settings.context
        self.url = definition.url
        self._settings = settings
        policy = settings.policy if self.starts else _patient(settings)
        self._driver = Driver(
            lambda: policy,
            clock,
            live=self._begin,
            kill=lambda _: self._stopping.set(),
            changed=lambda: changed(self),
        )
        self._log = log
        self._program: Program | None = None
        self._stopping = asyncio.Event()
        self._stops = 0  # how often it was told to: who waits for it meanwhile must not start it again

    # -- what others see -------------------------------------------------------------------------------------------------

    @property
    def starts(self) -> bool:
        """Whether we start it; else it is adopted."""
        return bool(self.definition.command)

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
    def up(self) -> bool:
        return self.state in (ProcessState.ready, ProcessState.busy)

    @property
    def pid(self) -> int | None:
        return self._program.pid if self._program is not None else None

    # -- what others ask for -----------------------------------------------------------------------------------------------

    async def ready(self) -> str:
        """Wait until it takes requests, starting it if need be; its OpenAI address (`http://127.0.0.1:PORT/v1`). Raises what made it fail;
        of an adopted one that is not there, model_unavailable at once, and of one that is stopped meanwhile."""
        stops = self._stops
        while True:
            if self.up:
                return self.url
            if self._stops != stops:
                message = f"{self.id} was stopped before it was ready"
                raise AiwmError(Code.model_unavailable, message, retryable=True)
            away = self.state is ProcessState.backoff and not self.starts
            if (self._driver.recently_failed or away) and self.last_error is not None:
                raise AiwmError.of(self.last_error)
            if not self._driver.feed("wanted"):
                await self._driver.turn()

    def begin(self) -> None:
        """A request goes to it."""
        self.requests += 1
        self._driver.feed("busy")

    def end(self, *, served: bool) -> None:
        """A request has ended; `served` if as it should."""
        self.requests -= 1
        if served:
            self._driver.feed("served")
        if not self.requests:
            self._driver.feed("idle")

    def drain(self) -> None:
        """Take no more requests; stop when the last has ended."""
        self._stops += 1
        self._driver.feed("drain")

    def stop(self) -> None:
        """Stop now. What is asked of it then fails as its connection does. An adopted one is only looked at no more."""
        self._stops += 1
        self._driver.feed("stop")

    async def stopped(self) -> None:
        """Wait until nothing of it runs here."""
        await self._driver.stopped()

    # -- the state machine ---------------------------------------------------------------------------------------------------

    def _begin(self) -> Coroutine[Any, Any, None]:
        self._stopping = asyncio.Event()  # at once: it may be told to stop before its life has begun
        return self._live() if self.starts else self._adopt()

    async def _live(self) -> None:
        """One life of the program, from its start to its end."""
        self.last_error = None
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        try:
            self._program = program = await Program.start(
                self._words(port),
                self._log,
                environment(os.environ, self._settings.hidden, self.definition.devices),
                self._settings.grace,
            )
        except OSError as error:
            self._crashed(f"{self.id} cannot be started: {error}")
            return
        self.url = f"{base}/v1"
        ended = asyncio.ensure_future(program.ended())
        watching = asyncio.ensure_future(self._watch(base))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((ended, watching, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                program.end()
            self.last_exit = await ended
            hung = watching.result() if watching.done() and not watching.cancelled() else ""
        finally:
            for task in (ended, watching, stopping):
                task.cancel()
            program.end()
            self._program = None
        self._crashed(f"{hung or f'the program of {self.id} ended'}: {exit_text(self.last_exit)}")

    async def _adopt(self) -> None:
        """Look at a server that is not ours until it is gone, or nobody wants it any more."""
        watching = asyncio.ensure_future(self._watch(self.definition.url.removesuffix("/v1")))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((watching, stopping), return_when=asyncio.FIRST_COMPLETED)
            reason = watching.result() if watching.done() else ""
        finally:
            for task in (watching, stopping):
                task.cancel()
        self._crashed(reason)

    def _crashed(self, message: str) -> None:
        """It is gone. If that was not asked for, say how."""
        if not self.life.leaving:
            code = Code.model_crashed if self.starts else Code.model_unavailable
            fix = f"aiwm logs {self.id}" if self.starts else "start it; it is looked for again by itself"
            lines = tail(self._log) if self.starts else ()
            self.last_error = ErrorInfo(code=code, message=message, fix=fix, retryable=True, stderr=lines)
        self._driver.feed("exited")

    async def _watch(self, base: str) -> str:
        """Probe until it is ready, then on and on; returns why it is to be given up."""
        settings, prober = self._settings, Prober(base, self.definition.health)
        began = healthy = loop_s()
        try:
            while True:
                reason = await _asked(prober, retry=self.starts and self.state is ProcessState.starting)
                now = loop_s()
                if over := self._over_memory():
                    return over
                if not reason:
                    healthy = now
                    self._driver.feed("loaded")
                    await asyncio.sleep(settings.probe_every)
                elif self.state is ProcessState.starting and self.starts:
                    if now - began > settings.start_timeout:
                        return f"{self.id} was not ready after {settings.start_timeout:g} s ({reason})"
                    await asyncio.sleep(min(settings.first_probe * (1 + now - began), 1.0))
                elif not self.starts or now - healthy > settings.hang_timeout:
                    return reason
                else:
                    await asyncio.sleep(min(settings.probe_every, settings.hang_timeout / 4))
        finally:
            await prober.close()

    def _over_memory(self) -> str:
        """Why it must end, if it holds more than its definition allows."""
        bound = self.definition.memory_bytes
        held = memory_held(self.pid) if bound and self.pid is not None else 0
        return f"{self.id} holds {size_text(held)}, its memory_bytes allow {size_text(bound)}" if held > bound else ""

    def _words(self, port: int) -> list[str]:
        values = {
            "port": str(port),
            "path": self.definition.path,
            "name": self.definition.name,
            "context": str(self.context),
            "slots": str(self.slots),
            "total_context": str(self.context * self.slots),
        }
        return fill(self.definition.command, values)


def _patient(settings: ServerSettings) -> Policy:
    """For a server that is not ours: it is never given up, its operator may start it at any time, and looking costs next to nothing."""
    rest = min(settings.policy.longest_rest, settings.probe_every)
    return replace(settings.policy, max_crashes=_NEVER, longest_rest=rest)


async def _asked(prober: Prober, *, retry: bool) -> str:
    """What a probe found: empty for a ready server. While one is `retry`ing to come up nobody need listen yet."""
    try:
        return await prober.ready()
    except AiwmError as error:
        return "nobody listens yet" if retry else error.info.message
