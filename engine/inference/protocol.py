"""What crosses a model process's pipe: JSON-RPC 2.0, one JSON object a line; these structs are the params and results.

Requests go from the engine to the process, notifications the other way. Sizes in bytes, times in ms."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from engine.contract.errors import ErrorInfo


class Turn(msgspec.Struct, frozen=True):
    role: str
    content: str


class AdapterFile(msgspec.Struct, frozen=True):
    """An adapter as the engine resolved it: where it is and what exactly it is."""

    name: str
    path: str
    digest: str
    weight: float = 1.0


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """How text is drawn, see `backends.base.Sampling`."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int = 256
    stop: tuple[str, ...] = ()


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Load a model, replacing the one that is loaded. At most `adapter_slots` adapters of `adapter_bytes` together stay ready."""

    method: ClassVar[str] = "load"

    model: str
    slots: int
    context: int | None = None
    adapter_slots: int = 20
    adapter_bytes: int = 500_000_000


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    backend: str
    context: int
    slots: int
    parameters: int
    weights_bytes: int
    kv_bytes: int
    load_ms: float
    vocabulary: int
    chat_template: bool


class Unload(msgspec.Struct, frozen=True):
    method: ClassVar[str] = "unload"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would a load take?"""

    method: ClassVar[str] = "plan"

    model: str
    slots: int
    context: int | None = None


class PlanResult(msgspec.Struct, frozen=True, kw_only=True):
    parameters: int
    weights_bytes: int
    kv_bytes: int
    scratch_bytes: int
    total_bytes: int
    available_bytes: int
    fits: bool
    reason: str | None = None
    advice: str | None = None


class Prefetch(msgspec.Struct, frozen=True):
    """Make adapters ready before a request needs them, as far as there is room."""

    method: ClassVar[str] = "prefetch"

    adapters: tuple[AdapterFile, ...]


class PrefetchResult(msgspec.Struct, frozen=True):
    """Digests of those that are ready now."""

    ready: tuple[str, ...]


class Generate(msgspec.Struct, frozen=True, kw_only=True):
    """Make text. Either `prompt` or `messages`, with the `tools` that the model may call (functions as chat templates know them).
    `deadline_ms` is the time left from now."""

    method: ClassVar[str] = "generate"

    id: str
    prompt: str | None = None
    messages: tuple[Turn, ...] | None = None
    adapters: tuple[AdapterFile, ...] = ()
    sampling: Draw = Draw()
    deadline_ms: int | None = None
    tools: tuple[dict[str, Any], ...] = ()


class GenerateResult(msgspec.Struct, frozen=True, kw_only=True):
    """The request is in; `prompt` is the text that the model reads."""

    tokens_in: int
    prompt: str


class Cancel(msgspec.Struct, frozen=True):
    method: ClassVar[str] = "cancel"

    id: str


class CancelResult(msgspec.Struct, frozen=True):
    cancelled: bool


class Memory(msgspec.Struct, frozen=True):
    method: ClassVar[str] = "memory"


class MemoryResult(msgspec.Struct, frozen=True, kw_only=True):
    rss_bytes: int
    weights_bytes: int
    kv_bytes: int
    kv_used_bytes: int
    adapters_bytes: int


Request = Load | Unload | Plan | Prefetch | Generate | Cancel | Memory

# -- notifications -------------------------------------------------------------------------------------------------------


class DeltaNote(msgspec.Struct, frozen=True):
    """Text as it was made, and how many tokens were sampled since the last note."""

    method: ClassVar[str] = "delta"

    id: str
    text: str
    tokens: int


class AppliedAdapter(msgspec.Struct, frozen=True):
    name: str
    digest: str
    weight: float


class DoneNote(msgspec.Struct, frozen=True, kw_only=True):
    """A request ended as asked: `reason` is stop, length, cancelled or deadline. Times count from the request's arrival."""

    method: ClassVar[str] = "done"

    id: str
    reason: str
    tokens_in: int
    tokens_out: int
    first_token_ms: float
    total_ms: float
    adapters: tuple[AppliedAdapter, ...] = ()


class FailedNote(msgspec.Struct, frozen=True):
    method: ClassVar[str] = "failed"

    id: str
    error: ErrorInfo


class StatusNote(msgspec.Struct, frozen=True, kw_only=True):
    """Sent when it changes, at most ten times a second, and once a second while requests run: a `step` that stands still
    means the process hangs."""

    method: ClassVar[str] = "status"

    step: int
    active: int
    waiting: int
    slots: int
    tokens_out_total: int
    kv_used_bytes: int
    rss_bytes: int
    adapters: tuple[str, ...] = ()


Note = DeltaNote | DoneNote | FailedNote | StatusNote
