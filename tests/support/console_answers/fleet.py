"""Answers about queues, pools, worker definitions and models."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.definitions import WorkerDefinition
from engine.contract.records import WorkerDetail
from engine.contract.requests import fleet
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
    return WorkerDetail(row=row, definition=WorkerDefinition(name=row.id, kind=row.kind, model=row.model))


@answers(fleet.WorkerReload)
def _reload(engine: ConsoleEngine, request: fleet.WorkerReload) -> fleet.Reloaded:
    return fleet.Reloaded(added=["new"], changed=[], removed=[], unchanged=2)
