"""A backend without arithmetic, and a loader that loads when it is told to: for tests of what stands around them. Both check the rules
of `backends.base` as they are used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from engine.contract.errors import AiwmError, Code
from engine.inference.backends.base import (
    AdapterRef,
    Event,
    Finished,
    FinishReason,
    Loaded,
    LoadSpec,
    MemoryPlan,
    MemoryReport,
    Prepared,
    Progress,
    Request,
    ResidentAdapter,
    Sampling,
    StagedAdapter,
    quietly,
)

T = TypeVar("T")


def adapter(digest: str, path: str = "/adapters") -> AdapterRef:
    return AdapterRef(f"name-{digest}", Path(path) / digest, digest)


def prepared(request_id: str, *digests: str, tokens: int = 1) -> Prepared:
    refs = tuple(adapter(digest) for digest in digests)
    request = Request(request_id, prompt="p", adapters=refs, sampling=Sampling(max_tokens=tokens))
    return Prepared(request, "p", (1,))


class ScriptedBackend:
    """An adapter's size is 10, or what `sizes` says; what `unreadable` and `unloadable` name fails. A request runs for its
    `max_tokens` steps."""

    name = "scripted"

    def __init__(self, slots: int, sizes: dict[str, int] | None = None) -> None:
        self.slots = slots
        self.sizes = sizes or {}
        self.unreadable: set[str] = set()
        self.unloadable: set[str] = set()
        self.attached: set[str] = set()
        self.running: dict[str, tuple[Prepared, int]] = {}
        self.admitted_adapters = 0
        self.order: list[str] = []

    def plan(self, spec: LoadSpec) -> MemoryPlan:
        return MemoryPlan(0, 0, 0, 0, 0, True)

    def load(self, spec: LoadSpec, progress: Progress = quietly) -> Loaded:
        return Loaded("scripted", 100, self.slots, 0, 0, 0, 0, False)

    def unload(self) -> None:
        self.attached.clear()
        self.running.clear()

    def prepare(self, request: Request) -> Prepared:
        return Prepared(request, "p", (1,))

    def stage(self, ref: AdapterRef) -> StagedAdapter:
        if ref.digest in self.unreadable:
            raise AiwmError(Code.adapter_invalid, f"adapter {ref.path} has no readable weights", field="adapters")
        size = self.sizes.get(ref.digest, 10)
        return StagedAdapter(ref, size, size, None)

    def upload(self, staged: StagedAdapter) -> ResidentAdapter:
        if staged.ref.digest in self.unloadable:
            raise RuntimeError("the device is on fire")
        return ResidentAdapter(staged.ref, staged.resident_bytes, None)

    def attach(self, resident: ResidentAdapter) -> None:
        self.attached.add(resident.ref.digest)

    def used(self) -> set[str]:
        return {ref.digest for running, _ in self.running.values() for ref in running.request.adapters}

    def detach(self, digest: str) -> int:
        assert digest not in self.used(), f"{digest} is in use"
        self.attached.remove(digest)
        return 10

    def admit(self, prepared: Prepared) -> bool:
        assert len(self.running) < self.slots
        digests = {ref.digest for ref in prepared.request.adapters}
        assert digests <= self.attached
        self.running[prepared.request.id] = (prepared, prepared.request.sampling.max_tokens)
        self.admitted_adapters += len(digests)
        self.order.append(prepared.request.id)
        return True

    def cancel(self, request_id: str, reason: FinishReason = "cancelled") -> Finished | None:
        known = self.running.pop(request_id, None)
        return Finished(request_id, reason, 1, 0) if known else None

    def step(self) -> list[Event]:
        events: list[Event] = []
        for identifier, (running, left) in list(self.running.items()):
            self.running[identifier] = (running, left - 1)
            if left <= 1:
                del self.running[identifier]
                events.append(Finished(identifier, "length", 1, 0))
        return events

    def active(self) -> int:
        return len(self.running)

    def memory(self) -> MemoryReport:
        return MemoryReport(0, 0, 0, 0)


class ScriptedLoader:
    """Work waits until `begin` takes it and `finish` does it."""

    def __init__(self) -> None:
        self.urgent: dict[str, Callable[[], None]] = {}
        self.rest: dict[str, Callable[[], None]] = {}
        self.begun: Callable[[], None] | None = None

    def ask(self, digest: str, work: Callable[[], T], then: Callable[[T | Exception], None], *, urgent: bool) -> None:
        assert digest not in self.urgent
        assert digest not in self.rest

        def piece() -> None:
            result: Any
            try:
                result = work()
            except Exception as error:
                result = error
            then(result)

        (self.urgent if urgent else self.rest)[digest] = piece

    def hurry(self, digest: str) -> None:
        if digest in self.rest:
            self.urgent[digest] = self.rest.pop(digest)

    def forget(self, digest: str) -> bool:
        return (self.urgent.pop(digest, None) or self.rest.pop(digest, None)) is not None

    def settle(self) -> None:
        self.urgent.clear()
        self.rest.clear()
        self.begun = None

    @property
    def busy(self) -> bool:
        return bool(self.begun or self.urgent or self.rest)

    def begin(self) -> None:
        """Take the next piece of work in hand: from now on it cannot be forgotten."""
        queue = self.urgent or self.rest
        if self.begun is None and queue:
            self.begun = queue.pop(next(iter(queue)))

    def finish(self) -> None:
        """Do the piece in hand, or the next."""
        self.begin()
        piece, self.begun = self.begun, None
        if piece:
            piece()

    def finish_all(self) -> None:
        while self.busy:
            self.finish()
