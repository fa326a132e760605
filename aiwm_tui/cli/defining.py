"""What the commands about definitions share: deleting one after a yes, and saying what a document of definitions changes."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aiwm_tui.cli.answers import show
from aiwm_tui.cli.command import Cli, command
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import confirm
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.base import Request, result_type
from engine.contract.requests.bundles import BundleReport, KindDiff, Problem

Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only say what it would do", show_default=False)]


def deleting(noun: typer.Typer, request: type[Request[Any]], look: type[Request[Any]]) -> None:
    """Register a delete: it asks, or wants --yes. `look` is the request that shows the definition."""
    kind = request.method.partition(".")[0]

    def body(cli: Cli, made: Any, *, yes: Yes = False, dry_run: DryRun = False) -> int:
        if dry_run:
            cli.call(look(name=made.name))
            plan = {"request": request.method, "ids": [made.name], "count": 1}
            cli.output.one("plan", plan, lambda: made.name)
            cli.output.talk(f"would delete {kind} {made.name}")
            return ExitCode.ok
        confirm(cli.output, f'Delete {kind} "{made.name}"?', yes=yes)
        show(cli.output, result_type(request), cli.call(made))
        return ExitCode.ok

    body.__doc__ = f"{inspect.getdoc(request)}\n\nIt needs a yes: --yes where nobody can be asked. JSON: kind deleted."
    command(noun, "delete", request)(body)


def text_of(file: str, field: str = "file") -> str:
    """A file's text, or stdin's for `-`. Raises `bad_request` naming the file; `field` is the option that it came by."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except UnicodeDecodeError:
        raise AiwmError(Code.bad_request, f"{file} is not UTF-8 text", field=field) from None
    except OSError as error:
        raise AiwmError(Code.bad_request, f"{file} cannot be read: {error.strerror}", field=field) from None


def report(cli: Cli, result: BundleReport, *, would: bool) -> int:
    """Print what a document of definitions changes (or would), and apart from it what is wrong with it. The exit code: 0, 1 when only
    what was right is in force, 2 when nothing is."""
    cli.output.one("bundle", result, lambda: _changes(result, would=would))
    for problem in result.warnings:
        cli.output.talk(f"warning: {_problem(problem)}")
    for problem in result.errors:
        cli.output.talk(f"error: {_problem(problem)}")
    if not result.errors:
        return ExitCode.ok
    kept = result.policy == "load-valid"
    verb = "would be" if would else "is"
    what = f"what is right {verb} in force" if kept else f"nothing {verb} changed"
    cli.output.talk(f"{len(result.errors)} wrong: {what} ({result.policy})")
    return ExitCode.failed if kept and not would else ExitCode.usage


def _problem(problem: Problem) -> str:
    about = f"{problem.kind} {problem.name}: " if problem.name else ""
    place = f"{problem.field}: " if problem.field else ""
    return f"{about}{place}{problem.message}" + (f" ({problem.fix})" if problem.fix else "")


def _changes(result: BundleReport, *, would: bool) -> str:
    from aiwm_tui.live.format import plural
    from aiwm_tui.live.text import clean

    lines = [line for change in result.changes for line in _kind(change)]
    if not lines:
        lines.append("nothing would change" if would else "nothing changed")
    total = ", ".join(plural(count, kind.removesuffix("s")) for kind, count in result.counts.items())
    return "\n".join(clean(line) for line in [*lines, f"in force {'then' if would else 'now'}: {total}"])


def _kind(change: KindDiff) -> list[str]:
    lines = [f"+ {change.kind} {name}" for name in change.added]
    for item in change.changed:
        fields = [f"{field.field} {_value(field.before)} → {_value(field.after)}" for field in item.fields]
        lines.append(f"~ {change.kind} {item.name}  " + " · ".join(fields))
    return lines + [f"- {change.kind} {name}" for name in change.removed]


def _value(value: Any) -> str:
    import msgspec

    text = value if isinstance(value, str) and value else msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:59]}…"
