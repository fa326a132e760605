"""Requests about adapters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.query import matches, parse
from engine.contract.records import AdapterRow
from engine.contract.requests import adapters as requests
from engine.control.adapters.changes import Choosing, Pinning
from engine.control.adapters.standing import Standing
from engine.control.catalogue import Catalogue
from engine.control.undertakings import Undertakings
from engine.inference.adapters.book import AdapterBook
from engine.inference.adapters.known import Known, Resolved
from engine.inference.adapters.spelling import exact
from engine.requests.caller import Caller
from engine.requests.table import RequestTable


class Loading(Protocol):
    """Whoever runs the model processes: brings adapters into them and drops them."""

    def check(self, model: str) -> None:
        """Raises model_not_found."""

    async def keep_adapters(self, model: str, names: tuple[str, ...], *, keep: bool) -> tuple[str, ...]:
        """Bring adapters into every process of a model that is up; the digests of those that are ready somewhere."""

    async def evict(self, digests: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Let adapters go from every process: the digests of those that went, and of those that are in use."""


class AdapterOperations:
    """`changed` tells the views that rows may look different."""

    def __init__(
        self,
        book: AdapterBook,
        standing: Standing,
        loading: Loading,
        undertakings: Undertakings,
        catalogue: Catalogue,
        clock: Clock,
        changed: Callable[[], None],
        choosing: Choosing,
        pinning: Pinning,
    ) -> None:
        self._book = book
        self._standing = standing
        self._loading = loading
        self._undertakings = undertakings
        self._catalogue = catalogue
        self._clock = clock
        self._changed = changed
        undertakings.reversible[requests.AdapterChoose.method] = choosing
        undertakings.reversible[requests.AdapterPin.method] = pinning

    def register(self, table: RequestTable) -> None:
        table.register(requests.AdapterList, self.list_)
        table.register(requests.AdapterInspect, self.inspect)
        table.register(requests.AdapterVersions, self.versions)
        table.register(requests.AdapterAdd, self.add)
        table.register(requests.AdapterRemove, self.remove)
        table.register(requests.AdapterChoose, self.use)
        table.register(requests.AdapterPin, self.pin)
        table.register(requests.AdapterPrefetch, self.prefetch)
        table.register(requests.AdapterEvict, self.evict)
        table.register(requests.AdapterStats, self.stats)

    async def list_(self, request: requests.AdapterList, _: Caller) -> list[AdapterRow]:
        await self._book.refresh()
        await self._standing.fresh()
        text = request.where.strip()
        location = parse(text if text.startswith(":adapters") else f":adapters {text}")
        now = self._clock.wall_ms()
        return [row for row in self._standing.rows() if matches(location, row, now)]

    async def inspect(self, request: requests.AdapterInspect, _: Caller) -> requests.AdapterDetail:
        await self._book.refresh()
        await self._standing.fresh()
        return self._detail(self._book.get(request.name))

    async def versions(self, request: requests.AdapterVersions, _: Caller) -> list[requests.AdapterVersion]:
        await self._book.refresh()
        return await self._standing.versions(request.name)

    async def add(self, request: requests.AdapterAdd, caller: Caller) -> requests.AdapterDetail:
        path = Path(request.path)
        if not path.is_absolute():
            raise AiwmError(Code.bad_request, f"{request.path} is not an absolute path", field="path")
        name = request.name or path.name.partition("@")[0]
        known = await self._book.add(path, name, caller.principal, parent=request.parent, copy=request.copy)
        if request.current and not known.current:
            settings = {"name": known.name, "reason": request.reason}
            await self._undertakings.begin(
                requests.AdapterChoose.method, caller.principal, settings=settings, reason=request.reason
            )
        return self._detail(self._book.get(known.name))

    async def remove(self, request: requests.AdapterRemove, caller: Caller) -> requests.AdapterRemoved:
        known = await self._book.forget(request.name, caller.principal)
        return requests.AdapterRemoved(name=known.name, path=known.version.path)

    async def use(self, request: requests.AdapterChoose, caller: Caller) -> requests.AdapterUsed:
        await self._book.refresh()
        known = self._book.get(request.name)
        name, before = known.adapter.name, known.adapter.current
        if known.current and not request.delay_ms:
            return requests.AdapterUsed(operation="", name=name, before=known.name, after=known.name)
        operation, _ = await self._undertakings.begin(
            request.method,
            caller.principal,
            settings={"name": known.name, "reason": request.reason},
            reason=request.reason,
            delay_ms=request.delay_ms,
        )
        pins = {pin for it in self._book.versions(name) for pin in self._standing.named_by(it)[1]}
        return requests.AdapterUsed(
            operation=operation.id,
            name=name,
            before=exact(name, before) if before else "",
            after=known.name,
            due_ms=operation.due_ms,
            running=self._standing.running_with_others(known.adapter, known.version.n),
            pinned=tuple(sorted(pins)),
        )

    async def pin(self, request: requests.AdapterPin, caller: Caller) -> requests.AdapterPinned:
        if request.weight is not None and not -100 <= request.weight <= 100:
            raise AiwmError(
                Code.bad_request, f"weight is {request.weight}, but must lie between -100 and 100", field="weight"
            )
        await self._book.refresh()
        settings = {
            "definition": request.definition,
            "name": request.name,
            "weight": request.weight,
            "remove": request.remove,
        }
        operation, _ = await self._undertakings.begin(
            request.method, caller.principal, settings=settings, reason=request.reason
        )
        adapters = self._catalogue.worker(request.definition).adapters
        return requests.AdapterPinned(operation=operation.id, definition=request.definition, adapters=adapters)

    async def prefetch(self, request: requests.AdapterPrefetch, _: Caller) -> list[requests.Brought]:
        by_model: dict[str, list[Resolved]] = {}
        for it in await self._resolved(request.names):
            by_model.setdefault(request.model or self._base(it.name), []).append(it)
        found = []
        for model, adapters in by_model.items():
            self._check_up(model)
            names = tuple(it.name for it in adapters)
            ready = await self._loading.keep_adapters(model, names, keep=request.keep)
            found += [
                requests.Brought(name=it.name, digest=it.digest, model=model, ready=it.digest in ready)
                for it in adapters
            ]
        self._changed()
        return found

    def _check_up(self, model: str) -> None:
        """Raise what is wrong with asking the processes of a model for anything."""
        self._loading.check(model)
        if not self._standing.is_up(model):
            raise AiwmError(
                Code.model_unavailable,
                f"no process of {model} is up",
                field="model",
                fix=f"aiwm model load {model}",
                retryable=True,
            )

    async def evict(self, request: requests.AdapterEvict, _: Caller) -> list[requests.Left]:
        resolved = await self._resolved(request.names)
        evicted, in_use = await self._loading.evict(tuple(it.digest for it in resolved))
        self._changed()
        return [
            requests.Left(name=it.name, digest=it.digest, evicted=it.digest in evicted, in_use=it.digest in in_use)
            for it in resolved
        ]

    async def stats(self, request: requests.AdapterStats, _: Caller) -> list[requests.CacheStats]:
        found = self._standing.stats()
        if request.process and not any(it.id == request.process for it in found):
            raise AiwmError(
                Code.not_found, f'no process "{request.process[:80]}" is up', field="process", fix="aiwm model ps"
            )
        return [it for it in found if request.process in ("", it.id)]

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _resolved(self, names: tuple[str, ...]) -> list[Resolved]:
        if not names:
            raise AiwmError(Code.bad_request, "name at least one adapter", field="names", fix="aiwm adapter list")
        try:
            return [await self._book.resolve(name) for name in dict.fromkeys(names)]
        except AiwmError as error:
            raise AiwmError.of(msgspec.structs.replace(error.info, field="names")) from None

    def _base(self, name: str) -> str:
        base = self._book.get(name).base
        if not base:
            raise AiwmError(
                Code.bad_request, f"{name} does not say for which model it was made", field="model", fix="--model NAME"
            )
        return base

    def _detail(self, known: Known) -> requests.AdapterDetail:
        uses, pin = self._standing.named_by(known)
        facts = known.facts
        return requests.AdapterDetail(
            row=self._standing.row(known),
            facts=None if facts is None else requests.AdapterFacts(**msgspec.structs.asdict(facts)),
            problem=known.problem,
            parent=known.version.parent,
            source=known.version.source,
            made_ms=known.version.at_ms,
            follow=tuple(it for it in uses if it not in pin),
            pin=pin,
        )
