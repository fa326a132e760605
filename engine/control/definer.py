"""Changing definitions: check, store, put in force, announce; one change at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from engine.contract.errors import AiwmError, Code
from engine.contract.partial import merged
from engine.control.catalogue import Catalogue
from engine.control.checks import Surroundings, check, referrers, refuse
from engine.control.definitions import Definition, Definitions, Kind, kind_of
from engine.control.keeping import Keeping
from engine.store import ops

Announce = Callable[[Definitions, Definitions], None]
Amend = Callable[[Any], Any]


class Definer:
    """The one way in which definitions change while an engine runs. Two operators who change one definition do not undo each other's
    half: `changing` is held from reading it to announcing it."""

    def __init__(self, catalogue: Catalogue, keeping: Keeping, around: Surroundings, announce: Announce) -> None:
        self._catalogue = catalogue
        self._keeping = keeping
        self._around = around
        self._announce = announce
        self.changing = asyncio.Lock()

    async def create(self, definition: Definition) -> None:
        """Raises `definition_invalid`, or `conflict` for a name that is taken."""
        kind = kind_of(definition)
        async with self.changing:
            refuse(check(definition, self._catalogue.now, self._around), "definition.")
            if definition.name in self._catalogue.now.of(kind):
                # Worker definitions do not change: another one has another name.
                change = "" if kind is Kind.worker else f"aiwm {kind} update {definition.name} …, or "
                raise AiwmError(
                    Code.conflict,
                    f'{kind} "{definition.name}" exists already',
                    field="definition.name",
                    fix=f"{change}choose another name",
                )
            await self.put_in_force(self._catalogue.now.put(definition))

    async def update(self, kind: Kind, name: str, changes: Any, clear: tuple[str, ...] = ()) -> None:
        """Raises `not_found`, or `definition_invalid` when the whole would not work."""
        await self.amend(kind, name, lambda definition: merged(definition, changes, clear), "changes.")

    async def amend(self, kind: Kind, name: str, amend: Amend, prefix: str | None = None) -> None:
        """Put another one in the place of a definition. With a `prefix` for the fields of its faults it is checked as a whole; without,
        the change is one that cannot go wrong, and must not fail for what was wrong before (pausing a queue)."""
        async with self.changing:
            amended = amend(self._existing(kind, name))
            if prefix is not None:
                refuse(check(amended, self._catalogue.now, self._around), prefix)
            await self.put_in_force(self._catalogue.now.put(amended))

    async def delete(self, kind: Kind, name: str) -> None:
        """Raises `not_found`, or `conflict` naming those that refer to it."""
        async with self.changing:
            self.refuse_if_named(kind, name)
            await self.put_in_force(self._catalogue.now.without(kind, name))

    def refuse_if_named(self, kind: Kind, name: str) -> None:
        """Raise `not_found`, or `conflict` when other definitions name this one."""
        self._existing(kind, name)
        found = referrers(kind, name, self._catalogue.now)
        if found:
            others = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
            raise AiwmError(
                Code.conflict,
                f'{kind} "{name}" is named by {others}',
                field="name",
                fix=f"change or delete first: aiwm {found[0].split(' ')[0]} update {found[0].split(' ')[1]} …",
            )

    async def put_in_force(
        self, after: Definitions, more: tuple[ops.Op, ...] = (), stored: Callable[[], None] = lambda: None
    ) -> None:
        """Store, put in force and announce. `changing` must be held. `more` goes into the same entry, and `stored` is called before the
        announcement: whoever hears it finds both."""
        before = self._catalogue.now
        await self._keeping.change(after, more)
        stored()
        self._announce(before, after)

    def _existing(self, kind: Kind, name: str) -> Any:
        return getattr(self._catalogue, kind.value)(name)
