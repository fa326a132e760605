"""`ctrl+s`: this view as a file. All rows that match, not only those on the screen; never over a file that is there."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from aiwm_tui.changing import ask_in_dialog
from aiwm_tui.forms.fields import FormField, Kind
from aiwm_tui.live import format as form
from aiwm_tui.live.columns import Column
from aiwm_tui.live.text import Line, clean
from engine.contract.errors import AiwmError, Code
from engine.contract.query import Location
from engine.contract.records import TABLES
from engine.contract.requests.session import ViewRead

if TYPE_CHECKING:
    from aiwm_tui.actions import Action
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.live.link import Link
    from aiwm_tui.screens.page import Page

MOST_ROWS = 100_000
"""More are cut, which is said."""
PAGE = 2_000
_OF_TABLES, _OF_SCREENS = ("csv", "json", "text", "svg"), ("text", "svg")
_ENDINGS = {"csv": ".csv", "json": ".json", "text": ".txt", "svg": ".svg"}
_LEFT: Line = (("broken off; no file is left behind", "text"),)
_FONTS = re.compile(r"@font-face\s*\{[^}]*\}\s*")


class Written:
    """How many rows were written, of how many that match; `told` is called after each page of them."""

    def __init__(self, told: Callable[[Written], None] = lambda _: None) -> None:
        self.told = told
        self.rows = 0
        self.matched = 0
        self.exact = True

    @property
    def cut(self) -> bool:
        return self.rows >= MOST_ROWS and self.matched > self.rows


async def export(app: ConsoleApp, page: Page, action: Action) -> None:
    """Ask for format and file; write it."""
    from aiwm_tui.screens.dialogs.form import FormDialog

    table = bool(page.columns())
    # The picture is of what is behind the dialog, so it is taken before there is one.
    screen = Screenshot(app)
    formats = _OF_TABLES if table else _OF_SCREENS
    stamp = datetime.fromtimestamp(app.now() / 1000).strftime("%Y%m%d-%H%M%S")
    fields = (
        FormField("format", Kind.choice, default=formats[0], choices=formats, help=_help(table)),
        FormField("file", Kind.text, required=True, help=f"Beneath {Path.cwd()} unless it begins with / or ~."),
    )

    async def go_on(values: dict[str, Any]) -> Line:
        path = file_named(values["file"], values["format"])
        written = Written(lambda so_far: dialog.tell(_progress(so_far)))
        if values["format"] in ("csv", "json") or (values["format"] == "text" and table):
            pieces = _pieces(app.link, page, values["format"], app.now(), written)
        else:
            pieces = _one(screen.svg() if values["format"] == "svg" else screen.text)
        await write_new(path, pieces)
        return _said(path, written, picture=not written.matched and values["format"] not in ("csv", "json"))

    texts = {"format": formats[0], "file": f"{page.location.table}-{stamp}"}
    title = f"{action.shown}  EXPORT {clean(str(page.location), 100)}"
    dialog = FormDialog(title, fields, texts, go_on, verb="write it", first="file", left=_LEFT)

    async def done(line: Line | None) -> None:
        app.say(line if line is not None else (("nothing was written", "dim"),))

    ask_in_dialog(app, dialog, done)


def _help(table: bool) -> str:
    if not table:
        return "text, svg: this screen as it is."
    return "csv: the columns shown, for spreadsheets. json: every field. text: as on the screen, whole. svg: a picture of the screen."


def _progress(written: Written) -> Line:
    return ((f"{written.rows:,} of {min(written.matched, MOST_ROWS):,} rows …", "text"), ("  esc breaks it off", "dim"))


def _said(path: Path, written: Written, *, picture: bool) -> Line:
    count = "the screen" if picture else form.plural(written.rows, "row")
    cut: Line = ()
    if written.cut:
        matched = f"{'' if written.exact else 'at least '}{written.matched:,}"
        cut = ((f"cut: {matched} match, {MOST_ROWS:,} are written at most", "alert"), ("; ", "dim"))
    place: Line = ((f"{count} in {clean(path.name, 100)}", "text"), (f"   {clean(str(path.parent), 300)}", "dim"))
    return (("ctrl+s ", "key"), *cut, *place)


class Screenshot:
    """What the screen shows now. Drawn as a picture only when one is wanted."""

    def __init__(self, app: ConsoleApp) -> None:
        from aiwm_tui.picture import lines_of

        self._title = str(app.page.location)
        self._lines = lines_of(app.screen)
        self._cells = app.size.width

    @property
    def text(self) -> str:
        return "\n".join("".join(segment.text for segment in line).rstrip() for line in self._lines) + "\n"

    def svg(self) -> str:
        """As SVG without anything that a browser would fetch: no fonts from elsewhere."""
        import io

        from rich.console import Console
        from rich.segment import Segment, Segments

        console = Console(
            width=self._cells,
            height=len(self._lines),
            file=io.StringIO(),
            force_terminal=True,
            color_system="truecolor",
            record=True,
        )
        console.print(
            Segments([segment for line in self._lines for segment in (*line, Segment.line())]), soft_wrap=True
        )
        picture = console.export_svg(title=f"aiwm  {clean(self._title, 200)}")
        style, close, rest = picture.partition("</style>")
        # Not every viewer keeps the blanks at the ends of a piece of text by itself.
        return (_FONTS.sub("", style) + close + rest).replace("<svg ", '<svg xml:space="preserve" ', 1)


def file_named(name: str, kind: str) -> Path:
    """The file that is meant, with the ending of its kind."""
    ending = _ENDINGS[kind]
    return Path(name if name.lower().endswith(ending) else name + ending).expanduser().absolute()


async def _one(text: str) -> AsyncIterator[str]:
    yield text


async def _pieces(link: Link, page: Page, kind: str, now: int, written: Written) -> AsyncIterator[str]:
    from aiwm_tui.live.exported import CsvWriter, JsonWriter, text_of

    columns: list[Column] = list(page.columns())
    location = page.location
    pages = _rows(link, location, written)
    if kind == "text":
        everything = [row async for rows in pages for row in rows]
        yield await asyncio.to_thread(text_of, location, columns, everything, now)
    elif kind == "json":
        json = JsonWriter(location)
        yield json.head()
        async for rows in pages:
            yield await asyncio.to_thread(json.rows, rows)
        yield json.tail(written.matched, exact=written.exact)
    else:
        values = CsvWriter(location.table, columns)
        # The mark by which spreadsheets know that it is UTF-8.
        yield "\ufeff" + values.head()
        async for rows in pages:
            yield await asyncio.to_thread(values.rows, rows, now)


async def _rows(link: Link, location: Location, written: Written) -> AsyncIterator[list[Any]]:
    """Pages of rows. Rows that move while they are read are written once."""
    seen: set[str] = set()
    top = 0
    while top < MOST_ROWS:
        answer = await link.call(ViewRead(location=str(location), top=top, size=min(PAGE, MOST_ROWS - top)))
        fresh = [msgspec.convert(row, TABLES[answer.table]) for row in answer.rows if row["id"] not in seen]
        seen.update(row.id for row in fresh)
        written.rows, written.matched, written.exact = len(seen), answer.matched, answer.matched_exact
        written.told(written)
        yield fresh
        top += len(answer.rows)
        if not answer.rows or (answer.matched_exact and top >= answer.matched):
            return


async def write_new(path: Path, pieces: AsyncIterator[str]) -> None:
    """Write a file that is not there yet, for its owner alone. Raises `conflict` if it is, and leaves nothing behind when it fails."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        free = _free(path)
        raise AiwmError(
            Code.conflict, f"{path.name} exists; nothing is overwritten", field="file", fix=free.stem
        ) from None
    except OSError as error:
        raise _refused(path, error) from None
    done = False
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="") as file:
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)
        done = True
    except OSError as error:
        raise _refused(path, error) from None
    finally:
        if not done:
            os.unlink(path)


def _refused(path: Path, error: OSError) -> AiwmError:
    return AiwmError(Code.bad_request, f"{path} cannot be written: {error.strerror}", field="file")


def _free(path: Path) -> Path:
    """The next name of its kind that nobody has."""
    number = 2
    while (other := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        number += 1
    return other
