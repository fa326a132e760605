"""Cells that several screens share. Each takes a record and the time (Unix ms) and gives text with a style name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.text import Span, clean
from aiwm_tui.states import state_span

Cell = Callable[[Any, int], Span]


def text(attribute: str, style: str = "text", limit: int = 240) -> Cell:
    """An attribute as one clean line; tuples are joined by spaces; nothing is `–`."""

    def cell(row: Any, _: int) -> Span:
        value = getattr(row, attribute)
        if isinstance(value, tuple):
            value = " ".join(value)
        return (clean(str(value), limit), style) if value not in (None, "") else (form.NONE, "faint")

    return cell


def number(attribute: str, write: Callable[[Any], str] = form.count, style: str = "text") -> Cell:
    """A number; zero and nothing are faint so that the others stand out."""

    def cell(row: Any, _: int) -> Span:
        value = getattr(row, attribute)
        return write(value), style if value else "faint"

    return cell


def alarming(attribute: str, style: str = "alert") -> Cell:
    """A count that should be zero."""
    return number(attribute, style=style)


def state(table: str) -> Cell:
    return lambda row, _: state_span(table, row.state)


def since(attribute: str, style: str = "dim") -> Cell:
    """How long ago that was; 0 is no point in time."""
    return lambda row, now: (form.since(getattr(row, attribute) or None, now), style)


def state_column(table: str) -> Column:
    return Column("state", "state", state(table), most=14, value=lambda row: str(row.state))
