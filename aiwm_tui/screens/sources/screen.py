"""The screen of all data sources, and whether they can be read."""

from __future__ import annotations

from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.link import Link
from aiwm_tui.live.text import Line, Span, clean, fit
from aiwm_tui.screens.cells import state_column, text
from aiwm_tui.screens.spec import Explained, TableScreen
from aiwm_tui.screens.wording import facts, hints, para
from engine.contract.errors import AiwmError
from engine.contract.records.definitions import SourceRow
from engine.contract.requests.sources import SourceFiles

_FILES = 40


async def explain(link: Link, row: SourceRow, now: int) -> Explained:
    lines: list[Line] = [para(row.note, "broken" if row.state != "usable" else "text")] if row.note else []
    if row.description:
        lines.append(para(row.description))
    lines.append(
        facts(
            [
                ("path", row.path),
                ("files", " ".join(row.filters) or "all"),
                ("outside the home", "yes" if row.external else "no"),
                ("synced to", row.target or form.NONE),
                ("used by", ", ".join(row.used_by) or "nobody"),
            ]
        )
    )
    lines += await _files(link, row, now)
    return Explained("data source", tuple(lines))


async def _files(link: Link, row: SourceRow, now: int) -> list[Line]:
    try:
        listing = await link.call(SourceFiles(name=row.id, limit=_FILES))
    except AiwmError as error:
        return [para(str(error), "broken")]
    if listing.problem:
        return [para(listing.problem, "broken")]
    lines: list[Line] = [
        (
            (" " + fit(form.size(file.size_bytes), 7, right=True), "dim"),
            ("  " + fit(form.since(file.modified_ms, now), 6, right=True), "dim"),
            ("  " + clean(file.id, 200), "text"),
        )
        for file in listing.files
    ]
    if listing.more:
        lines.append(((f" … more than {_FILES} files", "dim"),))
    return lines or [para("no files", "dim")]


def _how(row: SourceRow, _: int) -> Span:
    return ("read only", "dim") if row.read_only else ("read, write", "text")


COLUMNS: tuple[Column, ...] = (
    state_column("sources"),
    Column("id", "name", text("id", "strong"), most=24),
    Column("type", "type", text("type", "dim"), most=16, priority=3),
    Column("read_only", "may", _how, most=11, priority=2),
    Column("filters", "files", text("filters", "dim"), most=20, priority=4, value=lambda row: ",".join(row.filters)),
    Column("used_by", "used by", text("used_by"), most=24, priority=1, value=lambda row: ",".join(row.used_by)),
    Column("path", "path", text("path", "text"), flex=True),
)

SCREEN = TableScreen(
    table="sources",
    columns=COLUMNS,
    empty=((("no data sources here", "dim"),), hints(("N", "makes one by form"))),
    opens=lambda row: f":sources/{row.id}",
    explain=explain,
)
