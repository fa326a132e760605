"""Changes to a set of tasks: cancel, retry, move, priority. A filter is resolved once, by the engine, to fixed ids; these are shown,
asked about and sent; nothing is evaluated again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import confirm
from engine.client import BlockingClient
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.base import Request
from engine.contract.requests.tasks import (
    Cancelled,
    Changed,
    Plan,
    Retried,
    TaskCancel,
    TaskMove,
    TaskPriority,
    TaskRetry,
)

ASK_FROM = 20
"""So many tasks are not changed without a yes."""
_OWN = ("ids", "where", "dry_run")


def add(noun: typer.Typer) -> None:
    command(noun, "cancel", TaskCancel, omit=_OWN)(_cancel)
    command(noun, "retry", TaskRetry, omit=(*_OWN, "set"))(_retry)
    command(noun, "move", TaskMove, omit=_OWN)(_move)
    command(noun, "priority", TaskPriority, omit=_OWN)(_priority)


Ids = Annotated[list[str] | None, typer.Argument(metavar="IDS", show_default=False)]
Where = Annotated[
    str | None,
    typer.Option(
        "--where", metavar="FILTER", help="all that match, such as 'state:pending queue:etl'", show_default=False
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="only print which tasks it would be, and what it costs", show_default=False)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="change the payload: max_tokens=64, a.b=true; may be given several times",
        show_default=False,
    ),
]


def _cancel(
    cli: Cli, request: TaskCancel, *, ids: Ids = None, where: Where = None, dry_run: DryRun = False, yes: Yes = False
) -> int:
    """Cancel tasks: waiting ones end at once, running ones are told to stop.

    20 or more need a yes: --yes where nobody can be asked. With --delay it is done later, and aiwm undo takes it back before.
    JSON: kind cancelled; with --dry-run kind plan."""
    with cli.connected() as client:
        done = _done(cli, client, request, ids, where, dry_run=dry_run, yes=yes)
    if not isinstance(done, Cancelled):
        return ExitCode.ok
    words = (("cancelled", done.cancelled), ("told to stop", done.stopping), ("had ended before", done.ended))
    cli.output.one("cancelled", done, lambda: _counted(words))
    _say_operation(cli, done)
    return ExitCode.ok if done.cancelled or done.stopping or done.due_ms or not done.ended else ExitCode.failed


def _retry(
    cli: Cli,
    request: TaskRetry,
    *,
    ids: Ids = None,
    where: Where = None,
    set: Set = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Put failed or cancelled tasks back into their queue, with all attempts; let one named by its id wait no longer for its time.

    --canary N puts back N; the rest follow when these have completed, and stay as they are if one fails. 20 or more need a yes: --yes
    where nobody can be asked. JSON: kind retried; with --dry-run kind plan."""
    request = msgspec.structs.replace(request, set=settings(set or ()))
    with cli.connected() as client:
        done = _done(cli, client, request, ids, where, dry_run=dry_run, yes=yes)
    if not isinstance(done, Retried):
        return ExitCode.ok
    cli.output.one("retried", done, lambda: _counted((("back in the queue", done.retried),)))
    if done.held:
        cli.output.talk(f"{done.held} follow when these have completed")
    return _refusals(cli, done, done.retried, "retried")


def _move(
    cli: Cli, request: TaskMove, *, ids: Ids = None, where: Where = None, dry_run: DryRun = False, yes: Yes = False
) -> int:
    """Move waiting tasks to another --queue, or to the --front of theirs.

    JSON: kind moved; with --dry-run kind plan."""
    with cli.connected() as client:
        done = _done(cli, client, request, ids, where, dry_run=dry_run, yes=yes)
    return _changed(cli, done, "moved")


def _priority(
    cli: Cli, request: TaskPriority, *, ids: Ids = None, where: Where = None, dry_run: DryRun = False, yes: Yes = False
) -> int:
    """Give waiting tasks another PRIORITY: bigger is sooner.

    JSON: kind changed; with --dry-run kind plan."""
    with cli.connected() as client:
        done = _done(cli, client, request, ids, where, dry_run=dry_run, yes=yes)
    return _changed(cli, done, "changed")


def _changed(cli: Cli, done: Any, word: str) -> int:
    if not isinstance(done, Changed):
        return ExitCode.ok
    cli.output.one(word, done, lambda: _counted(((word, done.changed),)))
    return _refusals(cli, done, done.changed, word)


def settings(given: Sequence[str]) -> dict[str, Any]:
    """`a.b=1` as `{"a": {"b": 1}}`: values are JSON, or text where they are none."""
    made: dict[str, Any] = {}
    for text in given:
        path, equals, value = text.partition("=")
        keys = path.split(".")
        if not equals or not all(keys):
            raise AiwmError(
                Code.bad_request, f'--set "{text[:60]}" is not KEY=VALUE', field="set", fix="--set max_tokens=64"
            )
        place = made
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise AiwmError(Code.bad_request, f'--set "{text[:60]}" contradicts another one', field="set")
        try:
            place[keys[-1]] = json.loads(value)
        except ValueError:
            place[keys[-1]] = value
    return made


def filter_text(where: str) -> str:
    """A filter as typed, with or without the table in front."""
    text = where.strip()
    return text.removeprefix(":tasks").strip() if text.split(" ", 1)[0] == ":tasks" else text


def _done(
    cli: Cli,
    client: BlockingClient,
    request: Any,
    ids: Sequence[str] | None,
    where: str | None,
    *,
    dry_run: bool,
    yes: bool,
) -> Any:
    """The engine's answer, once the fixed ids are agreed to; None after a dry run and when nothing matches."""
    verb = request.method.partition(".")[2]
    if bool(ids) == (where is not None):
        raise AiwmError(
            Code.bad_request, "name tasks either by id or by --where", field="ids", fix=f"aiwm task {verb} --help"
        )
    chosen = tuple(dict.fromkeys(ids or ()))
    if dry_run or where is not None:
        plan = _planned(client, request, chosen, where)
        chosen = tuple(plan.ids)
        if dry_run or not chosen:
            show_plan(cli, plan, verb if dry_run else None)
            return None
    if len(chosen) >= ASK_FROM:
        shown = ", ".join(chosen[:8]) + (f" … {chosen[-1]}" if len(chosen) > 8 else "")
        confirm(cli.output, f"{verb.capitalize()} {len(chosen):,} tasks: {shown}?", yes=yes)
    return client.call(msgspec.structs.replace(request, ids=chosen))


def _planned(client: BlockingClient, request: Request[Any], ids: tuple[str, ...], where: str | None) -> Plan:
    asked = msgspec.structs.replace(request, ids=ids, where=where or "", dry_run=True)
    if where is not None and not filter_text(where):
        # A filter that lets everything through is meant to be said.
        raise AiwmError(Code.bad_request, "--where is empty", field="where", fix="such as 'state:failed queue:etl'")
    plan = client.call(asked).plan
    assert isinstance(plan, Plan)
    return plan


def show_plan(cli: Cli, plan: Plan, verb: str | None) -> None:
    """Print the plan of a change; with a `verb` say what it would do."""
    cli.output.one("plan", plan, lambda: "\n".join(plan.ids) or None)
    if verb is None or not plan.ids:
        cli.output.talk("no tasks match")
        return
    cost = plan.cost
    used = f"; they used {cost.tokens_in:,} tokens in, {cost.tokens_out:,} out so far" if cost.tokens_in else ""
    running = f"; {cost.running} of them run" if cost.running else ""
    cli.output.talk(f"would {verb} {plan.count:,}{running}{used}")


def _say_operation(cli: Cli, done: Cancelled | Retried | Changed) -> None:
    if done.due_ms is not None:
        from aiwm_tui.live.format import clock

        cli.output.talk(f"{done.operation} is done at {clock(done.due_ms)} (aiwm undo {done.operation} takes it back)")
    elif done.operation:
        cli.output.talk(f"{done.operation} (aiwm undo {done.operation})")


def _refusals(cli: Cli, done: Retried | Changed, good: Sequence[str], word: str) -> int:
    for task, why in done.refused.items():
        cli.output.talk(f"{task} was not {word}: {why}")
    _say_operation(cli, done)
    return ExitCode.failed if done.refused and not good else ExitCode.ok


def _counted(parts: Sequence[tuple[str, Sequence[Any]]]) -> str:
    return "\n".join(f"{word} {' '.join(ids)}" for word, ids in parts if ids)
