"""`aiwm perf`: what tasks took, cost and came to."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import msgspec
import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import Cli, command, group
from engine.client import BlockingClient
from engine.contract.errors import AiwmError, Code
from engine.contract.records import RecordRow
from engine.contract.requests import performance

_PAGE = 2_000


def add(app: typer.Typer) -> None:
    noun = group(app, "perf", "Performance: what tasks took, cost and came to, and what that sums up to.")
    command(noun, "list", performance.PerfList, omit=("where",))(_list)
    plain(noun, performance.PerfSummary)
    command(noun, "export")(_export)


Where = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILTER", help="such as definition:nano success:true duration>5s cost>0.01", show_default=False
    ),
]


def _list(cli: Cli, request: performance.PerfList, *, where: Where = None) -> None:
    """Performance records, one a task that ended, that match a filter; the latest first.

    Fields: task, instance, definition, queue, pool, success, duration, cost, tokens_in, tokens_out, rating and the others of the JSON.
    `instance:stateless*` matches every record: each is of a one-shot call. JSON: kind records, total the number that match."""
    page = cli.call(msgspec.structs.replace(request, where=" ".join(where or ())))
    empty = "no records match" if where else "no task has ended yet"
    cli.output.many("record", "records", page.rows, page.total, exact=page.exact, empty=empty)


def _export(
    cli: Cli,
    *,
    where: Where = None,
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="jsonl or csv")] = "jsonl",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="write to a file (0600) instead", show_default=False)
    ] = None,
) -> None:
    """Write all records that match a filter, the oldest first, as JSON lines or CSV."""
    if format not in ("jsonl", "csv"):
        raise AiwmError(Code.bad_request, f'there is no format "{format[:40]}"', field="format", fix="jsonl or csv")
    with cli.connected() as client:
        filter_ = " ".join(where or ())
        # What can be refused is asked first: a file that is there already must not be emptied for nothing.
        client.call(performance.PerfList(where=filter_, limit=0))
        rows = _all(client, filter_)
        if out is None:
            _write(rows, sys.stdout, format)
            return
        with out.open("w", encoding="utf-8", newline="") as file:
            out.chmod(0o600)
            count = _write(rows, file, format)
    cli.output.talk(f"{count:,} records in {out}")


def _all(client: BlockingClient, where: str) -> Iterator[RecordRow]:
    """Every record that matches, page by page. What ends meanwhile comes last."""
    offset = 0
    while True:
        page = client.call(performance.PerfList(where=f"{where} sort:id", limit=_PAGE, offset=offset))
        yield from page.rows
        if len(page.rows) < _PAGE:
            return
        offset += len(page.rows)


def _write(rows: Iterator[RecordRow], file: TextIO, form: str) -> int:
    count = 0
    writer: Any = None
    for row in rows:
        count += 1
        if form == "jsonl":
            file.write(msgspec.json.encode(row).decode() + "\n")
            continue
        if writer is None:
            writer = csv.writer(file)
            writer.writerow(row.__struct_fields__)
        writer.writerow([_cell(getattr(row, name)) for name in row.__struct_fields__])
    return count


def _cell(value: Any) -> Any:
    """A value in a CSV cell. Text that a spreadsheet would run as a formula is kept from it by an apostrophe."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
