"""Answers about queues, pools, worker definitions and models."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.definitions import WorkerDefinition
from engine.contract.records import WorkerDetail
from engine.contract.requests import fleet, tools
from engine.contract.why import Why
from tests.support.console_answers.definitions import definition_of, show
from tests.support.console_engine import ConsoleEngine, answers
from tests.support.rows import why


@answers(fleet.QueueExplain, fleet.PoolExplain, fleet.ModelExplain)
def _explain(engine: ConsoleEngine, request: Any) -> Why:
    return engine.whys.get(request.name) or why(request.method.partition(".")[0], request.name)


@answers(fleet.QueuePause, fleet.QueueResume)
def _pause(engine: ConsoleEngine, request: Any) -> Any:
    engine.change("queues", request.name, state="paused" if isinstance(request, fleet.QueuePause) else "open")
    return show(engine, fleet.QueueShow(name=request.name))


@answers(fleet.PoolScale)
def _scale(engine: ConsoleEngine, request: fleet.PoolScale) -> Any:
    limits = {"min_idle": request.min_idle, "max_total": request.max_total}
    before = definition_of(engine, "pools", request.name)
    engine.definitions["pools", request.name] = msgspec.structs.replace(before, **limits)
    return show(engine, fleet.PoolShow(name=request.name))


@answers(fleet.WorkerShow)
def _worker(engine: ConsoleEngine, request: fleet.WorkerShow) -> WorkerDetail:
    row = engine.row("workers", request.name)
    made = WorkerDefinition(name=row.id, kind=row.kind, model=row.model)
    return WorkerDetail(row=row, definition=engine.definitions.get(("workers", row.id), made))


@answers(tools.ToolList)
def _tools(engine: ConsoleEngine, request: tools.ToolList) -> list[tools.ToolRow]:
    def row(name: str, allowed: str, gate: str, why: str) -> tools.ToolRow:
        return tools.ToolRow(id=name, allowed=allowed, gate=gate, why=why, effect="read", request="", description="")

    return [
        row("read_file", "allowed", "all", "allowed"),
        row("task_cancel", "approval", "policy", "task_cancel is destructive: a person must approve it"),
        row("write_file", "denied", "deny", f"write_file is on the deny list of worker {request.definition}"),
        row(
            "list_files", "not_allowed", "allow", f"list_files is not on the allow list of worker {request.definition}"
        ),
    ]


@answers(fleet.WorkerReload)
def _reload(engine: ConsoleEngine, request: fleet.WorkerReload) -> fleet.Reloaded:
    return fleet.Reloaded(added=["new"], changed=[], removed=[], unchanged=2)
