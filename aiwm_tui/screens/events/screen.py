"""The screen of events, newest first."""

from __future__ import annotations

import re

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.table import opened
from aiwm_tui.live.text import Line, Span, clean, clean_lines
from aiwm_tui.screens.cells import text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, hints
from aiwm_tui.states import look
from engine.contract.records import EventRow
from engine.contract.requests.session import ViewRead

_CHAIN = 200
_SHOWN = 9


async def explain(link: Link, row: EventRow, now: int) -> Explained:
    pairs = [("event", row.id), ("at", form.moment(row.at_ms, now)), ("by", row.who), ("about", row.about or form.NONE)]
    pairs += [(name, value) for name in ("task", "correlation", "causation") if (value := getattr(row, name))]
    body = tuple(((" " + line, "text"),) for line in clean_lines(row.text[:4000])[:20])
    return Explained(row.type, (*body, facts(pairs), *await _chain(link, row, now)))


async def _chain(link: Link, row: EventRow, now: int) -> list[Line]:
    """What led to it and what it led to, in the order in which it came: all that belongs to its task, operation or request."""
    of = row.correlation or row.task
    if not of:
        return []
    seen = opened(await link.call(ViewRead(location=f":events chain:{of} sort:id", size=_CHAIN)))
    rows = [each for each in seen.records() if isinstance(each, EventRow)]
    if len(rows) < 2:
        return []
    at = next((place for place, each in enumerate(rows) if each.id == row.id), 0)
    first = max(0, min(at - _SHOWN // 2, len(rows) - _SHOWN))
    lines: list[Line] = [
        (
            (f" chain of {clean(of, 60)}", "title"),
            (f"  {form.plural(seen.matched, 'event')}  ", "dim"),
            ("c", "key"),
            (" only these", "dim"),
        )
    ]
    for each in rows[first : first + _SHOWN]:
        said = f"{each.type} {each.about}" + (f" {each.text}" if each.text else "")
        lines.append(
            (
                (" › " if each.id == row.id else "   ", "mark"),
                (_at(each, now)[0] + " ", "dim"),
                (f"{each.level:<6}", look("events", each.level)),
                (clean(f"{each.who}: {said}", 300), "text"),
            )
        )
    return lines


def _at(row: EventRow, now: int) -> Span:
    same_day = now - row.at_ms < 86_400_000 and form.clock(row.at_ms) <= form.clock(now)
    return (form.clock_ms(row.at_ms) if same_day else form.moment(row.at_ms, now)), "dim"


def _level(row: EventRow, _: int) -> Span:
    return row.level, look("events", row.level)


COLUMNS: tuple[Column, ...] = (
    Column("at", "at", _at, least=12, most=16),
    Column("level", "level", _level, least=5, most=6, priority=1),
    Column("type", "type", text("type"), most=22),
    Column("who", "who", text("who", "dim"), most=18, priority=3),
    Column("about", "about", text("about"), most=16, priority=2),
    Column("text", "what", text("text", "text", 400), flex=True),
)

_TABLE_OF = {
    "model": "models",
    "queue": "queues",
    "need": "queues",
    "pool": "pools",
    "approval": "approvals",
    "adapter": "adapters",
    "template": "templates",
    "source": "sources",
    "operation": "operations",
}
"""Where the row is that an event of a type is about. An instance is not among them: most are gone by then."""


def opens(row: EventRow) -> str:
    """The page of what an event is about: its task, else the row it names; the event itself when there is none."""
    if row.task:
        return f":tasks/{row.task}"
    table = "operations" if re.fullmatch(r"op-\d+", row.about) else _TABLE_OF.get(row.type.partition(".")[0])
    named = (
        table is not None and re.fullmatch(r"[\w.@-]+", row.about) and not row.type.endswith((".delete", ".deleted"))
    )
    return f":{table}/{row.about}" if named else f":events/{row.id}"


SCREEN = TableScreen(
    table="events",
    columns=COLUMNS,
    empty=(
        (("nothing has happened that matches", "dim"),),
        hints(("esc", "back"), ("/", "another filter")),
    ),
    opens=opens,
    explain=explain,
)
