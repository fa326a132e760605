"""What every in-process backend offers the model process, and the data that passes between them.

A backend is synchronous and driven by one thread, the stepper. Only `plan`, `prepare`, `stage` and `upload` may be called from
another thread while it steps: they read files, tokenise and copy, and touch nothing that a step uses. None of them runs during
`load` and `unload`.

An adapter goes stage (read and checked, host memory) → upload (in the form and place the arithmetic wants) → attach (requests may
name it) → detach. A request goes prepare → admit → some steps → `Finished`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from engine.contract.definitions import KvPrecision
from engine.contract.errors import AiwmError

FinishReason = Literal["stop", "length", "cancelled", "deadline"]

Progress = Callable[[str, float | None], None]
"""(what a load is doing, the share of it that is done or None)"""


def quietly(doing: str, share: float | None) -> None:
    """A load that nobody watches."""


class Broken(Exception):
    """Raised by a step when the model's state is unknown and only a fresh process helps; this one ends with `exit_code`."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """`slots` requests run at once, each with room for `context` tokens (None: what the model was made for). For backends with devices:
    `devices` by number (none: the backend chooses), `split` GB of weights for each, `kv_bytes` for keys and values (0: what slots and
    context need), `memory_bytes` to take of each device at most (0: no bound). `adapter_bytes` will be wanted for adapters."""

    model: Path
    slots: int
    context: int | None = None
    devices: tuple[int, ...] = ()
    split: tuple[float, ...] = ()
    kv: KvPrecision = KvPrecision.fp16
    kv_bytes: int = 0
    memory_bytes: int = 0
    adapter_slots: int = 20
    adapter_bytes: int = 500_000_000


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
    where: str = "CPU"


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """An adapter as a request names it: `digest` identifies the content, `weight` scales its effect (1.0 = as trained). `marks` as in
    `protocol.AdapterFile`."""

    name: str
    path: Path
    digest: str
    weight: float = 1.0
    marks: tuple[int, ...] = ()


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
    """Either `prompt` (used as it is) or `messages` (rendered by the model's chat template, which is told of `tools`). `schema` and
    `call_tools` bind the text: see `ports.GenerateRequest`."""

    id: str
    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    adapters: tuple[AdapterRef, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    tools: tuple[dict[str, Any], ...] = ()
    schema: dict[str, Any] | None = None
    call_tools: Literal["auto", "required"] = "auto"


class Constraint(Protocol):
    """What the text of one request may be, token by token. Made in `prepare`, then asked on the stepper's thread alone. Both methods
    may raise AiwmError, which fails the request."""

    @property
    def done(self) -> bool:
        """The text is whole and nothing may follow: it ends here."""

    def mask(self) -> bytes | None:
        """What may come next: token t may if bit t % 8 (counted from the lowest) of byte t // 8 is set; tokens beyond the end may not.
        End tokens may where the text may end. None: every token may."""

    def advance(self, token: int) -> None:
        """This token was chosen; never called with an end token."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that passed every check that needs no slot: rendered, tokenised, and short enough."""

    request: Request
    prompt: str
    tokens: tuple[int, ...]
    constraint: Constraint | None = None


@dataclass(frozen=True, slots=True)
class StagedAdapter:
    """An adapter read, checked against the model and held in host memory, where it takes `size_bytes`; ready for requests it will take
    `resident_bytes`. `content` is the backend's own."""

    ref: AdapterRef
    size_bytes: int
    resident_bytes: int
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
    """`cached` of the `tokens_in` were not read again."""

    id: str
    reason: FinishReason
    tokens_in: int
    tokens_out: int
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """This request, and only this one, cannot go on. `error` is an AiwmError."""

    id: str
    error: AiwmError


Event = Delta | Finished | Failed


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Bytes held now. `kv_bytes` is reserved address space, `kv_used_bytes` what requests fill of it. `allocated_bytes` and
    `reserved_bytes` are what an allocator says it handed out and took from the device (0: there is none)."""

    weights_bytes: int
    kv_bytes: int
    kv_used_bytes: int
    adapters_bytes: int
    scratch_bytes: int = 0
    allocated_bytes: int = 0
    reserved_bytes: int = 0


class Backend(Protocol):
    """See the module's text for the order of calls and for what other threads may call."""

    name: str

    def plan(self, spec: LoadSpec) -> MemoryPlan:
        """Estimate a load. Raises model_not_found, model_invalid."""

    def load(self, spec: LoadSpec, progress: Progress = quietly) -> Loaded:
        """Load, replacing what was loaded, and call `progress` on the way. Raises model_not_found, model_invalid, model_too_big,
        backend_unavailable."""

    def unload(self) -> None:
        """Drop the model, its cache and its adapters. Requests in flight are forgotten."""

    def prepare(self, request: Request) -> Prepared:
        """Render, tokenise, and make the constraint of a bound text. Raises bad_request, prompt_too_long, schema_unsupported."""

    def stage(self, ref: AdapterRef) -> StagedAdapter:
        """Read and check an adapter. Raises adapter_not_found, adapter_invalid, adapter_unsupported."""

    def upload(self, staged: StagedAdapter) -> ResidentAdapter:
        """Bring it to where steps use it; it is there when this returns. Room for `resident_bytes` was made before."""

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
