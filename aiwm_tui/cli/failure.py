"""`aiwm failure`: failures by their fingerprint, equal ones folded."""

from __future__ import annotations

from typing import Annotated

import typer

from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.times import past_ms
from engine.contract.requests.failures import FailureDetail, FailureList, FailureShow

Since = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="from then on: 22:00, 1h, yesterday", show_default=False)
]


def add(app: typer.Typer) -> None:
    noun = group(app, "failure", "Failures: equal ones are one line with a count.")
    command(noun, "list", FailureList, omit=("since_ms",))(_list)
    command(noun, "show", FailureShow)(_show)


def _list(cli: Cli, request: FailureList, *, since: Since = None) -> None:
    """Failures by their fingerprint, those that happened last first. Their tasks: aiwm task list fail:F-…

    JSON: kind failures."""
    rows = cli.call(FailureList(since_ms=past_ms(since, "--since"), limit=request.limit))
    cli.output.many("failure", "failures", rows, len(rows), empty="nothing failed")


def _show(cli: Cli, request: FailureShow) -> None:
    """Failures alike: how often, since when, which tasks, and what they have in common.

    JSON: kind failure."""
    detail = cli.call(request)
    cli.output.one("failure", detail, lambda: _text(detail))


def _text(detail: FailureDetail) -> str:
    from aiwm_tui.cli.output import fields_text
    from aiwm_tui.live.text import clean

    lines = [fields_text(detail.row), f"failed now  {detail.failed_now:,}"]
    if detail.common:
        lines.append("in common")
        lines += [clean(f"  {it.field} {it.value}  ({it.count:,})") for it in detail.common]
    if detail.tasks:
        lines.append("tasks  " + " ".join(detail.tasks))
    if detail.stderr:
        lines += ["stderr", *(clean(f"  | {line}") for line in detail.stderr)]
    return "\n".join(lines)
