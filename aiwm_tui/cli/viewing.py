"""`aiwm view`: a location as the console shows it. Tables are written here; the overview and the pages are drawn by a console without a
terminal, which costs more, so that they are not a second time in words of their own."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from aiwm_tui.actions import TABLES
from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.output import fields_text, styled, terminal_width, write
from aiwm_tui.cli.tables import COLOURS
from aiwm_tui.live.columns import Column
from aiwm_tui.live.text import Line, plain
from engine.contract.errors import AiwmError, Code
from engine.contract.query import Location, parse
from engine.contract.records import TABLES as RECORDS
from engine.contract.requests.session import ViewRead, ViewRows

if TYPE_CHECKING:
    from rich.segment import Segment

PAPER = (120, 36)
"""Columns and lines of a page where nothing says how large it is: what `aiwm view` prints into a pipe."""
LEAST = (40, 10)


def add(app: typer.Typer) -> None:
    command(app, "view")(_view)


def _view(
    cli: Cli,
    *,
    location: Annotated[
        list[str],
        typer.Argument(metavar="LOCATION", help="such as ':tasks state:failed sort:-age'", show_default=False),
    ],
    size: Annotated[int, typer.Option("--size", "-n", help="rows at most")] = 50,
    top: Annotated[int, typer.Option("--top", help="rows to skip")] = 0,
    width: Annotated[
        int | None, typer.Option("--width", help="columns of the screen (default: the terminal's)", show_default=False)
    ] = None,
    height: Annotated[
        int | None, typer.Option("--height", help="lines of a page (default: the terminal's)", show_default=False)
    ] = None,
    csv: Annotated[
        bool,
        typer.Option(
            "--csv", help="comma-separated values, safe in spreadsheets: what ctrl+s writes", show_default=False
        ),
    ] = False,
    screen: Annotated[
        bool, typer.Option("--screen", help="the whole screen: its fixed lines and the strip too", show_default=False)
    ] = False,
) -> None:
    """A location as the console shows it.

    A table, or the page of an item, of :overview and the like.

    A location is a table or screen, perhaps an item, a filter and a sort order: ':tasks state:failed sort:-age', ':tasks/t-4hq7x'.

    Filters: word, field:value, field:a,b, field>8G, !field:value, glob*. Into a pipe tables are written whole; with --width as on a screen
    of so many columns. JSON: kind is the table's name, total the number of rows that match; tables and items only."""
    from aiwm_tui import saved

    views = saved.load().views
    text = saved.expanded(_text(location), views)
    name = text.removeprefix(":").split(maxsplit=1)[0].partition("/")[0] if text.strip(": ") else ""
    if name in RECORDS or csv or not cli.output.for_people:
        with cli.connected() as client:
            seen = client.call(ViewRead(location=text, size=size, top=top))
            past = client.welcome.at_ms if client.welcome is not None else None
        where = parse(seen.location)
        if csv:
            _csv(seen)
            return
        if not cli.output.for_people or not (screen or where.item):
            _table(cli, seen, where, width, time.time_ns() // 1_000_000 if past is None else past)
            return
        if not seen.rows:
            raise AiwmError(Code.not_found, f"{seen.location} does not exist", field="location", fix=f":{where.table}")
    _page(cli, text, (width, height), whole=screen)


def _text(words: list[str]) -> str:
    text = " ".join(words).strip()
    return text if text.startswith(":") else ":" + text


def _table(cli: Cli, seen: ViewRows, where: Location, width: int | None, now: int) -> None:
    """`now` (Unix ms) is the time of the engine: that of a recording is another."""
    if cli.output.for_people and seen.rows and seen.table in TABLES:
        for line in _lines(seen, where, width if width is not None else terminal_width(), now):
            write(_painted(line) if styled(sys.stdout) else plain(line).rstrip())
        if seen.matched > len(seen.rows):
            cli.output.talk(f"{len(seen.rows)} of {'' if seen.matched_exact else 'at least '}{seen.matched:,}")
    elif cli.output.for_people and seen.rows:
        write(fields_text(seen.rows[0]))
    else:
        kind = seen.table.removesuffix("s")
        empty = f"no {seen.table} match" if where.terms else f"no {seen.table}"
        cli.output.many(kind, seen.table, seen.rows, seen.matched, exact=seen.matched_exact, empty=empty)


def _csv(seen: ViewRows) -> None:
    from aiwm_tui.live.exported import CsvWriter

    if seen.table not in TABLES:
        raise AiwmError(
            Code.bad_request, f":{seen.table} is no table of columns", field="csv", fix="--json has its fields"
        )
    values = CsvWriter(seen.table, _columns(seen.table))
    rows = [msgspec.convert(row, RECORDS[seen.table]) for row in seen.rows]
    sys.stdout.write(values.head() + values.rows(rows, time.time_ns() // 1_000_000))


def _columns(table: str) -> tuple[Column, ...]:
    """Those that the operator chose, else the screen's own."""
    from aiwm_tui import saved
    from aiwm_tui.screens.chosen import chosen_columns
    from aiwm_tui.screens.spec import table_screen

    return chosen_columns(table_screen(table), saved.load().columns.get(table, ()))


def _lines(seen: ViewRows, where: Location, width: int | None, now: int) -> list[Line]:
    from aiwm_tui.live.printed import table_lines

    rows = [msgspec.convert(row, RECORDS[seen.table]) for row in seen.rows]
    return table_lines(_columns(seen.table), rows, where.sort_keys(), now, width)


def _page(cli: Cli, location: str, size: tuple[int | None, int | None], *, whole: bool) -> None:
    """Drawn by the console, in the colours of its theme where the terminal has colours."""
    from aiwm_tui.picture import picture
    from engine.client import connect
    from engine.config import load_config

    across, down = shutil.get_terminal_size(PAPER) if sys.stdout.isatty() else PAPER
    sides = (max(LEAST[0], size[0] or across), max(LEAST[1], size[1] or down))

    async def dial() -> Any:
        return await connect(cli.home, work=False, read_only=True, name="view")

    theme = load_config().config.console.theme
    coloured = styled(sys.stdout)
    for line in picture(dial, location, sides, theme=theme, whole=whole):
        write("".join(_drawn(segment) if coloured else segment.text for segment in line).rstrip())


def _painted(line: Line) -> str:
    """A line in the sixteen colours that every terminal has, whatever lies behind them."""
    return "".join(
        f"\x1b[{COLOURS[style]}m{text}\x1b[0m" if style in COLOURS and text.strip() else text for text, style in line
    ).rstrip()


def _drawn(segment: Segment) -> str:
    from rich.color import ColorSystem

    if segment.style is None:
        return segment.text
    return segment.style.render(segment.text, color_system=ColorSystem.EIGHT_BIT)
