"""Kinds of columns, and what is written into a cell: as in the console (`aiwm_tui.live.format`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from aiwm_tui.live import format as written
from aiwm_tui.live.text import clean


class Column(NamedTuple):
    """`cell` makes the text of a row (a mapping of the record's fields); `right` aligns numbers.

    Where a terminal is too narrow, the column of the highest `priority` is left out first: 0 is what names the row, 1 its state, 2 the
    reason or note. Cells of `right` and `whole` columns are never cut: half a number or a name is a wrong one.
    Those of `below` go on below themselves, as what somebody has to read to its end."""

    title: str
    cell: Callable[[Mapping[str, Any]], str]
    right: bool = False
    state_of: str | None = None
    priority: int = 0
    whole: bool = False
    below: bool = False


def text(title: str, field: str, *, priority: int = 0, whole: bool = False, below: bool = False) -> Column:
    def cell(row: Mapping[str, Any]) -> str:
        value = row.get(field)
        if isinstance(value, (list, tuple)):
            return clean(",".join(str(part) for part in value)) or written.NONE
        return written.NONE if value is None or value == "" else clean(str(value))

    return Column(title, cell, priority=priority, whole=whole, below=below)


def ident(title: str, field: str) -> Column:
    return text(title, field, whole=True)


def as_(title: str, field: str, write: Callable[[Any], str], *, priority: int = 0) -> Column:
    return Column(title, lambda row: write(row.get(field)), True, priority=priority)


def number(title: str, field: str, *, priority: int = 0) -> Column:
    return as_(title, field, written.count, priority=priority)


def age(title: str, field: str, *, priority: int = 0) -> Column:
    return Column(
        title, lambda row: written.since(row.get(field), time.time_ns() // 1_000_000), True, priority=priority
    )


def state(table: str, field: str = "state", title: str = "STATE") -> Column:
    return text(title, field, priority=1, whole=True)._replace(state_of=table)


def took(row: Mapping[str, Any]) -> str:
    started, ended = row.get("started_ms"), row.get("ended_ms")
    return written.NONE if started is None or ended is None else written.span(ended - started)


def tries(row: Mapping[str, Any]) -> str:
    return f"{row.get('attempt', 0)}/{row.get('max_attempts', 0)}"


def done(row: Mapping[str, Any]) -> str:
    """`212/500`: tasks done, and after how many it retires; turns of a chat."""
    most = row.get("max_tasks")
    return (
        f"{row.get('done', 0)}/{most}"
        if most
        else f"turn {row.get('done', 0)}"
        if not row.get("pool")
        else str(row.get("done", 0))
    )


def context(row: Mapping[str, Any]) -> str:
    return f"{row.get('context', 0)}/{row['context_max']}" if row.get("context_max") else written.NONE


def share(value: float | None) -> str:
    return written.NONE if value is None else f"{value * 100:.0f}%"


def hit_rate(row: Mapping[str, Any]) -> str:
    """Of the last hour's uses, the share that did not wait."""
    return share(row.get("hits", 0) / row["uses"]) if row.get("uses") else written.NONE


def milliseconds(value: float | None) -> str:
    return written.NONE if value is None else f"{value:.0f}ms"


def dollars(value: float | None) -> str:
    return written.NONE if value is None else f"{value:.4f}"


def used(row: Mapping[str, Any], name: str) -> str:
    """`41/60`: used of a limit."""
    window = msgspec.to_builtins(row[name])
    return f"{window['used']:,}/{window['limit']:,}" if window["limit"] else written.NONE


def next_(row: Mapping[str, Any]) -> str:
    """When the next call may be made."""
    until = row.get("opens_ms")
    return "now" if until is None else written.countdown(until, time.time_ns() // 1_000_000)


def trouble(row: Mapping[str, Any]) -> str:
    """What comes next or went wrong last; for one that a limit holds, when it opens."""
    note, until = clean(str(row.get("note") or "")), row.get("until_ms")
    if until is None:
        return note or written.NONE
    return f"{note}; opens {written.countdown(until, time.time_ns() // 1_000_000)}"


def keep(row: Mapping[str, Any]) -> str:
    """How long a model stays: `always`, `until 14:05`, or the time without work after which it goes."""
    until, idle = row.get("keep_until_ms"), row.get("idle_ms", -1)
    if until is not None and until > 0:
        return f"until {datetime.fromtimestamp(until / 1000):%H:%M}"
    if until is not None:
        return "always"
    return written.NONE if idle < 0 or not row.get("pid") else written.span(idle)


def rating(value: float | None) -> str:
    return written.NONE if value is None else f"{value:.0%}"


def lesson_context(row: Mapping[str, Any]) -> str:
    """`queue:etl payload.country:DE`: the tasks that a lesson is for."""
    parts = [f"{name}:{row[name]}" for name in ("template", "queue", "definition", "error") if row.get(name)]
    parts += [f"can:{name}" for name in row.get("capabilities") or ()]
    return " ".join([*parts, *(f"payload.{path}:{value}" for path, value in (row.get("payload") or {}).items())])


def outcome(row: Mapping[str, Any]) -> str:
    error, result = row.get("error"), row.get("result")
    if error is not None:
        return str(getattr(error, "message", error))
    if isinstance(result, Mapping) and isinstance(result.get("text"), str):
        return str(result["text"]).strip()
    return written.NONE if result is None else str(result)
