"""How the tables look on the command line: the columns of each, and a small aligned printer.

The values are written as in the console (`aiwm_tui.live.format`); a cell is one line and moves no cursor, whatever a task put in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from aiwm_tui.live import format as written
from aiwm_tui.live.text import clean, cut, fit, width
from aiwm_tui.states import GLYPHS, look

Write = Callable[[str], None]


class Column(NamedTuple):
    """`cell` makes the text of a row (a mapping of the record's fields); `right` aligns numbers."""

    title: str
    cell: Callable[[Mapping[str, Any]], str]
    right: bool = False
    state_of: str | None = None


def _text(title: str, field: str) -> Column:
    def cell(row: Mapping[str, Any]) -> str:
        value = row.get(field)
        if isinstance(value, (list, tuple)):
            return clean(",".join(str(part) for part in value)) or written.NONE
        return written.NONE if value is None or value == "" else clean(str(value))

    return Column(title, cell)


def _as(title: str, field: str, write: Callable[[Any], str]) -> Column:
    return Column(title, lambda row: write(row.get(field)), True)


def _number(title: str, field: str) -> Column:
    return _as(title, field, written.count)


def _age(title: str, field: str) -> Column:
    return Column(title, lambda row: written.since(row.get(field), time.time_ns() // 1_000_000), True)


def _state(table: str, field: str = "state", title: str = "STATE") -> Column:
    return _text(title, field)._replace(state_of=table)


def _took(row: Mapping[str, Any]) -> str:
    started, ended = row.get("started_ms"), row.get("ended_ms")
    return written.NONE if started is None or ended is None else written.span(ended - started)


def _try(row: Mapping[str, Any]) -> str:
    return f"{row.get('attempt', 0)}/{row.get('max_attempts', 0)}"


def _done(row: Mapping[str, Any]) -> str:
    """`212/500`: tasks done, and after how many it retires; turns of a chat."""
    most = row.get("max_tasks")
    return (
        f"{row.get('done', 0)}/{most}"
        if most
        else f"turn {row.get('done', 0)}"
        if not row.get("pool")
        else str(row.get("done", 0))
    )


def _context(row: Mapping[str, Any]) -> str:
    return f"{row.get('context', 0)}/{row['context_max']}" if row.get("context_max") else written.NONE


def _trouble(row: Mapping[str, Any]) -> str:
    """What comes next or went wrong last; for one that a limit holds, when it opens."""
    note, until = clean(str(row.get("note") or "")), row.get("until_ms")
    if until is None:
        return note or written.NONE
    return f"{note}; opens {written.moment(until, time.time_ns() // 1_000_000)}"


_COLUMNS: dict[str, tuple[Column, ...]] = {
    "tasks": (
        _text("ID", "id"),
        _state("tasks"),
        _text("QUEUE", "queue"),
        _number("PRIO", "priority"),
        Column("TRY", _try, True),
        _text("WORKER", "definition"),
        _age("AGE", "submitted_ms"),
        Column("TOOK", _took, True),
        _number("TOKENS", "tokens_out"),
        _text("REASON", "reason"),
    ),
    "queues": (
        _text("NAME", "id"),
        _state("queues"),
        _number("WAIT", "waiting"),
        _number("RUN", "running"),
        _number("LATER", "scheduled"),
        _number("RETRY", "retrying"),
        _number("DONE", "completed"),
        _number("FAIL", "failed"),
        _age("HEAD", "head_ms"),
        _as("IN/m", "in_per_min", written.rate),
        _as("OUT/m", "out_per_min", written.rate),
        _text("POOLS", "pools"),
        _text("GATE", "gate"),
    ),
    "pools": (
        _text("NAME", "id"),
        _state("pools"),
        _text("WORKER", "definition"),
        _number("BUSY", "busy"),
        _number("IDLE", "idle"),
        _number("START", "starting"),
        _number("MIN", "min_idle"),
        _number("MAX", "max_total"),
        _number("WAIT", "waiting"),
        _text("QUEUES", "queues"),
        _text("HELD BY", "held_by"),
    ),
    "instances": (
        _text("ID", "id"),
        _state("instances"),
        _text("POOL", "pool"),
        _text("WORKER", "definition"),
        _text("TASK", "task"),
        _age("FOR", "since_ms"),
        Column("DONE", _done, True),
        _number("FAIL", "failed"),
        Column("CONTEXT", _context, True),
        _number("TOKENS", "tokens"),
        _age("AGE", "spawned_ms"),
        Column("NEXT OR LAST ERROR", _trouble),
    ),
    "retired": (
        _text("ID", "id"),
        _state("retired"),
        _text("POOL", "pool"),
        _text("WORKER", "definition"),
        _number("DONE", "done"),
        _number("FAIL", "failed"),
        _number("IN", "tokens_in"),
        _number("OUT", "tokens_out"),
        _age("GONE", "retired_ms"),
        _text("REASON", "reason"),
    ),
    "models": (
        _text("ID", "id"),
        _state("models"),
        _text("BACKEND", "backend"),
        _text("WHERE", "where"),
        _number("RUN", "running"),
        _number("WAIT", "waiting"),
        _number("SLOTS", "slots"),
        _as("TOK/s", "tokens_per_s", written.rate),
        _as("WEIGHTS", "weights_bytes", written.size),
        _as("KV", "kv_bytes", written.size),
        _as("RSS", "rss_bytes", written.size),
        _number("RESTARTS", "restarts"),
        _as("PID", "pid", lambda pid: written.NONE if pid is None else str(pid)),
        _text("NOTE", "note"),
    ),
    "workers": (
        _text("NAME", "id"),
        _text("KIND", "kind"),
        _text("MODEL", "model"),
        _text("CAN", "capabilities"),
        _text("POOLS", "pools"),
        Column("DIGEST", lambda row: clean(str(row.get("digest", "")), 12)),
        _text("DESCRIPTION", "description"),
    ),
    "events": (
        _text("ID", "id"),
        Column("AT", lambda row: written.moment(row.get("at_ms"), time.time_ns() // 1_000_000)),
        _state("events", "level", "LEVEL"),
        _text("TYPE", "type"),
        _text("WHO", "who"),
        _text("ABOUT", "about"),
        _text("TEXT", "text"),
    ),
    "needs": (
        _age("SINCE", "since_ms"),
        _state("needs"),
        _text("WHAT", "what"),
        _text("WHY", "why"),
        _text("PRESS", "press"),
    ),
    "findings": (
        _text("WHAT", "what"),
        _text("STATE", "state"),
        _text("SEEN", "seen"),
        _text("FIX", "fix"),
    ),
    "settings": (_text("KEY", "key"), _text("VALUE", "value"), _text("ORIGIN", "origin")),
    "outcomes": (
        _text("ID", "id"),
        _state("tasks"),
        Column("TRY", lambda row: str(row.get("attempt", 0)), True),
        _number("TOKENS", "tokens_out"),
        Column("RESULT", lambda row: clean(_outcome(row), 400)),
    ),
}


def _outcome(row: Mapping[str, Any]) -> str:
    error, result = row.get("error"), row.get("result")
    if error is not None:
        return str(getattr(error, "message", error))
    if isinstance(result, Mapping) and isinstance(result.get("text"), str):
        return str(result["text"]).strip()
    return written.NONE if result is None else str(result)


def columns_of(table: str) -> tuple[Column, ...]:
    """The columns of a table; a table without columns of its own shows all fields of its record."""
    if table in _COLUMNS:
        return _COLUMNS[table]
    from engine.contract.records import TABLES

    return tuple(_text(name.upper(), name) for name in TABLES[table].__struct_fields__)


# The theme's words as the sixteen colours that every terminal has.
_COLOURS = {
    "works": "32",
    "coming": "36",
    "held": "33",
    "later": "36",
    "paused": "33",
    "asks": "35",
    "wrong": "33",
    "broken": "31",
    "done": "32",
    "cancelled": "2",
}


def print_table(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], write: Write, *, width: int | None, styled: bool
) -> None:
    """Aligned columns, two spaces apart. `width` is the terminal's (None: no terminal, nothing is cut, no glyphs, no colour)."""
    cells = [[_cell(column, row, glyphs=width is not None) for column in columns] for row in rows]
    wides = [_width_of(column.title, index, cells) for index, column in enumerate(columns)]
    if width is not None:
        before = sum(wide + 2 for wide in wides[:-1])
        wides[-1] = min(wides[-1], max(width - before, 10))
    write(_line([column.title for column in columns], columns, wides, bold=styled))
    for row, texts in zip(rows, cells, strict=True):
        write(_line(texts, columns, wides, row=row if styled else None))


def _cell(column: Column, row: Mapping[str, Any], *, glyphs: bool) -> str:
    text = column.cell(row)
    if glyphs and column.state_of not in (None, "events"):
        return f"{GLYPHS.get(look(str(column.state_of), text), '·')} {text}"
    return text


def _width_of(title: str, index: int, cells: Sequence[Sequence[str]]) -> int:
    return max(width(title), max((width(texts[index]) for texts in cells), default=0))


def _line(
    texts: Sequence[str],
    columns: Sequence[Column],
    wides: Sequence[int],
    *,
    bold: bool = False,
    row: Mapping[str, Any] | None = None,
) -> str:
    last = len(columns) - 1
    parts = []
    for index, (text, column, wide) in enumerate(zip(texts, columns, wides, strict=True)):
        part = cut(text, wide) if index == last and not column.right else fit(text, wide, right=column.right)
        if row is not None and column.state_of is not None:
            colour = _COLOURS.get(look(column.state_of, column.cell(row)))
            part = f"\x1b[{colour}m{part}\x1b[0m" if colour else part
        parts.append(part)
    line = "  ".join(parts).rstrip()
    return f"\x1b[1m{line}\x1b[0m" if bold else line
