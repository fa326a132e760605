"""Every field of a row as lines: what the page of one row shows, and the pane beside a table."""

from __future__ import annotations

from typing import Any

import msgspec

from aiwm_tui.live import format as form
from aiwm_tui.live.text import Line, Span, clean
from aiwm_tui.live.wrapping import wrapped
from aiwm_tui.states import state_span
from engine.contract.fields import SPANS
from engine.contract.records import Record

_LABEL = 16


def field_lines(table: str, row: Record, now: int, cells: int, *, empty: bool = True) -> list[Line]:
    """A line for each field, in at most `cells` cells. Without `empty` the fields that say nothing are named together at the end."""
    lines: list[Line] = []
    silent: list[str] = []
    for name in type(row).__struct_fields__:
        value = getattr(row, name)
        if not empty and _says_nothing(value):
            silent.append(_label(name))
            continue
        said = _value(table, name, value, now)
        label = f" {_label(name):<{_LABEL}}" if len(_label(name)) < _LABEL else f" {_label(name)} "
        lines += wrapped(((label, "dim"), *said), cells, _LABEL + 1)
    if silent:
        lines += [(), *wrapped(((f" {form.NONE} ", "faint"), (", ".join(silent), "faint")), cells)]
    return lines


def _says_nothing(value: Any) -> bool:
    return value is None or value == "" or value == ()


def _label(name: str) -> str:
    return name.removesuffix("_ms").removesuffix("_bytes").replace("_", " ")


def _value(table: str, name: str, value: Any, now: int) -> tuple[Span, ...]:
    if _says_nothing(value):
        return ((form.NONE, "faint"),)
    if name == "state":
        return (state_span(table, str(value)),)
    if name in SPANS:
        return ((form.span(value), "text"),)
    if name.endswith("_ms"):
        return ((form.moment(value, now), "text"), (f"  {form.since(value, now)} ago" if value <= now else "", "dim"))
    if name.endswith("_bytes"):
        return ((form.size(value), "text"),)
    if isinstance(value, dict):
        return ((clean(msgspec.json.encode(value).decode(), 4000), "text"),)
    if isinstance(value, bool):
        return (("yes" if value else "no", "text"),)
    if isinstance(value, tuple):
        return ((clean(" ".join(str(part) for part in value), 2000), "text"),)
    if isinstance(value, float):
        return ((form.rate(value), "text"),)
    amount = isinstance(value, int) and name not in ("pid", "epoch", "seq")
    return ((form.count(value) if amount else clean(str(value), 4000), "text"),)
