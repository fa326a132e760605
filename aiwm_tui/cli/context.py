"""A task's effective context as text, and `task explain`, which shows it on request."""

from __future__ import annotations

from typing import Annotated

import typer

from aiwm_tui.cli.answers import show
from aiwm_tui.cli.command import Cli
from engine.contract.requests import tasks
from engine.contract.requests.context import EffectiveContext, TaskContextShow
from engine.contract.why import Why

Context = Annotated[
    bool,
    typer.Option("--context", help="data sources, supervisor and tools, and which level gave each", show_default=False),
]


def explain(cli: Cli, request: tasks.TaskExplain, *, effective: Context = False) -> None:
    """Why a task does not run now: the gates in the order in which the scheduler tests them. With --context what it may use.

    JSON: kind why; with --context kind context."""
    if not effective:
        show(cli.output, Why, cli.call(request))
        return
    found = cli.call(TaskContextShow(id=request.id))
    cli.output.one("context", found, lambda: context_text(found))


def context_text(context: EffectiveContext) -> str:
    """Level by level, then what is in force."""
    from aiwm_tui.live.text import clean

    lines = [f"context of {context.task}"]
    if context.note:
        lines.append(f"  {context.note}")
    lines.append("levels")
    for level in context.levels:
        says = [f"sources {', '.join(level.sources)}" if level.sources else ""]
        says.append(f"supervisor {level.supervisor}" if level.supervisor else "")
        lines.append(f"  {level.level:<10}  {level.name}  {' · '.join(filter(None, says)) or '–'}")
    lines.append("data sources" + ("" if context.sources else "  none"))
    for number, source in enumerate(context.sources, 1):
        also = f", also {', '.join(source.also)}" if source.also else ""
        problem = f"  ! {source.problem}" if source.problem else ""
        lines.append(f"  {number}  {source.source}  from {source.level} {source.name}{also}{problem}")
    given = context.supervisor
    over = f", before {', '.join(given.over)}" if given is not None and given.over else ""
    lines.append(
        f"supervisor  {given.supervisor}  from {given.level} {given.name}{over}"
        if given is not None
        else "supervisor  none"
    )
    lines.append(f"tools  {', '.join(context.tools) or 'none'}")
    if context.needs_approval:
        lines.append(f"  with approval  {', '.join(context.needs_approval)}")
    lines.append(
        f"  allow {', '.join(context.tools_allow) or 'nothing'} · deny {', '.join(context.tools_deny) or 'nothing'}"
    )
    if context.bounded_by:
        lines.append(f"  bounded by what started it: {', '.join(context.bounded_by)}")
    return "\n".join(clean(line) for line in lines)
