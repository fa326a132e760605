"""`aiwm model`: which models there are, adding and changing them. What runs is in `model_running`."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from aiwm_tui.cli import model_adding, model_running
from aiwm_tui.cli.answers import plain, show
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.defining import DryRun, Yes
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.model_changing import set_fields
from aiwm_tui.cli.model_text import detail_text, detected_text
from aiwm_tui.cli.output import confirm
from engine.contract.requests import fleet, models
from engine.contract.requests.base import result_type


def add(app: typer.Typer) -> None:
    noun = group(app, "model", "Models: which there are, where they run, how fast, how big.")
    model_adding.register(noun)
    command(noun, "detect", models.ModelDetect)(_detect)
    command(noun, "ps", fleet.ModelList, omit=("known",))(_ps)
    command(noun, "list", fleet.ModelList, omit=("known",))(_list)
    command(noun, "show", models.ModelShow)(_show)
    command(noun, "set")(set_fields)
    command(noun, "remove", models.ModelRemove, omit=("dry_run",))(_remove)
    model_running.register(noun)
    plain(noun, fleet.ModelExplain)
    model_running.register(noun)


def _ps(cli: Cli, request: fleet.ModelList) -> None:
    """The model processes: which run, where, how fast, how big. JSON: kind models."""
    show(cli.output, result_type(fleet.ModelList), cli.call(request))


def _list(cli: Cli, request: fleet.ModelList) -> None:
    """Every model that is known: its processes, or that it has none. JSON: kind models."""
    show(cli.output, result_type(fleet.ModelList), cli.call(msgspec.structs.replace(request, known=True)))


def _detect(cli: Cli, request: models.ModelDetect) -> None:
    """Servers that listen on this machine, directories that hold models, programs that run them. JSON: kind detected."""
    found = cli.call(request)
    cli.output.one("detected", found, lambda: detected_text(found))


Crashes = Annotated[bool, typer.Option("--crashes", help="how its processes crashed last, instead", show_default=False)]


def _show(cli: Cli, request: models.ModelShow, *, crashes: Crashes = False) -> None:
    """One model: how it is run, what its files are, who uses it, which processes hold it. JSON: kind model; with --crashes kind crashes."""
    if crashes:
        model_running.show_crashes(cli, request.name)
        return
    detail = cli.call(request)
    cli.output.one("model", detail, lambda: detail_text(detail))


def _remove(cli: Cli, request: models.ModelRemove, *, yes: Yes = False, dry_run: DryRun = False) -> int:
    """Forget a model that was added, with the worker definition, pool and queue that came with it. Its files stay.

    It needs a yes: --yes where nobody can be asked. JSON: kind deleted."""
    plan = cli.call(models.ModelRemove(name=request.name, dry_run=True))
    if dry_run:
        ids = [f"model {plan.name}", *plan.gone]
        cli.output.one("plan", {"request": request.method, "ids": ids, "count": len(ids)}, lambda: "\n".join(ids))
        return ExitCode.ok
    also = f" with its {', '.join(plan.gone)}" if plan.gone else ""
    confirm(cli.output, f'Forget model "{plan.name}"{also}? Its files stay.', yes=yes)
    done = cli.call(request)
    cli.output.one("deleted", done, lambda: "\n".join([f"- model {done.name}", *(f"- {it}" for it in done.gone)]))
    return ExitCode.ok
