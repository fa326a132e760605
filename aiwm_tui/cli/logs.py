"""`aiwm logs`: what the engine and its processes wrote."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer

from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.output import Format, shown
from aiwm_tui.live.log_lines import LogLines
from aiwm_tui.live.log_search import Search, search_of, searched
from aiwm_tui.live.text import clean
from engine.client import BlockingClient
from engine.contract.errors import AiwmError, Code
from engine.contract.notifications import LogMore
from engine.contract.query import Location
from engine.contract.requests.logs import LogFollow, LogList, LogRead, LogText


def add(app: typer.Typer) -> None:
    command(app, "logs")(_logs)


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that was looked for, or (`match` false) stands beside one. `number` counts from the first line of its life that is kept."""

    name: str
    life: int
    number: int
    text: str
    match: bool


def _logs(
    cli: Cli,
    *,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="engine, or a process such as nano.0 (none: which there are)", show_default=False
        ),
    ] = None,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="of the life before this one", show_default=False)
    ] = False,
    life: Annotated[
        int, typer.Option("--life", metavar="N", help="of so many lives before this one", show_default=False)
    ] = 0,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", help="lines at most")] = 50,
    search: Annotated[
        str | None,
        typer.Option(
            "--search", "-s", metavar="WORDS", help="only lines with these words (!word: without)", show_default=False
        ),
    ] = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="only lines that look like trouble", show_default=False)
    ] = False,
    context: Annotated[int, typer.Option("--context", "-C", metavar="N", help="lines around each that is found")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on with what comes", show_default=False)] = False,
) -> None:
    """The last lines of a log: of the engine, or of a process, also of its lives before; or those with certain words, of all that is kept.
    JSON: kind log, with --search or --faults log_line; --jsonl: one object a piece."""
    with cli.connected() as client:
        if name is None:
            found = client.call(LogList())
            cli.output.many("log", "logs", found, len(found), empty="nothing was logged yet")
            return
        made = LogRead(name=name, previous=life or int(previous), lines=lines)
        if follow and made.previous:
            raise AiwmError(Code.bad_request, "a life that has ended writes nothing more", field="follow")
        if search is not None or faults:
            _search(cli, client, made, _looking_for(search or "", faults, context), follow=follow)
            return
        if context:
            raise AiwmError(
                Code.bad_request,
                "context is what stands around lines that are looked for",
                field="context",
                fix="--search WORDS",
            )
        piece = client.call(made)
        _print(cli, piece)
        if not piece.text and not follow:
            when = "in that life" if made.previous else "in this life"
            how = "" if name == "engine" else f" (aiwm model crashes {name}: how lives ended)"
            cli.output.talk(f"{name} wrote nothing {when}{how}")
        if follow:
            for more in _follow(client, piece):
                _print(cli, more)


def _looking_for(words: str, faults: bool, context: int) -> Search:
    location = searched(Location("logs"), f"{words} {'is:fault' if faults else ''} around:{context}")
    found = search_of(location)
    if not found.looks:
        raise AiwmError(Code.bad_request, "nothing is looked for", field="search", fix="--search WORDS")
    return found


def _follow(client: BlockingClient, piece: LogText) -> Iterator[LogText]:
    stream = client.call(LogFollow(name=piece.name, after=piece.next, life=piece.life)).stream
    for note in client.notifications():
        if isinstance(note, LogMore) and note.stream == stream:
            yield note.piece


def _print(cli: Cli, piece: LogText) -> None:
    if not cli.output.for_people:
        cli.output.line("log", piece)
    elif piece.text:
        text = shown(piece.text)
        sys.stdout.write(text if text.endswith("\n") or not text else text + "\n")
        sys.stdout.flush()


def _search(cli: Cli, client: BlockingClient, request: LogRead, search: Search, *, follow: bool) -> None:
    """Print what is found in all that is kept of a life, and in what comes."""
    last = client.call(request)
    pieces = [client.call(msgspec.structs.replace(request, before=last.next, life=last.life))]
    while pieces[0].start and pieces[0].life == last.life:
        pieces.insert(0, client.call(msgspec.structs.replace(request, before=pieces[0].start, life=last.life)))
    found = _Found(cli, search, last, at_once=follow or cli.output.form is not Format.json)
    for piece in pieces:
        found.take(piece.text)
    for more in _follow(client, last) if follow else ():
        found.take(more.text)
    found.end()


class _Found:
    """Lines that are found: printed as soon as they are whole, or (`at_once` false) as one object at the end."""

    def __init__(self, cli: Cli, search: Search, piece: LogText, *, at_once: bool) -> None:
        self._cli = cli
        self._of = piece
        self._at_once = at_once
        self._lines = LogLines()
        self._lines.look_for(search)
        self._first = self._lines.first
        self._rest = ""
        self._seen = 0
        self._rows: list[LogLine] = []

    def take(self, text: str) -> None:
        """More of the log; a line that is not whole waits for its end."""
        whole, end, self._rest = (self._rest + text).rpartition("\n")
        if end:
            self._lines.append(whole + end)
            self._tell()

    def end(self) -> None:
        """Nothing more comes."""
        if self._rest:
            self.take("\n")
        if not self._at_once:
            self._cli.output.many("log_line", "log_lines", self._rows, len(self._rows))
        elif not self._lines.hits:
            self._cli.output.talk(f"no line of {self._of.name} matches")

    def _tell(self) -> None:
        for index in range(self._seen, len(self._lines)):
            number = self._lines.at(index)
            if self._cli.output.for_people:
                # As grep has it: between groups of lines, where there are groups.
                gap = "--\n" if self._lines.search.context else ""
                sys.stdout.write(clean(self._lines.text(number)) + "\n" if number > 0 else gap)
            elif number > 0:
                row = LogLine(
                    name=self._of.name,
                    life=self._of.life,
                    number=number - self._first + 1,
                    text=self._lines.text(number),
                    match=self._lines.hit(number),
                )
                if self._at_once:
                    self._cli.output.line("log_line", row)
                else:
                    self._rows.append(row)
        self._seen = len(self._lines)
        sys.stdout.flush()
