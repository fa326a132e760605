"""Requests about adapters: which there are, their versions, which one is current, what the model processes keep of them."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from engine.contract.definitions import AdapterUse
from engine.contract.errors import ErrorInfo
from engine.contract.records import AdapterRow
from engine.contract.requests.base import Request
from engine.contract.states import Effect


class AdapterList(Request[list[AdapterRow]], frozen=True, kw_only=True):
    """Every version of every adapter, all or those that match a filter in the language of locations, such as `state:resident`."""

    method: ClassVar[str] = "adapter.list"
    effect: ClassVar[Effect] = Effect.read

    where: str = ""


class AdapterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter's files say. `features` are what some backends refuse (alpha_pattern, rank_pattern, rslora), `manifest` what
    its manifest.json says, `layers` how many layers of the model it changes."""

    base: str
    rank: int
    alpha: float
    projections: tuple[str, ...]
    layers: int
    tensors: int
    dtype: str
    size_bytes: int
    features: tuple[str, ...] = ()
    manifest: dict[str, Any] = {}


class AdapterDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A version whole. `facts` are None where its files cannot be read; a `problem` says why it is refused. `follow` are the definitions
    that take whatever is current, `pin` those that name this version."""

    row: AdapterRow
    facts: AdapterFacts | None = None
    problem: ErrorInfo | None = None
    parent: str = ""
    source: str = ""
    made_ms: int = 0
    follow: tuple[str, ...] = ()
    pin: tuple[str, ...] = ()


class AdapterInspect(Request[AdapterDetail], frozen=True, kw_only=True):
    """One version of an adapter (`invoice-de@v3`), or its current one: what its files say, what is wrong with it, who uses it."""

    method: ClassVar[str] = "adapter.inspect"
    effect: ClassVar[Effect] = Effect.read

    name: str


class Reign(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which a version was the current one; `to_ms` is None while it is. `by` is aiwm where nobody chose."""

    from_ms: int
    to_ms: int | None
    by: str
    reason: str = ""


class AdapterVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an adapter's history. `tasks`, `ok` (the share that succeeded) and `tokens_out_p50` are of all its records that are
    kept; `running` are tasks that run with it now."""

    name: str
    version: int
    current: bool
    state: str
    made_ms: int
    by: str
    parent: str
    digest: str
    tasks: int
    ok: float | None
    tokens_out_p50: float | None
    running: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()
    reigns: tuple[Reign, ...] = ()
    note: str = ""


class AdapterVersions(Request[list[AdapterVersion]], frozen=True, kw_only=True):
    """The versions of an adapter, the newest first: when each came and was current, and how its tasks ended."""

    method: ClassVar[str] = "adapter.versions"
    effect: ClassVar[Effect] = Effect.read

    name: str


class AdapterAdd(Request[AdapterDetail], frozen=True, kw_only=True):
    """Register a PEFT directory as the next version of an adapter (default: called like the directory). Its files stay where they are and
    must not change; `copy` copies them into the home. `parent` is the version that it was made from, `current` makes it the current one.
    Content that is there already keeps its version."""

    method: ClassVar[str] = "adapter.add"
    effect: ClassVar[Effect] = Effect.write

    path: str
    name: str = ""
    parent: str = ""
    copy: bool = False
    current: bool = False
    reason: str = ""


class AdapterRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """`path` is where its files stay."""

    name: str
    path: str


class AdapterRemove(Request[AdapterRemoved], frozen=True, kw_only=True):
    """Forget a version that was registered, or whose files are gone. No file is removed."""

    method: ClassVar[str] = "adapter.remove"
    effect: ClassVar[Effect] = Effect.destructive

    name: str


class AdapterUsed(msgspec.Struct, frozen=True, kw_only=True):
    """`before` was the current version, `after` is (with `due_ms`: will be). `operation` takes it back; it is "" for one that was the
    current one already. Those that follow the current one begin with it; `running` are tasks that end with another version, `pinned`
    definitions that name one."""

    operation: str
    name: str
    before: str
    after: str
    due_ms: int | None = None
    running: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()


class AdapterChoose(Request[AdapterUsed], frozen=True, kw_only=True):
    """Make a version the current one (`invoice-de@v2`). Whoever follows the current one begins with it; what runs ends with what it
    began with. It is an operation: `aiwm operation undo` takes it back."""

    method: ClassVar[str] = "adapter.use"
    effect: ClassVar[Effect] = Effect.write

    name: str
    reason: str = ""
    delay_ms: int = 0


class AdapterPinned(msgspec.Struct, frozen=True, kw_only=True):
    """The adapters of a definition now. `operation` takes the change back."""

    operation: str
    definition: str
    adapters: tuple[AdapterUse, ...]


class AdapterPin(Request[AdapterPinned], frozen=True, kw_only=True):
    """Let a worker definition use an adapter: `invoice-de@v3` pins that version, `invoice-de` follows the current one. It replaces what
    the definition says of this adapter; `remove` takes it out. Tasks that start from now on use it."""

    method: ClassVar[str] = "adapter.pin"
    effect: ClassVar[Effect] = Effect.write

    definition: str
    name: str
    weight: float | None = None
    remove: bool = False
    reason: str = ""


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one adapter: `ready` in a process of `model`, or there was no room for it."""

    name: str
    digest: str
    model: str
    ready: bool


class AdapterPrefetch(Request[list[Brought]], frozen=True, kw_only=True):
    """Bring adapters into the processes of their base model (or of `model`) before a task needs them. With `keep` they stay until they
    are evicted by hand."""

    method: ClassVar[str] = "adapter.prefetch"
    effect: ClassVar[Effect] = Effect.write

    names: tuple[str, ...]
    model: str = ""
    keep: bool = False


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one adapter: `evicted` somewhere, `in_use` by a request that it stays for; neither: it was nowhere."""

    name: str
    digest: str
    evicted: bool
    in_use: bool


class AdapterEvict(Request[list[Left]], frozen=True, kw_only=True):
    """Drop adapters from every model process, kept ones too. Those of running requests stay."""

    method: ClassVar[str] = "adapter.evict"
    effect: ClassVar[Effect] = Effect.write

    names: tuple[str, ...]


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """The adapter cache of one model process since its model was loaded. `hit_rate` and `prefetch_rate` are shares of the uses (None: there
    were none), `load_ms_p95` of the last hour's cold loads."""

    id: str
    model: str
    entries: int
    max_entries: int
    bytes: int
    max_bytes: int
    staged_bytes: int
    hits: int
    misses: int
    prefetch_hits: int
    wasted: int
    evictions: int
    refusals: int
    loads: int
    hit_rate: float | None
    prefetch_rate: float | None
    load_ms_mean: float | None
    load_ms_p95: float | None
    evictions_1h: int
    misses_by_minute: tuple[int, ...] = ()


class AdapterStats(Request[list[CacheStats]], frozen=True, kw_only=True):
    """The adapter caches, one a model process: entries, bytes, hits, misses, prefetches, evictions, load times."""

    method: ClassVar[str] = "adapter.stats"
    effect: ClassVar[Effect] = Effect.read

    process: str = ""
