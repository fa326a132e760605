"""A model in a server program that is not ours (llama-server, vLLM, …), started, watched and unloaded as our own processes are; what is
asked of it goes over its OpenAI interface. One that runs already is only looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import msgspec

from engine.contract.definitions import Backend, ModelDefinition
from engine.contract.records import ModelRow
from engine.home import log_path
from engine.inference.commands.server import CommandServer, ServerSettings
from engine.inference.launch import settings_of
from engine.inference.local import House
from engine.inference.memory.host import CPU, resident
from engine.inference.memory.ledger import Use
from engine.inference.process_rows import state_of
from engine.inference.served import Process, Served
from engine.inference.settings import ProcessSettings
from engine.inference.supervision import ProcessState
from engine.ports import Delta, GenerateRequest, Generation, Outcome, ReplicaState, Reservation

Text = Callable[[ModelDefinition], Served]
"""Gives what asks a server at a url for text."""


class ServerProcess:
    """A `CommandServer` as a `served.Process`."""

    def __init__(self, server: CommandServer) -> None:
        self.server = server
        self._idle_since = 0.0
        self._starting: asyncio.Future[str] | None = None

    @property
    def id(self) -> str:
        return self.server.id

    @property
    def pid(self) -> int | None:
        return self.server.pid

    @property
    def up(self) -> bool:
        return self.server.up

    @property
    def requests(self) -> int:
        return self.server.requests

    @property
    def startable(self) -> bool:
        coming = self._starting is not None and not self._starting.done()
        down = self.server.state in (ProcessState.stopped, ProcessState.failed)
        return down and not self.server.life.alive and not coming

    @property
    def idle_s(self) -> float | None:
        return _now() - self._idle_since if self.server.state is ProcessState.ready else None

    def rested(self) -> None:
        """It has nothing to do since now."""
        self._idle_since = _now()

    def start(self) -> None:
        self._starting = asyncio.ensure_future(self.server.ready())
        self._starting.add_done_callback(lambda done: done.cancelled() or done.exception())

    def drain(self) -> None:
        self.server.drain()

    def stop(self) -> None:
        self.server.stop()

    async def stopped(self) -> None:
        await self.server.stopped()


class CommandModel:
    """See `served.Managed`. Raises bad_request for a command that can never be run."""

    def __init__(
        self, definition: ModelDefinition, stem: str, house: House, settings: ServerSettings, text: Text
    ) -> None:
        self.definition = definition
        self.held = self.waits = self.refused = ""
        self.keep_ms: int | None = None
        self.context_override = 0
        self.gpus = definition.devices
        self._house = house
        self._text = text
        self._asked: Served | None = None
        self._url = ""
        self._published: ReplicaState | None = None
        self._wanted = False  # somebody counts on it: a server that is not ours is looked for
        identifier = f"{stem}.0"
        self.server = CommandServer(
            identifier,
            definition,
            settings,
            clock=house.clock,
            log=log_path(house.home, identifier),
            changed=self._changed,
        )
        self._process = ServerProcess(self.server)

    # -- served ----------------------------------------------------------------------------------------------------------

    @property
    def context(self) -> int | None:
        return self.server.context

    async def generate(self, request: GenerateRequest, reservation: Reservation) -> Generation:
        await self.ready()
        asked = self._at(await self.server.ready())
        self.server.begin()
        try:
            return _Counted(await asked.generate(request, reservation), self)
        except BaseException:
            self.server.end(served=False)
            raise

    async def ready(self) -> None:
        if self._process.startable:
            await self._house.admit(self, self._process)
        await self.server.ready()

    def rows(self) -> list[ModelRow]:
        state: str = self.server.state
        if self.server.state is ProcessState.stopped:
            if not self.held and not self.waits and not self.refused:
                return []
            state = state_of(self)
        error = self.server.last_error
        troubled = self.server.state in (ProcessState.backoff, ProcessState.failed)
        return [
            ModelRow(
                id=self.server.id,
                model=self.definition.name,
                state=state,
                backend=self.definition.backend,
                where=",".join(self._devices()),
                running=self.server.requests,
                waiting=0,
                slots=self.server.slots if self.server.up else 0,
                tokens_per_s=self.tokens_per_second(),
                steps_per_s=0.0,
                weights_bytes=0,
                kv_bytes=0,
                kv_used_bytes=0,
                rss_bytes=sum(use.rss for use in self.uses()),
                adapters=0,
                restarts=self.server.life.restarts,
                since_ms=self.server.since_ms,
                pid=self.server.pid,
                note=self.held
                or self.waits
                or self.refused
                or (error.message if error is not None and troubled else ""),
                path=self.definition.path,
                url=self.server.url,
                context=self.server.context,
                estimate_bytes=self._house.sizes.estimate(self.definition, self.settings).total,
                latency_ms=self._latency(),
                idle_ms=-1 if self.settings.idle is None else int(self.settings.idle * 1000),
                keep_until_ms=self.keep_ms,
            )
        ]

    def announce(self) -> None:
        self._published = None
        self._wanted = True
        self.publish()

    def tokens_per_second(self) -> float:
        return self._asked.tokens_per_second() if self._asked is not None else 0.0

    async def close(self, grace: float = 0.0) -> None:
        self._wanted = False
        if grace > 0 and self.server.requests:
            self.server.drain()
        else:
            self.server.stop()
        await self.server.stopped()
        if self._asked is not None:
            await self._asked.close()

    # -- managed ---------------------------------------------------------------------------------------------------------

    @property
    def processes(self) -> list[Process]:
        return [self._process]

    @property
    def settings(self) -> ProcessSettings:
        own = replace(
            settings_of(self.definition, self._house.defaults), slots=self.server.slots, context=self.server.context
        )
        # One that is not ours takes no memory of ours, and is not ours to unload.
        return own if self.server.starts else replace(own, idle=None)

    def grow(self) -> Process | None:
        """It has one server, which does as many requests at once as it likes."""
        return None

    def wants(self, process: Process) -> bool:
        return process is self._process

    def uses(self) -> list[Use]:
        if not self.server.starts or not self.server.life.alive:
            return []
        estimate = self._house.sizes.estimate(self.definition, self.settings)
        pid = self.server.pid
        rss = resident(pid) if pid is not None else 0
        return [Use(self.server.id, pid, self._devices(), estimate, loaded=self.server.up, rss=rss)]

    def changed(self, definition: ModelDefinition) -> None:
        """A server keeps what it was started with: the service makes another one."""
        self.definition = definition

    def publish(self) -> None:
        adopted = not self.server.starts
        if adopted and self._wanted and not self.held and self._process.startable:
            self._process.start()
        # On a server that is not ours nothing may count before it was seen: each try would cost a task an attempt.
        unseen = adopted and not self.server.up
        resting = unseen or self.server.state in (ProcessState.backoff, ProcessState.draining)
        total = 0 if resting or self.held or self.waits else self.server.slots
        why, until_ms = self.held or self.waits, None
        if not why and unseen:
            why = f"{self.server.url} is looked for"
        if self.server.state is ProcessState.backoff and self.server.last_error is not None:
            why = self.server.last_error.message[:300]
            until_ms = self.server.since_ms + int(self.server.life.rest * 1000)
        state = ReplicaState(
            model=self.definition.name,
            replica=self.server.id,
            total=total,
            latency_ms=self._latency(),
            why=why,
            until_ms=until_ms,
        )
        if state != self._published:
            self._published = state
            self._house.publish(state)

    # -- inside ----------------------------------------------------------------------------------------------------------

    def ended(self, *, served: bool) -> None:
        """A request has ended."""
        self.server.end(served=served)
        if not self.server.requests:
            self._process.rested()
            self._house.rested()

    def _changed(self, _: CommandServer) -> None:
        if self.server.state is ProcessState.ready and not self.server.requests:
            self._process.rested()
        self.publish()
        self._house.server_told(self, self.server)

    def _at(self, url: str) -> Served:
        """What asks the server where it listens now: each life has a port of its own."""
        if self._asked is None or url != self._url:
            self._url = url
            remote = self.definition.remote or self.definition.name
            self._asked = self._text(
                msgspec.structs.replace(self.definition, backend=Backend.openai, url=url, remote=remote, command=())
            )
        return self._asked

    def _devices(self) -> tuple[str, ...]:
        if not self.server.starts:
            return ("net",)
        return tuple(f"GPU{number}" for number in self.definition.devices) or (CPU,)

    def _latency(self) -> float:
        rows = self._asked.rows() if self._asked is not None else []
        return rows[0].latency_ms if rows else 0.0


class _Counted:
    """A generation whose end its server hears of (`ports.Generation`)."""

    def __init__(self, generation: Generation, model: CommandModel) -> None:
        self._generation = generation
        self._model = model
        self._over = False

    async def __aiter__(self) -> AsyncIterator[Delta]:
        served = False
        try:
            async for delta in self._generation:
                yield delta
            served = True
        finally:
            self._end(served=served)

    @property
    def outcome(self) -> Outcome:
        return msgspec.structs.replace(self._generation.outcome, process=self._model.server.id)

    async def cancel(self) -> None:
        await self._generation.cancel()
        self._end(served=False)

    def _end(self, *, served: bool) -> None:
        if not self._over:
            self._over = True
            self._model.ended(served=served)


def _now() -> float:
    return asyncio.get_running_loop().time()
