"""Answers about queues, pools, worker definitions and models."""

from __future__ import annotations

from typing import Any

from engine.contract.definitions import PoolDefinition, QueueDefinition, WorkerDefinition
from engine.contract.records import PoolDetail, QueueDetail, WorkerDetail
from engine.contract.requests import fleet
from engine.contract.why import Why
from tests.support.console_engine import ConsoleEngine, answers
from tests.support.rows import why


@answers(fleet.QueueExplain, fleet.PoolExplain, fleet.ModelExplain)
def _explain(engine: ConsoleEngine, request: Any) -> Why:
    return engine.whys.get(request.name) or why(request.method.partition(".")[0], request.name)


@answers(fleet.QueuePause, fleet.QueueResume)
def _pause(engine: ConsoleEngine, request: Any) -> QueueDetail:
    engine.change("queues", request.name, state="paused" if isinstance(request, fleet.QueuePause) else "open")
    return queue_detail(engine, request)


@answers(fleet.QueueShow)
def queue_detail(engine: ConsoleEngine, request: Any) -> QueueDetail:
    row = engine.row("queues", request.name)
    return QueueDetail(row=row, definition=QueueDefinition(name=request.name, pools=("demo",)))


@answers(fleet.PoolShow)
def pool_detail(engine: ConsoleEngine, request: Any) -> PoolDetail:
    row = engine.row("pools", request.name)
    definition = PoolDefinition(
        name=request.name, definition=row.definition, min_idle=row.min_idle, max_total=row.max_total
    )
    return PoolDetail(row=row, definition=definition)


@answers(fleet.PoolScale)
def _scale(engine: ConsoleEngine, request: fleet.PoolScale) -> PoolDetail:
    engine.change("pools", request.name, min_idle=request.min_idle or 0, max_total=request.max_total or 0)
    return pool_detail(engine, request)


@answers(fleet.WorkerShow)
def _worker(engine: ConsoleEngine, request: fleet.WorkerShow) -> WorkerDetail:
    row = engine.row("workers", request.name)
    return WorkerDetail(row=row, definition=WorkerDefinition(name=row.id, kind=row.kind, model=row.model))


@answers(fleet.WorkerReload)
def _reload(engine: ConsoleEngine, request: fleet.WorkerReload) -> fleet.Reloaded:
    return fleet.Reloaded(added=["new"], changed=[], removed=[], unchanged=2)
