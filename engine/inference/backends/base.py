"""What every in-process backend offers the model process, and the data that passes between them.

A backend is synchronous and driven by one thread, the stepper. Only `plan`, `prepare` and `stage` may be called from another
thread at the same time: they read files and tokenise, and touch nothing that a step uses.

An adapter goes stage (read and checked, host memory) → upload (in the form the arithmetic wants) → attach (requests may name
it) → detach. A request goes prepare → admit → some steps → `Finished`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from engine.contract.errors import AiwmError

FinishReason = Literal["stop", "length", "cancelled", "deadline"]


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """`slots` requests run at once, each with room for `context` tokens (None: what the model was made for)."""

    model: Path
    slots: int
    context: int | None = None


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a load would take, from file headers alone. All sizes in bytes. `reason` and `advice` say why it does not fit and what
    to do instead."""

    parameters: int
    weights_bytes: int
    kv_bytes: int
    scratch_bytes: int
    available_bytes: int
    fits: bool
    reason: str | None = None
    advice: str | None = None

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.scratch_bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    backend: str
    context: int
    slots: int
    parameters: int
    weights_bytes: int
    kv_bytes: int
    vocabulary: int
    chat_template: bool


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """An adapter as a request names it: `digest` identifies the content, `weight` scales its effect (1.0 = as trained)."""

    name: str
    path: Path
    digest: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """`temperature` 0 is greedy. `seed` None draws one. `stop` strings end the text and are not part of it."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int = 256
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """Either `prompt` (used as it is) or `messages` (rendered by the model's chat template, which is told of `tools`)."""

    id: str
    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    adapters: tuple[AdapterRef, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that passed every check that needs no slot: rendered, tokenised, and short enough."""

    request: Request
    prompt: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StagedAdapter:
    """An adapter read, checked against the model and held in host memory. `content` is the backend's own."""

    ref: AdapterRef
    size_bytes: int
    content: object


@dataclass(frozen=True, slots=True)
class ResidentAdapter:
    """An adapter in the form that a step uses. `content` is the backend's own."""

    ref: AdapterRef
    size_bytes: int
    content: object


@dataclass(frozen=True, slots=True)
class Delta:
    """Text that became final in one step. `tokens` counts the tokens sampled since the last delta; those after the last one
    are only in `Finished.tokens_out`."""

    id: str
    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    id: str
    reason: FinishReason
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class Failed:
    """This request, and only this one, cannot go on. `error` is an AiwmError."""

    id: str
    error: AiwmError


Event = Delta | Finished | Failed


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Bytes held now. `kv_bytes` is reserved address space, `kv_used_bytes` what requests fill of it."""

    weights_bytes: int
    kv_bytes: int
    kv_used_bytes: int
    adapters_bytes: int


class Backend(Protocol):
    """See the module's text for the order of calls and for what other threads may call."""

    name: str

    def plan(self, spec: LoadSpec) -> MemoryPlan:
        """Estimate a load. Raises model_not_found, model_invalid."""

    def load(self, spec: LoadSpec) -> Loaded:
        """Load, replacing what was loaded. Raises model_not_found, model_invalid, model_too_big."""

    def unload(self) -> None:
        """Drop the model, its cache and its adapters. Requests in flight are forgotten."""

    def prepare(self, request: Request) -> Prepared:
        """Render and tokenise. Raises bad_request, prompt_too_long."""

    def stage(self, ref: AdapterRef) -> StagedAdapter:
        """Read and check an adapter. Raises adapter_not_found, adapter_invalid, adapter_unsupported."""

    def upload(self, staged: StagedAdapter) -> ResidentAdapter: ...

    def attach(self, resident: ResidentAdapter) -> None:
        """Let requests use it, by digest. Attaching what is attached changes nothing."""

    def detach(self, digest: str) -> int:
        """Drop an adapter that no admitted request uses; the bytes freed, 0 if it was not attached."""

    def admit(self, prepared: Prepared) -> bool:
        """Take a request into the batch; False when no slot is free. Its adapters must be attached."""

    def cancel(self, request_id: str, reason: FinishReason = "cancelled") -> Finished | None:
        """End a request now; what it finished with, or None if it is not in the batch."""

    def step(self) -> list[Event]:
        """One pass over the weights: at most one new token for every running request. Empty when nothing runs."""

    def active(self) -> int:
        """How many requests hold a slot."""

    def memory(self) -> MemoryReport: ...
