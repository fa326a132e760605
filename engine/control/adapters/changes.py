"""Choosing an adapter's current version, and what a definition uses: changes that an operation does and takes back."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.definitions import AdapterUse, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.control.catalogue import Catalogue
from engine.control.definer import Definer
from engine.control.definitions import Kind
from engine.inference.adapters.book import AdapterBook
from engine.inference.adapters.spelling import exact, spelled


class Choosing:
    """`adapter.use` (`reversible.Reversible`)."""

    def __init__(self, book: AdapterBook) -> None:
        self._book = book

    def before(self, settings: dict[str, Any]) -> dict[str, Any]:
        known = self._book.get(settings["name"])
        if known.problem is not None:
            raise AiwmError.of(msgspec.structs.replace(known.problem, field="name"))
        return {"current": known.adapter.current}

    async def do(self, settings: dict[str, Any], by: str) -> str:
        before, after = await self._book.choose(settings["name"], by, settings.get("reason", ""))
        name = (spelled(settings["name"]) or (settings["name"],))[0]
        return f"{name} v{before} → v{after}" if before != after else f"{name} is v{after} already"

    async def undo(self, settings: dict[str, Any], before: dict[str, Any], by: str) -> str:
        known, current = self._book.get(settings["name"]), before["current"]
        name = known.adapter.name
        if not current:
            raise AiwmError(Code.conflict, f"{name} had no current version before", field="id")
        await self._book.choose(exact(name, current), by, "taken back", expected=known.version.n)
        return f"{name} v{known.version.n} → v{current}"


class Pinning:
    """`adapter.pin` (`reversible.Reversible`): what a worker definition says of one adapter."""

    def __init__(self, book: AdapterBook, catalogue: Catalogue, definer: Definer) -> None:
        self._book = book
        self._catalogue = catalogue
        self._definer = definer

    def before(self, settings: dict[str, Any]) -> dict[str, Any]:
        worker = self._worker(settings["definition"])
        if not settings.get("remove"):
            problem = self._book.get(settings["name"]).problem
            if problem is not None:
                raise AiwmError.of(msgspec.structs.replace(problem, field="name"))
        elif not _of(worker.adapters, settings["name"]):
            raise AiwmError(
                Code.not_found,
                f"{worker.name} uses no adapter {settings['name'][:80]}",
                field="name",
                fix="adapter list",
            )
        return {"adapters": msgspec.to_builtins(worker.adapters)}

    async def do(self, settings: dict[str, Any], by: str) -> str:
        del by  # the operation's own event says who

        def amend(worker: WorkerDefinition) -> WorkerDefinition:
            return msgspec.structs.replace(worker, adapters=_pinned(worker.adapters, settings))

        await self._definer.amend(Kind.worker, settings["definition"], amend, "")
        return f"{settings['definition']} uses {_text(self._worker(settings['definition']).adapters)}"

    async def undo(self, settings: dict[str, Any], before: dict[str, Any], by: str) -> str:
        del by
        old = msgspec.convert(before["adapters"], tuple[AdapterUse, ...])
        expected = _pinned(old, settings)

        def amend(worker: WorkerDefinition) -> WorkerDefinition:
            if worker.adapters != expected:
                raise AiwmError(
                    Code.conflict, f"{worker.name} was changed since: it uses {_text(worker.adapters)}", field="id"
                )
            return msgspec.structs.replace(worker, adapters=old)

        await self._definer.amend(Kind.worker, settings["definition"], amend, "")
        return f"{settings['definition']} uses {_text(old)}"

    def _worker(self, name: str) -> WorkerDefinition:
        try:
            return self._catalogue.worker(name)
        except AiwmError as error:
            raise AiwmError(error.code, error.info.message, field="definition", fix=error.info.fix) from None


def _pinned(uses: tuple[AdapterUse, ...], settings: dict[str, Any]) -> tuple[AdapterUse, ...]:
    """What these become by `adapter.pin`: the adapter keeps its place, and its weight if none is said."""
    name, weight = settings["name"], settings.get("weight")
    others = tuple(use for use in uses if use not in _of(uses, name))
    if settings.get("remove"):
        return others
    old = next(iter(_of(uses, name)), AdapterUse(name=name))
    use = AdapterUse(name=name, weight=old.weight if weight is None else weight)
    place = uses.index(old) if old in uses else len(others)
    return (*others[:place], use, *others[place:])


def _of(uses: tuple[AdapterUse, ...], name: str) -> tuple[AdapterUse, ...]:
    """What is said of the adapter that a name belongs to, whatever version it names."""
    wanted = spelled(name)
    return tuple(
        use for use in uses if (it := spelled(use.name)) is not None and wanted is not None and it.name == wanted.name
    )


def _text(uses: tuple[AdapterUse, ...]) -> str:
    return ", ".join(f"{use.name}" + (f"×{use.weight:g}" if use.weight != 1 else "") for use in uses) or "no adapter"
