"""A model behind an address as the rooms above see it: calls, its state for the scheduler, its row."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from engine.clock import Clock
from engine.contract.definitions import Backend, ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.models import host_of, url_fault
from engine.contract.records.models import ModelRow
from engine.inference.meter import Meter
from engine.inference.remote.anthropic import Anthropic
from engine.inference.remote.connection import Connection
from engine.inference.remote.generation import Call, End, Reader, RemoteGeneration
from engine.inference.remote.health import Health, RemoteState
from engine.inference.remote.openai import OpenAI
from engine.inference.remote.options import RemoteOptions, named, read_options
from engine.inference.remote.refusals import Server
from engine.inference.remote.settings import RemoteSettings
from engine.inference.remote.turns import Resting, Turns
from engine.ports import AdapterUsed, EventSink, GenerateRequest, ReplicaState, Reservation
from engine.secret import Secret

_LATENCIES = 64
_AGAIN_MS = 60_000

Publish = Callable[[ReplicaState], None]


class Keys(Protocol):
    """Where keys come from."""

    def resolve(self, name: str, host: str) -> Secret | None:
        """The key for a host; None for one that needs none. Blocks. Raises key_refused, key_not_found."""


class RemoteModel:
    """A model that a server runs (`ports.ModelHandle`). One object a model; nothing is opened before the first call."""

    def __init__(
        self,
        definition: ModelDefinition,
        settings: RemoteSettings,
        *,
        keys: Keys,
        clock: Clock,
        events: EventSink,
        publish: Publish,
        changed: Callable[[], None],
    ) -> None:
        self.definition = definition
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._events = events
        self._publish = publish
        self._changed = changed
        self._dialect = _dialect(definition)
        self._connection = Connection(self._dialect.address, settings.timeouts)
        self._server = Server(definition.name, host_of(definition.url), definition.key)
        health = Health(settings.backoff_ms, settings.max_backoff_ms)
        self._turns = Turns(health, clock, self._moved, self._connection.reachable)
        self._running: set[RemoteGeneration] = set()
        self._state = RemoteState.ready
        self._since_ms = clock.wall_ms()
        self._note = ""
        self._told_at: dict[str, int] = {}
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._rate = Meter()

    @property
    def context(self) -> int | None:
        return self.definition.context or None

    @property
    def state(self) -> ReplicaState:
        """What the scheduler is told."""
        turns, name = self._turns, self.definition.name
        total, left = turns.health.total(turns.now(), self.definition.slots or None), turns.resting()
        return ReplicaState(
            model=name,
            replica=name,
            total=total,
            latency_ms=self._latency(),
            why=f"{turns.health.state.value}: {self._note}"[:300] if left else "",
            until_ms=self._clock.wall_ms() + left if left else None,
        )

    @property
    def resting_ms(self) -> int:
        """How long the server is still left alone."""
        return self._turns.resting()

    def announce(self) -> None:
        """Publish its state again."""
        self._publish(self.state)

    async def generate(self, request: GenerateRequest, reservation: Reservation) -> RemoteGeneration:
        """Start a call; what goes wrong with the server comes from the iteration. Raises AiwmError for what cannot be sent."""
        definition, dialect = self.definition, self._dialect
        wrong = url_fault(definition.url)
        if reservation.model != definition.name:
            message = f"{reservation.task} has leave to call {reservation.model}, not {definition.name}"
            raise AiwmError(Code.internal, message)
        if wrong or not definition.remote:
            raise AiwmError(Code.model_invalid, f"{definition.name}: {wrong or 'has no remote name'}", field="url")
        if request.prompt:
            raise AiwmError(
                Code.bad_request,
                f"{definition.name} takes messages: only local models read a raw prompt",
                field="prompt",
            )
        options = read_options(definition.metadata, request.options)
        remote = named(definition.name, definition.remote, request.adapters, options)
        secret = await self._secret()
        body = _sent(dialect.body(request, remote), options)
        call = Call(
            server=self._server,
            request=request,
            headers={"content-type": "application/json", **dialect.headers(secret)},
            body=msgspec.json.encode(body),
            secret=secret,
            adapters=tuple(AdapterUsed(name=use.name, digest="", weight=use.weight) for use in request.adapters),
            deadline_ms=request.deadline_ms,
        )
        generation = RemoteGeneration(
            call,
            dialect.reader(request, secret),
            self._connection,
            turn=lambda: self._turns.wait(generation, definition.name),
            counted=self._count,
            ended=lambda end: self._ended(generation, end),
            wall_ms=self._clock.wall_ms,
            most_wait_ms=self._settings.most_wait_ms,
        )
        self._running.add(generation)
        self._changed()
        return generation

    def rows(self) -> list[ModelRow]:
        """Its one row. `note` is the last trouble, and when it is tried again."""
        state, left, definition = self._turns.health.state, self._turns.resting(), self.definition
        note = self._note
        if state is not RemoteState.ready:
            note = f"{f'again in {left / 1000:.0f} s' if left else 'tried by the next call'}: {note}"
        return [
            ModelRow(
                id=definition.name,
                model=definition.name,
                state="busy" if self._running and state is RemoteState.ready else state.value,
                backend=definition.backend.value,
                where="net",
                running=len(self._running),
                waiting=0,
                slots=definition.slots,
                tokens_per_s=self.tokens_per_second(),
                steps_per_s=0.0,
                weights_bytes=0,
                kv_bytes=0,
                kv_used_bytes=0,
                rss_bytes=0,
                adapters=0,
                restarts=0,
                since_ms=self._since_ms,
                pid=None,
                note=note,
                url=definition.url,
                context=definition.context,
                latency_ms=round(self._latency(), 1),
            )
        ]

    def tokens_per_second(self) -> float:
        """Over the last 10 s; where the server counts at the end only, four characters are one."""
        return self._rate.per_second(self._turns.now() / 1000)

    async def close(self, grace: float = 0.0) -> None:
        """Stop; calls under way get `grace` seconds to end."""
        if self._running and grace > 0:
            await asyncio.wait([asyncio.ensure_future(it.over()) for it in self._running], timeout=grace)
        for generation in list(self._running):
            await generation.cancel()
        self._turns.close()
        await self._connection.close()

    # -- inside --------------------------------------------------------------------------------------------------------------

    async def _secret(self) -> Secret | None:
        key = self.definition.key
        if not key:
            return None
        secret = await asyncio.to_thread(self._keys.resolve, key, self._server.host)
        if secret is not None and not (secret.reveal().isascii() and secret.reveal().isprintable()):
            raise AiwmError(
                Code.key_refused,
                f'the key "{key}" has characters that no header can carry',
                field="key",
                fix=f"aiwm key set {key}",
            )
        return secret

    def _count(self, tokens: int) -> None:
        self._rate.count(self._turns.now() / 1000, tokens)

    def _ended(self, generation: RemoteGeneration, end: End) -> None:
        self._running.discard(generation)
        if end.first_ms:
            self._latencies.append(end.first_ms)
        if end.error is None and end.heard:
            self._note = ""
        elif end.error is not None and not isinstance(end.error, Resting):
            self._note = end.error.info.message
        self._turns.ended(generation, end.error, heard=end.heard)
        self._changed()

    def _moved(self) -> None:
        """Health changed, or a rest is over."""
        before, self._state = self._state, self._turns.health.state
        name, left = self.definition.name, self._turns.resting()
        if self._state is not before:
            self._since_ms = self._clock.wall_ms()
            if self._state is not RemoteState.ready:
                self._tell("warn", self._state.value, f"{self._note} (again in {left / 1000:.0f} s)")
            else:
                self._note = ""
                self._tell("info", "ready", f"{name} answers again")
        self.announce()
        self._changed()

    def _tell(self, level: str, what: str, text: str) -> None:
        """An event. A server at its limit says so again and again: the same within a minute is told once."""
        now = self._turns.now()
        if now - self._told_at.get(what, -_AGAIN_MS) >= _AGAIN_MS:
            self._told_at[what] = now
            self._events.emit(level, f"model.{what}", self.definition.name, text)

    def _latency(self) -> float:
        """The 95th percentile of the last times to the first text, ms; 0 while there are none."""
        if not self._latencies:
            return 0.0
        ordered = sorted(self._latencies)
        return ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]


class Dialect(Protocol):
    """A protocol as one server is spoken to in it."""

    address: str

    def headers(self, secret: Secret | None) -> dict[str, str]: ...
    def body(self, request: GenerateRequest, remote: str) -> dict[str, object]: ...
    def reader(self, request: GenerateRequest, secret: Secret | None, /) -> Reader: ...


def _dialect(definition: ModelDefinition) -> Dialect:
    return Anthropic(definition.url) if definition.backend is Backend.anthropic else OpenAI(definition.url)


def _sent(body: dict[str, object], options: RemoteOptions) -> dict[str, object]:
    """The body with what the definition adds and leaves out. What makes it an answer that we can read stays."""
    body = {name: value for name, value in body.items() if name not in options.omit}
    return {**body, **options.body, "stream": True}
