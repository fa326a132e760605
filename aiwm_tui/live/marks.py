"""Which rows of a table are marked: some by their ids, or all that match but some. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec


class Marks(msgspec.Struct, frozen=True):
    """`ids` are marked, or with `everything` the only ones that are not. `last` is the one marked last: a range begins there."""

    ids: frozenset[str] = frozenset()
    everything: bool = False
    last: str = ""

    def __bool__(self) -> bool:
        return self.everything or bool(self.ids)

    def __contains__(self, identifier: object) -> bool:
        return (identifier in self.ids) != self.everything

    def toggled(self, identifier: str) -> Marks:
        """One more or one less."""
        return Marks(self.ids ^ {identifier}, self.everything, identifier)

    def through(self, identifiers: Iterable[str], last: str) -> Marks:
        """These as well; a range goes on from `last`."""
        some = frozenset(identifiers)
        return Marks(self.ids - some if self.everything else self.ids | some, self.everything, last)

    def all_or_none(self) -> Marks:
        return Marks() if self.everything and not self.ids else Marks(everything=True)

    def count(self, matched: int) -> int:
        """How many are marked of so many that match."""
        return max(0, matched - len(self.ids)) if self.everything else len(self.ids)

    def named(self, filter_text: str) -> dict[str, Any]:
        """What names the marked rows in a request; {} when nothing is marked."""
        if not self.everything:
            return {"ids": tuple(sorted(self.ids))} if self.ids else {}
        # Everything, said in the language of filters: no filter would name nothing.
        but = f"!id:{','.join(sorted(self.ids))}" if self.ids else ""
        return {"where": " ".join(part for part in (filter_text, but) if part) or "id:*"}
