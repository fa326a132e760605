"""Remote models without an engine: one against a loopback server, and everything that it told."""

from __future__ import annotations

from typing import Any

import pytest

from engine.clock import SystemClock
from engine.contract.definitions import Backend, ModelDefinition, Sampling
from engine.contract.errors import AiwmError, Code
from engine.inference.remote.connection import Timeouts
from engine.inference.remote.model import RemoteModel
from engine.inference.remote.settings import RemoteSettings
from engine.ports import GenerateRequest, Generation, Message, ReplicaState, Reservation
from engine.secret import Secret
from tests.support.loopback import Loopback
from tests.support.models import Events

KEY = "sk-loopback-0123456789abcdefghijklmnopqrstuvwxyz"
BOTH_PROTOCOLS = pytest.mark.parametrize("backend", [Backend.openai, Backend.anthropic])


class Ring:
    """Keys for one host. `asked` are (name, host)."""

    def __init__(self, host: str, text: str = KEY) -> None:
        self.asked: list[tuple[str, str]] = []
        self._host = host
        self._text = text

    def resolve(self, name: str, host: str) -> Secret | None:
        self.asked.append((name, host))
        if host != self._host:
            raise AiwmError(Code.key_refused, f'the key "{name}" may not be sent to {host}', field="key")
        return Secret(self._text)


class Far:
    """A remote model on a server. Times are short: nothing here waits for a real server."""

    def __init__(
        self,
        server: Loopback,
        *,
        backend: Backend = Backend.openai,
        first_byte: float = 20.0,
        idle: float = 20.0,
        backoff_ms: int = 30,
        **definition: Any,
    ) -> None:
        self.events = Events()
        self.told: list[ReplicaState] = []
        self.changes = 0
        self.ring = Ring(server.host)
        fields = {"name": "far", "backend": backend, "url": server.url, "remote": "far-1", **definition}
        self.model = RemoteModel(
            ModelDefinition(**fields),
            RemoteSettings(Timeouts(2.0, first_byte, idle), backoff_ms, 500, 60_000, 0.2),
            keys=self.ring,
            clock=SystemClock(),
            events=self.events,
            publish=self.told.append,
            changed=self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    async def start(self, *messages: Message | str, sampling: Sampling | None = None, **request: Any) -> Generation:
        """Begin a call; plain texts are the user's."""
        turns = tuple(
            Message(role="user", content=message) if isinstance(message, str) else message
            for message in messages or ("What is 2+2?",)
        )
        return await self.model.generate(
            GenerateRequest(messages=turns, sampling=sampling or Sampling(max_tokens=50), **request),
            Reservation(task="t-1", attempt=1, definition="w", model=self.model.definition.name),
        )

    async def ask(self, *messages: Message | str, **more: Any) -> tuple[str, Any]:
        """The text as it was streamed, and the outcome."""
        generation = await self.start(*messages, **more)
        text = "".join([delta.text async for delta in generation])
        return text, generation.outcome

    async def trouble(self, *messages: Message | str, **more: Any) -> AiwmError:
        """How a call fails."""
        try:
            said = await self.ask(*messages, **more)
        except AiwmError as error:
            return error
        raise AssertionError(f"it answered: {said}")
