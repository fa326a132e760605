"""What crosses a model process's pipe: JSON-RPC 2.0, one JSON object a line; these structs are the params and results.

Requests go from the engine to the process, notifications the other way. Sizes in bytes, times in ms."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from engine.contract.definitions import Backend, KvPrecision
from engine.contract.errors import ErrorInfo


class Turn(msgspec.Struct, frozen=True):
    role: str
    content: str


class AdapterFile(msgspec.Struct, frozen=True):
    """An adapter as the engine resolved it: where it is and what exactly it is. `marks` are `adapter_files.file_marks` of the files
    that the digest was taken of: while they are the same, the digest is not computed again."""

    name: str
    path: str
    digest: str
    weight: float = 1.0
    marks: tuple[int, ...] = ()


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """How text is drawn, see `backends.base.Sampling`."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int = 256
    stop: tuple[str, ...] = ()


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Load a model, replacing the one that is loaded; fields as in `ModelDefinition`, 0 and empty: the backend chooses. Progress is
    told in `ProgressNote`s.

    At most `adapter_slots` adapters of `adapter_bytes` together stay ready. Prefetched ones for which there is no room wait in the
    host's memory, at most `staged_bytes` of them."""

    method: ClassVar[str] = "load"

    model: str
    slots: int
    backend: Backend = Backend.reference
    context: int | None = None
    devices: tuple[int, ...] = ()
    split: tuple[float, ...] = ()
    kv: KvPrecision = KvPrecision.fp16
    kv_bytes: int = 0
    memory_bytes: int = 0
    adapter_slots: int = 20
    adapter_bytes: int = 500_000_000
    staged_bytes: int = 250_000_000


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """`where` is CPU, or the GPUs it is on."""

    backend: str
    context: int
    slots: int
    parameters: int
    weights_bytes: int
    kv_bytes: int
    load_ms: float
    vocabulary: int
    chat_template: bool
    where: str = "CPU"


class Unload(msgspec.Struct, frozen=True):
    method: ClassVar[str] = "unload"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would a load take? Fields as in `Load`."""

    method: ClassVar[str] = "plan"

    model: str
    slots: int
    backend: Backend = Backend.reference
    context: int | None = None
    devices: tuple[int, ...] = ()
    split: tuple[float, ...] = ()
    kv: KvPrecision = KvPrecision.fp16
    kv_bytes: int = 0
    memory_bytes: int = 0


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


class Prefetch(msgspec.Struct, frozen=True, kw_only=True):
    """Make adapters ready before a request needs them. Without `next` they come as far as there is room; with it they are those of the
    next request in line, for which adapters that nobody uses may leave. With `keep` they also stay until `Evict`, whatever else
    is used. Answered when all of them have come as far as they can."""

    method: ClassVar[str] = "prefetch"

    adapters: tuple[AdapterFile, ...]
    next: bool = False
    keep: bool = False


class PrefetchResult(msgspec.Struct, frozen=True, kw_only=True):
    """Digests of those that are ready now, and of those that wait in the host's memory for room."""

    ready: tuple[str, ...]
    staged: tuple[str, ...] = ()


class Evict(msgspec.Struct, frozen=True, kw_only=True):
    """Drop adapters, kept ones too. Those of running requests stay."""

    method: ClassVar[str] = "evict"

    digests: tuple[str, ...]


class EvictResult(msgspec.Struct, frozen=True, kw_only=True):
    """Digests of those that left and of those that stay because a request uses them; what was not there is in neither."""

    evicted: tuple[str, ...]
    in_use: tuple[str, ...] = ()


class Generate(msgspec.Struct, frozen=True, kw_only=True):
    """Make text. Either `prompt` or `messages`, with the `tools` that the model may call (functions as chat templates know them).
    `deadline_ms` is the time left from now. `schema` and `call_tools` bind the text as in `ports.GenerateRequest`."""

    method: ClassVar[str] = "generate"

    id: str
    prompt: str | None = None
    messages: tuple[Turn, ...] | None = None
    adapters: tuple[AdapterFile, ...] = ()
    sampling: Draw = Draw()
    deadline_ms: int | None = None
    tools: tuple[dict[str, Any], ...] = ()
    schema: dict[str, Any] | None = None
    call_tools: Literal["auto", "required"] = "auto"


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
    """See `backends.base.MemoryReport`; `staged_bytes` are adapters in the host's memory that wait for room."""

    rss_bytes: int
    weights_bytes: int
    kv_bytes: int
    kv_used_bytes: int
    adapters_bytes: int
    staged_bytes: int = 0
    scratch_bytes: int = 0
    allocated_bytes: int = 0
    reserved_bytes: int = 0


Request = Load | Unload | Plan | Prefetch | Evict | Generate | Cancel | Memory

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
    """A request ended as asked: `reason` is stop, length, cancelled or deadline. Times count from the request's arrival. `cached` are
    those of `tokens_in` that were not read again."""

    method: ClassVar[str] = "done"

    id: str
    reason: str
    tokens_in: int
    tokens_out: int
    first_token_ms: float
    total_ms: float
    adapters: tuple[AppliedAdapter, ...] = ()
    cached: int = 0


class FailedNote(msgspec.Struct, frozen=True):
    method: ClassVar[str] = "failed"

    id: str
    error: ErrorInfo


class ProgressNote(msgspec.Struct, frozen=True, kw_only=True):
    """How far a load is: what is being done, and what share of it is done (None: nobody can say)."""

    method: ClassVar[str] = "progress"

    doing: str
    share: float | None = None


class AdapterNote(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened to an adapter. `loaded`: it is ready, `ms` after its files were opened; `cause` is request, prefetch, next or
    keep. `evicted`: it left; `cause` is room or asked. `refused`: it cannot be loaded, `error` says why."""

    method: ClassVar[str] = "adapter"

    event: Literal["loaded", "evicted", "refused"]
    name: str
    digest: str
    cause: str
    size_bytes: int = 0
    ms: float = 0.0
    error: ErrorInfo | None = None


AdapterState = Literal["absent", "reading", "staged", "uploading", "resident", "pinned"]


class CachedAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """One adapter that this process has had to do with since its model was loaded. `users` are running requests with it (pinned means:
    there are some), `kept` says that only `Evict` removes it. `load_ms` is the time from its files to ready, the last time (None: never
    loaded). Counts as in `CacheNote`."""

    digest: str
    name: str
    state: AdapterState
    size_bytes: int
    users: int = 0
    kept: bool = False
    hits: int = 0
    misses: int = 0
    prefetch_hits: int = 0
    evictions: int = 0
    load_ms: float | None = None


class CacheNote(msgspec.Struct, frozen=True, kw_only=True):
    """The adapter cache: most recently used last, absent ones first. Counts since the model was loaded.

    A running request counts each of its adapters once: a hit if it did not have to wait for the adapter, else a miss. `prefetch_hits`
    are the hits that are owed to a prefetch, `wasted` the prefetched adapters that left unused. `resident_bytes` and `staged_bytes`
    are held now, `loaded_bytes` and `load_ms` sums over all `loads`."""

    hits: int = 0
    misses: int = 0
    prefetch_hits: int = 0
    wasted: int = 0
    evictions: int = 0
    refusals: int = 0
    loads: int = 0
    loaded_bytes: int = 0
    load_ms: float = 0.0
    resident_bytes: int = 0
    staged_bytes: int = 0
    max_count: int = 0
    max_bytes: int = 0
    adapters: tuple[CachedAdapter, ...] = ()


class StatusNote(msgspec.Struct, frozen=True, kw_only=True):
    """Sent when it changes, at most ten times a second, and once a second while requests run: a `step` that stands still
    means the process hangs. `adapters` are the digests of those that are ready."""

    method: ClassVar[str] = "status"

    step: int
    active: int
    waiting: int
    slots: int
    tokens_out_total: int
    kv_used_bytes: int
    rss_bytes: int
    adapters: tuple[str, ...] = ()
    cache: CacheNote = CacheNote()


Note = DeltaNote | DoneNote | FailedNote | ProgressNote | AdapterNote | StatusNote
