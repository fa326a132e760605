"""Where the console was: a list of places with a position in it. Pure; going back restores filter, sort and cursor."""

from __future__ import annotations

import msgspec

LIMIT = 200


class Place(msgspec.Struct, frozen=True):
    """A location string and where in it one stood: the row under the cursor, its index, the first row shown."""

    location: str
    cursor: str | None = None
    index: int = 0
    top: int = 0


class History(msgspec.Struct, frozen=True):
    """`places[at]` is where one is; what lies behind it is reached by `back`, what lies before it by `forward`."""

    places: tuple[Place, ...] = ()
    at: int = -1
    previous: int = -1

    @property
    def here(self) -> Place | None:
        return self.places[self.at] if 0 <= self.at < len(self.places) else None

    def go(self, location: str) -> History:
        """A new place after this one; what lay ahead is forgotten. Going where one is changes nothing."""
        if self.here is not None and self.here.location == location:
            return self
        kept = self.places[: self.at + 1][-(LIMIT - 1) :]
        return History((*kept, Place(location)), len(kept), len(kept) - 1)

    def instead(self, location: str) -> History:
        """Another location in place of this one: a changed sort order is no new place."""
        if self.here is None:
            return self.go(location)
        return self.mark(msgspec.structs.replace(self.here, location=location))

    def mark(self, place: Place) -> History:
        """Remember where in this place one stands, before leaving it."""
        if self.here is None:
            return self
        return msgspec.structs.replace(self, places=(*self.places[: self.at], place, *self.places[self.at + 1 :]))

    def back(self) -> History:
        return self._to(self.at - 1)

    def forward(self) -> History:
        return self._to(self.at + 1)

    def toggle(self) -> History:
        """To the place one was before, and back again."""
        return self._to(self.previous)

    def trail(self, most: int = 3) -> list[str]:
        """Where `esc` leads, the nearest first: screens and items without their filters, each once."""
        here = _name(self.here.location) if self.here is not None else ""
        found: list[str] = []
        for place in reversed(self.places[: max(0, self.at)]):
            name = _name(place.location)
            if name != here and name not in found:
                found.append(name)
        return found[:most]

    def _to(self, at: int) -> History:
        if not 0 <= at < len(self.places) or at == self.at:
            return self
        return History(self.places, at, self.at)


def _name(location: str) -> str:
    return location.removeprefix(":").partition(" ")[0]
