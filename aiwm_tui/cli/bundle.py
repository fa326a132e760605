"""`aiwm bundle`: definitions of all kinds as one document."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from aiwm_tui.cli.answers import show
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.defining import DryRun, Yes, report, text_of
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import confirm, write
from engine.contract.requests import bundles

File = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE", help="the bundle; - reads stdin (none: the definition files in the home)", show_default=False
    ),
]


def add(app: typer.Typer) -> None:
    noun = group(app, "bundle", "Bundles: definitions of all kinds as one document.")
    command(noun, "load", bundles.BundleLoad, omit=("bundle",))(_load)
    command(noun, "diff", bundles.BundleDiff, omit=("bundle",))(_diff)
    command(noun, "export")(_export)
    command(noun, "policy")(_policy)
    command(noun, "schema", bundles.BundleSchema)(_schema)


def _load(
    cli: Cli, request: bundles.BundleLoad, *, file: File = None, dry_run: DryRun = False, yes: Yes = False
) -> int:
    """Put the definitions of a bundle in force: all at once, or nothing.

    Worker definitions replace the whole set, the others are added or replaced by name; an export replaces every kind, and where that
    removes anything but worker definitions it needs a yes. Exit code: 0, 1 when only what was right is in force, 2 when nothing is.
    JSON: kind bundle."""
    text = None if file is None else text_of(file)
    look = bundles.BundleDiff(bundle=text, policy=request.policy, keep_others=request.keep_others)
    with cli.connected() as client:
        planned = client.call(look)
        if dry_run:
            return report(cli, planned, would=True)
        gone = [f"{it.kind} {name}" for it in planned.changes if it.kind != "worker" for name in it.removed]
        if gone and not (planned.errors and planned.policy == bundles.LoadPolicy.fail_fast):
            confirm(cli.output, f"This removes {', '.join(gone)}. Go on?", yes=yes)
        done = client.call(msgspec.structs.replace(request, bundle=text))
    return report(cli, done, would=False)


def _diff(cli: Cli, request: bundles.BundleDiff, *, file: File = None) -> int:
    """What a load of this bundle would change, before it does. Exit code 2 when something in it is wrong. JSON: kind bundle."""
    text = None if file is None else text_of(file)
    return report(cli, cli.call(msgspec.structs.replace(request, bundle=text)), would=True)


def _export(
    cli: Cli,
    *,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="write it there, whole or not at all", show_default=False),
    ] = None,
) -> int:
    """All definitions in force as one bundle: loaded into an empty home it gives the same state.

    The document itself goes to stdout, or to --out FILE. With --json: kind exported, data.bundle and data.counts."""
    found = cli.call(bundles.BundleExport())
    document = msgspec.json.format(msgspec.json.encode(found.bundle), indent=2).decode()
    if out is None:
        cli.output.one("exported", found, lambda: document)
        return ExitCode.ok
    path = Path(out)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(document + "\n", "utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    total = ", ".join(f"{count} {kind}" for kind, count in found.counts.items())
    cli.output.one("exported", {"file": str(path), "counts": found.counts}, lambda: f"{path}: {total}")
    return ExitCode.ok


def _policy(
    cli: Cli,
    *,
    policy: Annotated[
        str | None, typer.Argument(metavar="POLICY", help="fail-fast or load-valid", show_default=False)
    ] = None,
) -> None:
    """What becomes of a bundle with mistakes when a load does not say: fail-fast changes nothing, load-valid takes what is right.

    With POLICY it is set, and kept. JSON: kind policy."""
    asked = bundles.BundlePolicy() if policy is None else bundles.BundleSetPolicy(policy=policy)
    answer = cli.call(asked)
    if cli.output.for_people:
        from aiwm_tui.live.text import clean

        write(clean(answer.policy))
    else:
        show(cli.output, bundles.Policy, answer)


def _schema(cli: Cli, request: bundles.BundleSchema) -> None:
    """The JSON Schema of a bundle, in all the spellings that are understood: for editors and generators. With --json: kind schema."""
    schema = cli.call(request)
    cli.output.one("schema", schema, lambda: msgspec.json.format(msgspec.json.encode(schema), indent=2).decode())
