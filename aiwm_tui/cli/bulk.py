"""Changes to a set of tasks: `task cancel` and `task retry`. A filter is resolved once to fixed ids, which are shown, asked about
and sent; nothing is evaluated again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import confirm
from engine.client import BlockingClient
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.tasks import TaskCancel, TaskList, TaskRetry

MOST = 10_000
"""Tasks in one change at most; also what one page of the list may have."""


def add(noun: typer.Typer) -> None:
    command(noun, "cancel")(_cancel)
    command(noun, "retry")(_retry)


Ids = Annotated[list[str] | None, typer.Argument(metavar="IDS", show_default=False)]
Where = Annotated[
    str | None,
    typer.Option(
        "--where", metavar="FILTER", help="all that match, such as 'state:pending queue:etl'", show_default=False
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only print which tasks it would be", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="why, for the record", show_default=False)]


def _cancel(
    cli: Cli, *, ids: Ids = None, where: Where = None, reason: Reason = "", dry_run: DryRun = False, yes: Yes = False
) -> int:
    """Cancel tasks: waiting ones end at once, running ones are told to stop.

    More than one task needs a yes: --yes where nobody can be asked. JSON: kind cancelled; with --dry-run kind plan."""
    with cli.connected() as client:
        chosen = _chosen(cli, client, "cancel", ids, where, dry_run=dry_run, yes=yes)
        if chosen is None:
            return ExitCode.ok
        done = client.call(TaskCancel(ids=chosen, reason=reason))
    words = (("cancelled", done.cancelled), ("told to stop", done.stopping), ("had ended before", done.ended))
    cli.output.one("cancelled", done, lambda: _counted(words))
    return ExitCode.ok if done.cancelled or done.stopping or not done.ended else ExitCode.failed


def _retry(cli: Cli, *, ids: Ids = None, where: Where = None, dry_run: DryRun = False, yes: Yes = False) -> int:
    """Put failed or cancelled tasks back into their queue, with all attempts.

    More than one task needs a yes: --yes where nobody can be asked. JSON: kind retried; with --dry-run kind plan."""
    with cli.connected() as client:
        chosen = _chosen(cli, client, "retry", ids, where, dry_run=dry_run, yes=yes)
        if chosen is None:
            return ExitCode.ok
        done = client.call(TaskRetry(ids=chosen))
    cli.output.one("retried", done, lambda: _counted((("back in the queue", done.retried),)))
    for task, why in done.refused.items():
        cli.output.talk(f"{task} was not retried: {why}")
    return ExitCode.failed if done.refused and not done.retried else ExitCode.ok


def filter_text(where: str) -> str:
    """A filter as typed, with or without the table in front."""
    text = where.strip()
    return text.removeprefix(":tasks").strip() if text.split(" ", 1)[0] == ":tasks" else text


def _chosen(
    cli: Cli,
    client: BlockingClient,
    verb: str,
    ids: Sequence[str] | None,
    where: str | None,
    *,
    dry_run: bool,
    yes: bool,
) -> tuple[str, ...] | None:
    """The fixed ids of this change, agreed to; None after a dry run and when nothing matches."""
    if bool(ids) == (where is not None):
        raise AiwmError(
            Code.bad_request, "name tasks either by id or by --where", field="ids", fix=f"aiwm task {verb} --help"
        )
    chosen = tuple(dict.fromkeys(ids or ())) if where is None else _resolved(client, where)
    if dry_run:
        plan = {"request": f"task.{verb}", "ids": chosen, "count": len(chosen)}
        cli.output.one("plan", plan, lambda: "\n".join(chosen) or None)
        cli.output.talk(f"would {verb} {len(chosen)}")
        return None
    if not chosen:
        cli.output.one("plan", {"request": f"task.{verb}", "ids": [], "count": 0}, lambda: None)
        cli.output.talk("no tasks match")
        return None
    if len(chosen) > 1:
        shown = ", ".join(chosen[:8]) + (f" … {chosen[-1]}" if len(chosen) > 8 else "")
        confirm(cli.output, f"{verb.capitalize()} {len(chosen):,} tasks: {shown}?", yes=yes)
    return chosen


def _resolved(client: BlockingClient, where: str) -> tuple[str, ...]:
    page = client.call(TaskList(where=filter_text(where), limit=MOST))
    if page.total > len(page.rows):
        raise AiwmError(
            Code.too_many_rows,
            f"{page.total:,} tasks match, one change takes at most {MOST:,}",
            field="where",
            fix="narrow the filter, such as age>1h",
        )
    return tuple(row.id for row in page.rows)


def _counted(parts: Sequence[tuple[str, Sequence[Any]]]) -> str:
    return "\n".join(f"{word} {' '.join(ids)}" for word, ids in parts if ids)
