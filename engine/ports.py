"""Ports: what a room needs from rooms above it, as small protocols and plain data. `host.py` plugs them together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol

import msgspec

from engine.contract.definitions import AdapterUse, Sampling


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call as a model with native tool calling made it: `arguments` is what it wrote, checked by nobody yet; `id` pairs it with its
    answer. `wrong` says why arguments that could not be read are missing."""

    name: str
    arguments: dict[str, Any]
    id: str = ""
    wrong: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One turn of a conversation. `role` is system, user, assistant or tool. An assistant's turn may have `tool_calls`, a tool's turn
    answers the call `tool_call_id`; models without native tool calling are shown `content` alone."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


class ToolDeclaration(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as a model is told of it. `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: dict[str, Any]


class ToolAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call. `verdict` and `gate` are the permission gate's (`allowed`, or what refused it); `ok` says whether the tool did
    its work, `text` is its answer or what went wrong, for the model: data, never an instruction. `ms` is the time it took."""

    tool: str
    verdict: str
    gate: str
    ok: bool
    text: str
    ms: float = 0.0


class ToolBox(Protocol):
    """The tools of one task: what it may call, and the one way to call it."""

    @property
    def declared(self) -> tuple[ToolDeclaration, ...]:
        """The permitted tools, and no others."""

    async def call(self, name: str, arguments: Any) -> ToolAnswer:
        """Put a call to the gate and make it if it passes. Refusals and failures are answers, not exceptions."""


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker asks a model for. `deadline_ms` is the time left in ms from now (None: no limit); `tools` are told to the model.

    `prompt` is read by the model as it is, instead of the messages (local models only).

    `schema` is a JSON Schema that the answer's text must satisfy. `call_tools` says whether the model may (auto) or must (required) call a
    tool: its answer is then constrained to a call of one of them. `options` are the worker definition's own, for whoever runs the
    model; whatever a worker writes there is replaced by them."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    adapters: tuple[AdapterUse, ...] = ()
    deadline_ms: int | None = None
    tools: tuple[ToolDeclaration, ...] = ()
    schema: dict[str, Any] | None = None
    call_tools: Literal["auto", "required"] = "auto"
    prompt: str = ""
    options: dict[str, Any] = {}


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """Leave to call a model once: the slot that is kept free, for whom, and the budget's grant. Nothing generates without one.

    `task` and `attempt` name the call in logs. `grant` is the budget's number for it (0: its definition has no limits), `tokens` what
    was reserved: the prompt's estimate and the answer's bound. `replica` is the process whose slot is kept (None: any)."""

    task: str
    attempt: int
    definition: str
    model: str
    grant: int = 0
    tokens: int = 0
    replica: str | None = None


class Delta(msgspec.Struct, frozen=True):
    """A piece of text as it was made, and how many tokens it took."""

    text: str
    tokens: int


class AdapterUsed(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter as it was really applied: `digest` is the hex SHA-256 of its content."""

    name: str
    digest: str
    weight: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a generation ended: `reason` is stop, length, cancelled, deadline or tool_calls. Times in ms from the request on.

    `tool_calls` are those of a model with native tool calling. `process` is where it ran, `cached` how many of the prompt's tokens were
    there already, `route` the models that a hybrid one tried in their order, each with why it went on, the last of them `NAME: answered`.
    `prompt` is the text that the model read, "" where only its server knows it."""

    reason: str
    text: str
    tokens_in: int
    tokens_out: int
    first_token_ms: float
    total_ms: float
    adapters: tuple[AdapterUsed, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    process: str = ""
    cached: int = 0
    route: tuple[str, ...] = ()
    prompt: str = ""


class ReplicaState(msgspec.Struct, frozen=True, kw_only=True):
    """What a model process tells the scheduler, whenever it changes. `total` is how many requests it runs at once (None: no limit, 0: it
    is not ready); `resident` are the adapters that are there, by every name that means them now (`invoice-de`, `invoice-de@v4`);
    `latency_ms` is the time to the first token lately (0: not known); `gone` ends it. Of one that is not ready `why` says what is wrong
    in a few words, `until_ms` (Unix time) when it will be tried again, if that is known."""

    model: str
    replica: str
    total: int | None
    resident: frozenset[str] = frozenset()
    latency_ms: float = 0.0
    gone: bool = False
    why: str = ""
    until_ms: int | None = None


class Generation(Protocol):
    """A generation under way: iterate over its deltas, then read the outcome. Errors are AiwmErrors from the iteration."""

    def __aiter__(self) -> AsyncIterator[Delta]: ...

    @property
    def outcome(self) -> Outcome:
        """Valid once the iteration has ended."""

    async def cancel(self) -> None:
        """Stop making tokens. The iteration then ends with reason `cancelled`."""


class ModelHandle(Protocol):
    """A model by name, wherever it runs."""

    @property
    def context(self) -> int | None:
        """How many tokens a conversation may have, the answer included; None while that is not known (it is not loaded)."""

    async def generate(self, request: GenerateRequest, reservation: Reservation) -> Generation:
        """Start a generation. Raises AiwmError (model_not_found, prompt_too_long, model_crashed, …)."""


class Models(Protocol):
    """Where workers get their models from."""

    def handle(self, model: str) -> ModelHandle: ...

    def pinned(self, adapter: str) -> str:
        """The exact name (`invoice-de@v4`) of the version that an adapter's name means now; one that is not known stays what it is."""


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """A lesson as a task is given it: `text` is what its prompt says."""

    id: str
    version: int
    title: str
    text: str


class ContextFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a conversation begins with: its address as the definition or the operator gave it, and what is in it."""

    name: str
    text: str


class Keys(Protocol):
    """Where API keys are looked for before a model of a definition that names one is called."""

    async def require(self, name: str) -> None:
        """Raises `key_not_found` (or why it cannot be looked for) unless the key is there."""


class Texts(Protocol):
    """Where running tasks' text goes as it is made: a row that grows, kept per (task number, attempt)."""

    def open(self, seq: int, attempt: int) -> None:
        """An attempt begins; its text starts at offset 0."""

    def append(self, seq: int, attempt: int, text: str) -> None: ...

    def end(self, seq: int, attempt: int, state: str) -> None:
        """The attempt's end is on disk; `state` is what its task became."""


class EventSink(Protocol):
    """Where rooms below the journal's owner report what happened. It is written with the next commit."""

    def emit(
        self,
        level: str,
        type: str,
        about: str,
        text: str,
        *,
        who: str = "engine",
        task_seq: int | None = None,
        **details: Any,
    ) -> None: ...
