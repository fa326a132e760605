"""Answers about tasks and the engine itself."""

from __future__ import annotations

from typing import Any

from engine.contract.errors import AiwmError, Code
from engine.contract.query import parse
from engine.contract.records import TaskDetail
from engine.contract.requests import context, operations, session, tasks
from engine.contract.why import Why
from tests.support.console_engine import ConsoleEngine, Stream, answers
from tests.support.rows import why


@answers(tasks.TaskShow)
def _show(engine: ConsoleEngine, request: tasks.TaskShow) -> TaskDetail:
    row = engine.row("tasks", request.id)
    detail: dict[str, Any] = {"payload": {"prompt": "Who sent this invoice?"}} | engine.details.get(row.id, {})
    return TaskDetail(row=row, **detail)


@answers(context.TaskContextShow)
def _context(engine: ConsoleEngine, request: context.TaskContextShow) -> context.EffectiveContext:
    engine.row("tasks", request.id)
    given = context.GivenSource(source="inv-2026", level="pool", name="demo", also=("queue",))
    return engine.contexts.get(request.id) or context.EffectiveContext(
        task=request.id,
        levels=(),
        sources=(given,),
        supervisor=context.GivenSupervisor(supervisor="rules/default", level="queue", name="demo"),
        tools=("file.read", "file.list"),
        needs_approval=(),
        tools_allow=("file.read", "file.list"),
        tools_deny=("file.write",),
        tools_from=("definition nano",),
    )


@answers(tasks.TaskFollow)
def _follow(engine: ConsoleEngine, request: tasks.TaskFollow) -> tasks.StreamState:
    assert engine.client is not None
    engine.client.followed.add(request.id)
    stream = engine.streams.setdefault(request.id, Stream(request.id))
    return tasks.StreamState(
        stream=f"s-{request.id}",
        task=request.id,
        attempt=stream.attempt,
        offset=request.offset,
        text=stream.text[request.offset :],
        ended=stream.ended,
    )


@answers(tasks.TaskUnfollow)
def _unfollow(engine: ConsoleEngine, request: tasks.TaskUnfollow) -> None:
    assert engine.client is not None
    engine.client.followed.discard(request.stream.removeprefix("s-"))


@answers(tasks.TaskExplain)
def _explain(engine: ConsoleEngine, request: tasks.TaskExplain) -> Why:
    return engine.whys.get(request.id) or why("task", request.id)


@answers(tasks.TaskSubmit)
def _submit(engine: ConsoleEngine, request: tasks.TaskSubmit) -> tasks.TaskAck:
    template = engine.definitions.get(("templates", request.template or ""))
    if not (template and template.queue and not request.queue) and request.queue not in engine.tables["queues"]:
        raise AiwmError(Code.not_found, f'queue "{request.queue}" does not exist', field="queue", fix="aiwm queue list")
    return tasks.TaskAck(id="t-10099", state="pending")


def _ids(engine: ConsoleEngine, request: Any, states: set[str]) -> list[str]:
    """The tasks that a change is about: those it names, or those in fitting states that its filter finds."""
    if request.ids:
        return list(request.ids)
    rows = engine.rows_of(parse(f":tasks {request.where}"))
    return sorted(row.id for row in rows if row.state in states)


def _plan(engine: ConsoleEngine, request: Any, ids: list[str]) -> tasks.Plan:
    running = sum(engine.row("tasks", identifier).state == "processing" for identifier in ids)
    cost = tasks.PlanCost(tokens_in=880 * len(ids), tokens_out=2048 * len(ids), running=running)
    return tasks.Plan(request=request.method, effect=request.effect.value, ids=ids, count=len(ids), cost=cost)


@answers(tasks.TaskCancel)
def _cancel(engine: ConsoleEngine, request: tasks.TaskCancel) -> tasks.Cancelled:
    ids = _ids(engine, request, {"pending", "scheduled", "retrying", "processing"})
    if request.dry_run:
        return tasks.Cancelled(plan=_plan(engine, request, ids))
    if request.delay_ms:
        return tasks.Cancelled(operation="op-1", due_ms=engine.now() + request.delay_ms)
    for identifier in ids:
        engine.change("tasks", identifier, state="cancelled")
    return tasks.Cancelled(cancelled=ids, stopping=[], ended=[])


@answers(tasks.TaskRetry)
def _retry(engine: ConsoleEngine, request: tasks.TaskRetry) -> tasks.Retried:
    ids = _ids(engine, request, {"failed", "cancelled"})
    if request.dry_run:
        return tasks.Retried(plan=_plan(engine, request, ids))
    for identifier in ids[: request.canary or None]:
        engine.change("tasks", identifier, state="pending")
    held = len(ids) - request.canary if request.canary else 0
    return tasks.Retried(operation="op-2", retried=ids[: request.canary or None], held=held)


@answers(tasks.TaskMove)
def _move(engine: ConsoleEngine, request: tasks.TaskMove) -> tasks.Changed:
    ids = _ids(engine, request, {"pending", "scheduled", "retrying"})
    if request.dry_run:
        return tasks.Changed(plan=_plan(engine, request, ids))
    for identifier in ids:
        engine.change("tasks", identifier, queue=request.queue or "demo")
    return tasks.Changed(operation="op-3", changed=ids)


@answers(operations.OperationUndo)
def _undo(engine: ConsoleEngine, request: operations.OperationUndo) -> operations.Undone:
    return operations.Undone(id=request.id, state="undone")


@answers(session.EngineStop)
def _stop(engine: ConsoleEngine, request: session.EngineStop) -> session.Stopping:
    return session.Stopping(mode=request.mode, running=0, waiting=0)
