"""What a screen is whose rows are an answer of the engine (`:usage`, `:charts`): data and a few functions, without anything drawn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from aiwm_tui.live.charts import Zoom
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line
from engine.contract.query import Location, Op, SortKey, Term
from engine.contract.records import Record


class AskedScreen(msgspec.Struct, frozen=True):
    """`ask` gets the rows of a location as of a time (Unix ms), `head` says what they are in lines above them, `order` sorts when the
    location does not. `opens` is where ↵ goes from a row; `further` is the location with the next zoom and its name; `next_part` that
    of the next way to look at the same, None where there is one only. Asked again every `again_s`."""

    columns: tuple[Column, ...]
    ask: Callable[[Link, Location, int], Awaitable[Sequence[Record]]]
    head: Callable[[Location, int], list[Line]]
    empty: tuple[Line, ...]
    opens: Callable[[Location, Any, int], str | None]
    further: Callable[[Location], tuple[Location, str]]
    order: tuple[SortKey, ...]
    next_part: Callable[[Location], Location] | None = None
    again_s: float = 2.0


def ordered(rows: Sequence[Record], keys: Sequence[SortKey], columns: Sequence[Column]) -> list[Record]:
    """The rows in an order; keys are attributes that columns show, others are passed over. Nothing known comes last."""
    known = {column.key for column in columns}
    found = sorted(rows, key=lambda row: row.id)
    for key in reversed([key for key in keys if key.field in known]):
        there = [row for row in found if getattr(row, key.field) is not None]
        there.sort(key=lambda row: getattr(row, key.field), reverse=key.descending)
        found = [*there, *(row for row in found if getattr(row, key.field) is None)]
    return found


class Zoomed(msgspec.Struct, frozen=True):
    """How a location says how far back one looks: `since:24h`."""

    zooms: tuple[Zoom, ...]
    usual: Zoom

    def of(self, location: Location) -> Zoom:
        said = said_in(location).get("since")
        return next((zoom for zoom in self.zooms if zoom.name == said), self.usual)

    def further(self, location: Location) -> tuple[Location, str]:
        """The location with the next zoom, and its name."""
        following = self.zooms[(self.zooms.index(self.of(location)) + 1) % len(self.zooms)]
        return with_term(location, "since", following.name), following.name


def said_in(location: Location) -> dict[str, str]:
    """The fields that a location names, with their first values."""
    return {term.field: term.values[0] for term in location.terms if term.field}


def with_term(location: Location, field: str, value: str) -> Location:
    """The location that says this of a field, in place of what it said."""
    others = tuple(term for term in location.terms if term.field != field)
    return msgspec.structs.replace(location, terms=(*others, Term(Op.any_of, (value,), field)))
