"""Definitions on disk: what an engine begins with, the entry that a change is, and the few settings that are kept with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError
from engine.contract.states import Durability
from engine.control.bundles.read import FILES, WORKERS_FILE, read_home, read_list
from engine.control.bundles.validate import Prepared
from engine.control.catalogue import SHIPPED, Catalogue
from engine.control.definitions import TYPES, Definitions, Kind, digest
from engine.ports import EventSink
from engine.store import ops
from engine.store.journal import Journal
from engine.store.readers import Readers

_SETTING = "setting"
_FILE_SEEN = "workers_file"

Prepare = Callable[[dict[str, Any], Definitions], Prepared]


class Keeping:
    """Reads the definitions at the start and writes changes of them. Every change is one journal entry, put in force when it is stored.

    The file of worker definitions belongs to the operator: it is read, never written (but for a new home's first). It is read again
    at a start only if it has changed since it was last in force, so that a bundle's worker definitions outlive the engine. Worker
    definitions that were made with a model (`offering`) are stored and stay, whatever the file says of others."""

    def __init__(
        self, home: Path, catalogue: Catalogue, journal: Journal, readers: Readers, clock: Clock, events: EventSink
    ) -> None:
        self.home = home
        self.file = home / WORKERS_FILE
        self._catalogue = catalogue
        self._journal = journal
        self._readers = readers
        self._clock = clock
        self._events = events

    async def begin(self, prepare: Prepare) -> None:
        """Put in force what was in force last, and the file of worker definitions if somebody changed it. If that is broken, there is an
        alarm; a home without any definitions raises its first error."""
        stored = self._stored()
        if not stored.workers:
            await self._begin_new(prepare)
            return
        self._catalogue.activate(stored)
        if not self.file.exists():
            text = "is gone: the worker definitions that were in force last stay so"
            self._events.emit("warn", "worker.file", self.file.name, text)
        elif self.setting(_FILE_SEEN, str) != self._mark():
            await self._begin_with_file(prepare, stored)

    async def _begin_new(self, prepare: Prepare) -> None:
        """A new home begins with the files that lie in it, and with what ships where these say nothing."""
        if not any((self.home / name).exists() for name in FILES.values()):
            # What ships is right, and the first start of a home need not wait for the validator to be imported.
            self._write_shipped()
            await self.change(SHIPPED, self.file_in_force())
            return
        if not self.file.exists():
            self._write_shipped()
        found = prepare(read_home(self.home), Definitions())
        for problem in found.errors:
            if problem.kind in ("worker", ""):
                raise AiwmError.of(problem.info())
            self._events.emit("error", "definition.refused", problem.name, problem.info().message)
        begun = found.valid
        if not begun.pools:
            fitting = {name: pool for name, pool in SHIPPED.pools.items() if pool.definition in begun.workers}
            begun = begun.with_all(Kind.pool, fitting)
        if not begun.queues:
            served = {name: it for name, it in SHIPPED.queues.items() if set(it.pools) <= begun.pools.keys()}
            begun = begun.with_all(Kind.queue, served)
        await self.change(begun, self.file_in_force())

    async def _begin_with_file(self, prepare: Prepare, stored: Definitions) -> None:
        try:
            found = prepare(read_list(self.file, Kind.worker.plural), stored)
            refusals = [problem.info().message for problem in found.errors]
        except AiwmError as error:
            found, refusals = None, [error.info.message]
        for message in refusals:
            self._events.emit("error", "worker.refused", self.file.name, message)
        if found is not None and not refusals:
            await self.change(found.valid, self.file_in_force())

    def restore(self) -> None:
        """Put in force what is stored, as it is."""
        self._catalogue.activate(self._stored())

    async def change(self, after: Definitions, more: tuple[ops.Op, ...] = ()) -> None:
        """Store what differs from what is in force in one entry, then put it in force."""
        entry = (*self._entry(self._catalogue.now, after), *more)
        if entry:
            await self._journal.write(entry, Durability.disk)
        self._catalogue.activate(after)

    async def settled(self) -> None:
        """Everything that was given to the journal before is on disk."""
        await self._journal.write((), Durability.os)

    def file_in_force(self) -> tuple[ops.Op, ...]:
        """To be written with the change that puts the file's definitions in force."""
        return (self._setting(_FILE_SEEN, self._mark()),)

    def setting(self, name: str, kind: Any) -> Any:
        """A kept value, None when there is none."""
        for row in self._readers.definitions(_SETTING):
            if row.name == name:
                return msgspec.json.decode(row.json, type=kind)
        return None

    async def set(self, name: str, value: Any) -> None:
        """Keep a value; None forgets it."""
        op = ops.DeleteDefinition(_SETTING, name) if value is None else self._setting(name, value)
        await self._journal.write((op,), Durability.disk)

    def _setting(self, name: str, value: Any) -> ops.Op:
        return ops.PutDefinition(_SETTING, name, msgspec.json.encode(value), "", self._clock.wall_ms())

    def _mark(self) -> str:
        """What the file of worker definitions says, named: another mark, another content."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()[:16]

    def _stored(self) -> Definitions:
        found = Definitions()
        for kind, type_ in TYPES.items():
            rows = self._readers.definitions(kind.value)
            found = found.with_all(kind, {row.name: msgspec.json.decode(row.json, type=type_) for row in rows})
        return found

    def _entry(self, before: Definitions, after: Definitions) -> list[ops.Op]:
        now = self._clock.wall_ms()
        entry: list[ops.Op] = []
        for kind in Kind:
            old, new = before.of(kind), after.of(kind)
            entry += [
                ops.PutDefinition(kind.value, name, msgspec.json.encode(it), digest(it), now)
                for name, it in new.items()
                if old.get(name) != it
            ]
            entry += [ops.DeleteDefinition(kind.value, name) for name in old if name not in new]
        return entry

    def _write_shipped(self) -> None:
        document = {"workers": [msgspec.to_builtins(worker) for worker in SHIPPED.workers.values()]}
        text = msgspec.json.format(msgspec.json.encode(document), indent=2)
        temporary = self.file.with_suffix(".tmp")
        temporary.write_bytes(text + b"\n")
        temporary.replace(self.file)
