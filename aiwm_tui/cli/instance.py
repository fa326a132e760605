"""`aiwm instance`: the live workers, those that are talked to, and those that are no more."""

from __future__ import annotations

from typing import Annotated

import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.chat import chat
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.output import fields_text
from engine.contract.records import InstanceDetail
from engine.contract.requests import instances


def add(app: typer.Typer) -> None:
    noun = group(app, "instance", "Instances: the live workers, what each is doing, and talking to one.")
    command(noun, "list")(_list)
    command(noun, "show", instances.InstanceShow)(_show)
    command(noun, "spawn", instances.InstanceSpawn, names={"files": "file"})(_spawn)
    command(noun, "chat")(chat)
    plain(noun, instances.InstanceStop)
    command(noun, "set", instances.InstanceSet, names={"files": "file"})(_set)
    command(noun, "retire", instances.InstanceRetire)(_retire)


def _list(
    cli: Cli,
    *,
    where: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILTER", help="such as state:busy definition:nano", show_default=False),
    ] = None,
    retired: Annotated[
        bool, typer.Option("--retired", help="those that are no more, with how and why they went", show_default=False)
    ] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="retired ones at most")] = 100,
) -> None:
    """All live instances and what each is doing; with --retired those that are no more. JSON: kind instances, or retired."""
    text = " ".join(where or ())
    if retired:
        gone = cli.call(instances.InstanceRetired(where=text, limit=limit))
        cli.output.many("retired", "retired", gone, len(gone), empty="no instance was retired yet")
        return
    rows = cli.call(instances.InstanceList(where=text))
    empty = "no instances match" if text else "no instances: pools start them when there is work"
    cli.output.many("instance", "instances", rows, len(rows), empty=empty)


def _show(cli: Cli, request: instances.InstanceShow) -> None:
    """An instance whole, live or retired: its configuration in force, its conversation, what it used. JSON: kind instance."""
    detail = cli.call(request)
    cli.output.one("instance", detail, lambda: detail_text(detail))


def _spawn(cli: Cli, request: instances.InstanceSpawn) -> None:
    """Start an instance of a definition to talk to, and print its id. It keeps its conversation until it is retired.

    The options go before the definition's values, for this instance only; --file replaces the definition's file contexts. JSON: kind
    instance, data.row.id."""
    detail = cli.call(request)
    cli.output.one("instance", detail, lambda: identifier(detail))


def _set(cli: Cli, request: instances.InstanceSet) -> None:
    """Change a directly spawned instance: --state idle clears its last error, --state broken takes it out of use; --file sets its active
    file contexts; tokens are added to what it used. JSON: kind instance."""
    detail = cli.call(request)
    cli.output.one("instance", detail, lambda: detail_text(detail))


def _retire(cli: Cli, request: instances.InstanceRetire) -> None:
    """End an instance. A directly spawned one stays in the history with its conversation; one of a pool goes when its task has ended.

    --status says how it ended: completed, exhausted, failed, full or spent. JSON: kind instance."""
    detail = cli.call(request)
    cli.output.one("instance", detail, lambda: identifier(detail))
    if detail.row is not None:
        cli.output.talk(f"{detail.row.id} goes when its task has ended")


def identifier(detail: InstanceDetail) -> str:
    row = detail.row or detail.retired
    return row.id if row is not None else ""


def detail_text(detail: InstanceDetail) -> str:
    """An instance for people: its row, what it used, what is in force, the conversation."""
    from aiwm_tui.live.text import clean, clean_lines

    parts = [fields_text(detail.row or detail.retired)]
    parts.append(
        fields_text(
            {
                "tokens": f"{detail.tokens_in:,} in, {detail.tokens_out:,} out",
                "cost": f"${detail.cost_usd:.6f}" if detail.cost_usd else "",
                "files": detail.files,
                "overrides": detail.overrides,
            }
        )
    )
    if detail.definition is not None:
        parts.append("in force\n" + fields_text(detail.definition, "  "))
    for turn in detail.turns:
        said = [f"turn {turn.n}: {turn.tokens_in} in, {turn.tokens_out} out, {clean(turn.reason)}"]
        said += [f"  > {line}" for line in clean_lines(turn.message)]
        said += [f"  {line}" for line in clean_lines(turn.text)]
        parts.append("\n".join(said))
    return "\n".join(parts)
