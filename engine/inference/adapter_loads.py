"""How adapters come into a model process and leave it: the cache decides, the loader's thread reads and uploads, the backend attaches
and detaches between two steps.

Requests come first. The adapters of a request whose turn has come are read at once, and the others that nobody uses leave for them;
a prefetch takes free room only, or, for the request that is next in line, that of adapters which no request here waits for. Never does
an adapter leave that a running request uses. All methods belong to the stepper's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.inference.adapter_cache import AdapterCache
from engine.inference.adapter_loader import Loader
from engine.inference.backends.base import AdapterRef, Backend, Broken, ResidentAdapter, StagedAdapter
from engine.inference.protocol import AdapterNote, EvictResult, PrefetchResult

T = TypeVar("T")
Cause = Literal["request", "prefetch", "next", "keep"]
Readiness = Literal["ready", "coming", "no room"]
Answer = Callable[[PrefetchResult | AiwmError], None]


@dataclass(slots=True)
class _Prefetch:
    """One prefetch under way. `pending` are those that have not come as far as they can, `error` is the first that came of any."""

    digests: tuple[str, ...]
    pending: set[str]
    cause: Cause
    answer: Answer
    error: AiwmError | None = None


@dataclass(frozen=True)
class _Timed(Generic[T]):
    value: T
    ms: float


class AdapterLoads:
    """The adapters of one loaded model. `waiting` gives the digests of requests that wait for their turn, `refused` hears of an adapter
    that cannot be loaded, `tell` gets notes."""

    def __init__(
        self,
        backend: Backend,
        cache: AdapterCache,
        loader: Loader,
        *,
        waiting: Callable[[], Collection[str]],
        refused: Callable[[AdapterRef, AiwmError], None],
        tell: Callable[[AdapterNote], None],
    ) -> None:
        self.cache = cache
        self._backend = backend
        self._loader = loader
        self._waiting = waiting
        self._refused = refused
        self._tell = tell
        self._staged: dict[str, _Timed[StagedAdapter]] = {}
        self._causes: dict[str, Cause] = {}  # of those on their way
        self._prefetches: list[_Prefetch] = []
        self._closed = False

    def close(self, error: AiwmError) -> None:
        """The model goes. The loader must have settled."""
        self._closed = True
        for prefetch in self._prefetches:
            prefetch.answer(error)

    # -- requests ----------------------------------------------------------------------------------------------------------

    def bring(self, refs: Iterable[AdapterRef], ahead: Collection[str]) -> Readiness:
        """Do what is missing for these adapters of one request to be resident together, sparing those of requests `ahead` of it.
        Raises AiwmError when they never can be."""
        wanted = {ref.digest: ref for ref in refs}
        self.cache.check_together(wanted)
        readiness: Readiness = "ready"
        for digest, ref in wanted.items():
            match self.cache.state(digest):
                case "absent":
                    self._read(ref, "request")
                    readiness = "coming"
                case "reading" | "uploading":
                    self._loader.hurry(digest)
                    readiness = "coming"
                case "staged":
                    if not self._make_room(digest, {*wanted, *ahead}):
                        return "no room"
                    self._upload(digest, "request")
                    readiness = "coming"
        return readiness

    def forsaken(self) -> None:
        """Requests that waited have gone: what nobody wants any more is not read."""
        wanted = self._wanted()
        for digest, cause in list(self._causes.items()):
            read_for_them = cause == "request" and self.cache.state(digest) == "reading"
            if read_for_them and digest not in wanted and self._loader.forget(digest):
                del self._causes[digest]
                self.cache.drop(digest)
        self._trim()

    def pending(self) -> set[str]:
        """The adapters that prefetches under way have not done with."""
        return {digest for prefetch in self._prefetches for digest in prefetch.pending}

    def _wanted(self) -> set[str]:
        return {*self._waiting(), *self.pending()}

    # -- prefetches and evictions --------------------------------------------------------------------------------------------

    def prefetch(self, refs: Sequence[AdapterRef], answer: Answer, *, next: bool = False, keep: bool = False) -> None:
        """See `protocol.Prefetch`. Raises bad_request."""
        cause: Cause = "keep" if keep else "next" if next else "prefetch"
        wanted = {ref.digest: ref for ref in refs}
        if keep:
            self.cache.check_keep(wanted)
        for digest, ref in wanted.items():
            if self.cache.state(digest) == "absent":
                self._read(ref, cause)
        self._prefetches.append(_Prefetch(tuple(wanted), set(wanted), cause, answer))
        self._settle()

    def evict(self, digests: Iterable[str]) -> EvictResult:
        """Drop these, unless requests use or need them."""
        evicted, in_use = [], []
        wanted = self._wanted()
        for digest in dict.fromkeys(digests):
            state = self.cache.state(digest)
            if state == "absent":
                continue
            if digest in wanted or state not in ("resident", "staged"):
                in_use.append(digest)
                continue
            evicted.append(digest)
            if state == "resident":
                self._detach(digest, "asked")
            else:
                self._drop(digest)
        return EvictResult(evicted=tuple(evicted), in_use=tuple(in_use))

    def _settle(self) -> None:
        """Take every prefetch as far as it comes, and answer those that have come so far."""
        if self._closed:
            return
        for prefetch in self._prefetches:
            prefetch.pending -= {digest for digest in prefetch.digests if self._advance(digest, prefetch)}
        settled = [prefetch for prefetch in self._prefetches if not prefetch.pending]
        self._prefetches = [prefetch for prefetch in self._prefetches if prefetch.pending]
        self._trim()
        for prefetch in settled:
            prefetch.answer(prefetch.error or self._result(prefetch))

    def _advance(self, digest: str, prefetch: _Prefetch) -> bool:
        """Whether this adapter of a prefetch has come as far as it can."""
        if digest not in prefetch.pending:
            return True
        state = self.cache.state(digest)
        if state == "staged" and self._may_place(digest, prefetch):
            self._upload(digest, prefetch.cause)
            return False
        if prefetch.cause == "keep" and state in ("resident", "pinned"):
            self.cache.keep(digest)
        return state not in ("reading", "uploading")

    def _may_place(self, digest: str, prefetch: _Prefetch) -> bool:
        if prefetch.cause == "prefetch":
            return self.cache.has_room(digest)
        return self._make_room(digest, {*self._waiting(), *prefetch.digests})

    def _result(self, prefetch: _Prefetch) -> PrefetchResult:
        states = {digest: self.cache.state(digest) for digest in prefetch.digests}
        return PrefetchResult(
            ready=tuple(digest for digest, state in states.items() if state in ("resident", "pinned")),
            staged=tuple(digest for digest, state in states.items() if state == "staged"),
        )

    # -- one adapter's way ---------------------------------------------------------------------------------------------------

    def _read(self, ref: AdapterRef, cause: Cause) -> None:
        self.cache.read(ref.digest, ref.name, prefetched=cause != "request")
        self._causes[ref.digest] = cause
        backend = self._backend
        self._loader.ask(
            ref.digest,
            lambda: _timed(lambda: backend.stage(ref)),
            lambda result: self._was_read(ref, result),
            urgent=cause == "request",
        )

    def _was_read(self, ref: AdapterRef, result: _Timed[StagedAdapter] | Exception) -> None:
        if self._closed:
            return
        try:
            if isinstance(result, Exception):
                raise result
            self.cache.check_size(ref.name, result.value.resident_bytes)
        except Broken:
            raise
        except Exception as error:
            self._refuse(ref, error)
        else:
            self._staged[ref.digest] = result
            self.cache.stage(ref.digest, result.value.size_bytes, result.value.resident_bytes)
        self._settle()

    def _upload(self, digest: str, cause: Cause) -> None:
        """Room was made."""
        staged = self._staged.pop(digest)
        ref, backend, adapter = staged.value.ref, self._backend, staged.value
        self.cache.place(digest)
        self._causes[digest] = cause
        self._loader.ask(
            digest,
            lambda: _timed(lambda: backend.upload(adapter)),
            lambda result: self._was_uploaded(ref, staged.ms, result),
            urgent=cause == "request",
        )

    def _was_uploaded(self, ref: AdapterRef, ms: float, result: _Timed[ResidentAdapter] | Exception) -> None:
        if self._closed:
            return
        if isinstance(result, Broken):
            raise result
        if isinstance(result, Exception):
            self._refuse(ref, result)
        else:
            self._backend.attach(result.value)
            self.cache.arrive(ref.digest, ms + result.ms)
            self._tell(
                AdapterNote(
                    event="loaded",
                    name=ref.name,
                    digest=ref.digest,
                    cause=self._causes.pop(ref.digest),
                    size_bytes=self.cache.size(ref.digest),
                    ms=ms + result.ms,
                )
            )
        self._settle()

    def _refuse(self, ref: AdapterRef, cause: Exception) -> None:
        error = _named(ref, cause)
        self.cache.refuse(ref.digest)
        self._tell(
            AdapterNote(
                event="refused",
                name=ref.name,
                digest=ref.digest,
                cause=self._causes.pop(ref.digest),
                error=error.info,
            )
        )
        for prefetch in self._prefetches:
            if ref.digest in prefetch.pending:
                prefetch.error = prefetch.error or error
        self._refused(ref, error)

    def _make_room(self, digest: str, protected: Collection[str]) -> bool:
        leaving = self.cache.room_for(digest, protected)
        for old in leaving or ():
            self._detach(old, "room")
        return leaving is not None

    def _detach(self, digest: str, cause: str) -> None:
        name, size = self.cache.name(digest), self.cache.size(digest)
        self._backend.detach(digest)
        self.cache.leave(digest)
        self._tell(AdapterNote(event="evicted", name=name, digest=digest, cause=cause, size_bytes=size))

    def _drop(self, digest: str) -> None:
        del self._staged[digest]
        self._causes.pop(digest, None)
        self.cache.drop(digest)

    def _trim(self) -> None:
        for digest in self.cache.excess(self._wanted()):
            self._drop(digest)


def _timed(work: Callable[[], T]) -> _Timed[T]:
    started = time.perf_counter()
    value = work()
    return _Timed(value, (time.perf_counter() - started) * 1000)


def _named(ref: AdapterRef, cause: Exception) -> AiwmError:
    """What went wrong with this adapter, as an answer that names it."""
    if isinstance(cause, AiwmError):
        known = cause.info.message
        message = known if ref.name in known else f"adapter {ref.name}: {known}"
        return AiwmError.of(msgspec.structs.replace(cause.info, message=message, field="adapters"))
    if isinstance(cause, MemoryError):
        return AiwmError(
            Code.model_too_big,
            f"there is no memory for adapter {ref.name}",
            field="adapters",
            fix="lower models.adapter_bytes, or raise the process's memory limit",
            retryable=True,
        )
    return AiwmError(Code.internal, f"adapter {ref.name} could not be loaded: {type(cause).__name__}: {cause}")
