"""`aiwm events`: the last events, and events that match."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.output import Format, write
from aiwm_tui.live.format import clock
from aiwm_tui.live.text import clean
from engine.contract.notifications import ViewChanged
from engine.contract.requests.session import ViewOpen, ViewRead


def add(app: typer.Typer) -> None:
    noun = group(app, "events", "Events: the immutable facts of this home.")
    command(noun, "tail")(_tail)
    command(noun, "search")(_search)


Filter = Annotated[
    list[str] | None, typer.Argument(metavar="FILTER", help="such as level:error type:task.*", show_default=False)
]
Count = Annotated[int, typer.Option("--count", "-n", help="events at most")]


Since = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="from then on: 22:00, 1h, yesterday", show_default=False)
]
Level = Annotated[
    str | None,
    typer.Option("--level", metavar="LEVELS", help="such as error,ask,audit", show_default=False),
]
Correlation = Annotated[
    str | None,
    typer.Option("--correlation", metavar="ID", help="what belongs to one operation or task", show_default=False),
]


Chain = Annotated[
    str | None,
    typer.Option("--chain", metavar="ID", help="all that belongs to a task, operation or request", show_default=False),
]
Context = Annotated[int, typer.Option("--context", "-C", metavar="N", help="events before and after each that matches")]


def _words(
    where: list[str] | None, since: str | None, level: str | None, correlation: str | None, chain: str | None
) -> list[str]:
    """The filter, with what the options add to it."""
    given = (("since", since), ("level", level), ("correlation", correlation), ("chain", chain))
    return [*(where or []), *(f"{name}:{value}" for name, value in given if value is not None)]


def _location(words: list[str], sort: str) -> str:
    return " ".join([":events", *words, *([] if any(word.startswith("sort:") for word in words) else [sort])])


def _search(
    cli: Cli,
    *,
    where: Filter = None,
    since: Since = None,
    level: Level = None,
    correlation: Correlation = None,
    chain: Chain = None,
    context: Context = 0,
    count: Count = 100,
) -> None:
    """Events that match a filter, the newest first."""
    words = [*_words(where, since, level, correlation, chain), *([f"around:{context}"] if context else [])]
    seen = cli.call(ViewRead(location=_location(words, "sort:-id"), size=count))
    cli.output.many("event", "events", seen.rows, seen.matched, exact=seen.matched_exact, empty="no events match")


def _tail(
    cli: Cli,
    *,
    where: Filter = None,
    since: Since = None,
    level: Level = None,
    correlation: Correlation = None,
    chain: Chain = None,
    count: Count = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as events come", show_default=False)] = False,
) -> None:
    """The last events, the newest at the end. With --follow, one a line as they come until Ctrl-C."""
    location = _location(_words(where, since, level, correlation, chain), "sort:-id")
    if not follow:
        seen = cli.call(ViewRead(location=location, size=count))
        cli.output.many("event", "events", seen.rows[::-1], seen.matched, exact=seen.matched_exact)
        return
    with cli.connected() as client:
        opened = client.call(ViewOpen(location=location, size=max(count, 200)))
        last = _follow(cli, opened.rows[:count], 0)
        for note in client.notifications():
            if isinstance(note, ViewChanged) and note.view == opened.view:
                last = _follow(cli, note.rows, last)


def _follow(cli: Cli, rows: list[dict[str, object]], last: int) -> int:
    """Print what is newer than event number `last`; the number of the newest."""
    fresh = sorted((row for row in rows if int(str(row["id"])) > last), key=lambda row: int(str(row["id"])))
    for row in fresh:
        if cli.output.form is Format.people:
            words = (str(row.get(name) or "") for name in ("level", "type", "about", "text"))
            write(clean("  ".join([clock(int(str(row["at_ms"]))), *(word for word in words if word)])))
            sys.stdout.flush()
        else:
            cli.output.line("event", row)
    return int(str(fresh[-1]["id"])) if fresh else last
