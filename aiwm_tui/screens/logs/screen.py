"""The screen of logs: which there are, with the last lines of the one under the cursor."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.log_search import FAULT, WARNING
from aiwm_tui.live.text import Line, clean_lines
from aiwm_tui.screens.cells import number, since, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import hints, para
from engine.contract.records.logs import LogRow
from engine.contract.requests.logs import LogRead

_LAST = 12


async def explain(link: Link, row: LogRow, now: int) -> Explained:  # noqa: ARG001
    piece = await link.call(LogRead(name=row.id, lines=_LAST))
    lines = [line for line in clean_lines(piece.text[-8_000:]) if line.strip()]
    if not lines:
        earlier = f"; the {row.lives} before it may have" if row.lives else ""
        return Explained("the end of it", (para(f"nothing was written in this life{earlier}", "dim"),))
    return Explained("the end of it", tuple(_line(each) for each in lines[-_LAST:]))


def _line(text: str) -> Line:
    style = "broken" if FAULT.search(text, 0, 2_000) else "wrong" if WARNING.search(text, 0, 2_000) else "dim"
    return ((" " + text[:1_000], style),)


COLUMNS: tuple[Column, ...] = (
    Column("id", "log", text("id", "strong"), most=40),
    Column("kind", "of", text("kind"), most=10),
    Column("size", "size", number("size_bytes", form.size), right=True, most=7),
    Column("changed", "written", since("changed_ms"), right=True, most=7),
    Column("lives", "lives before", number("lives"), right=True, most=12, priority=2),
    Column("last", "last line", text("last", "dim"), flex=True),
)

SCREEN = TableScreen(
    table="logs",
    columns=COLUMNS,
    empty=(
        (("nothing was logged yet: logs come with the first process", "dim"),),
        hints(("6", "models"), ("9", "events")),
    ),
    opens=lambda row: f":logs/{row.id}",
    explain=explain,
    events=lambda row: f"about:{row.id}",
)
