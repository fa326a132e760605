"""Answers about tasks and the engine itself."""

from __future__ import annotations

from typing import Any

from engine.contract.errors import AiwmError, Code
from engine.contract.records import TaskDetail
from engine.contract.requests import session, tasks
from engine.contract.why import Why
from tests.support.console_engine import ConsoleEngine, Stream, answers
from tests.support.rows import why


@answers(tasks.TaskShow)
def _show(engine: ConsoleEngine, request: tasks.TaskShow) -> TaskDetail:
    row = engine.row("tasks", request.id)
    detail: dict[str, Any] = {"payload": {"prompt": "Who sent this invoice?"}} | engine.details.get(row.id, {})
    return TaskDetail(row=row, **detail)


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
    if request.queue not in engine.tables["queues"]:
        raise AiwmError(Code.not_found, f'queue "{request.queue}" does not exist', field="queue", fix="aiwm queue list")
    return tasks.TaskAck(id="t-10099", state="pending")


@answers(tasks.TaskCancel)
def _cancel(engine: ConsoleEngine, request: tasks.TaskCancel) -> tasks.Cancelled:
    for identifier in request.ids:
        engine.change("tasks", identifier, state="cancelled")
    return tasks.Cancelled(cancelled=list(request.ids), stopping=[], ended=[])


@answers(tasks.TaskRetry)
def _retry(engine: ConsoleEngine, request: tasks.TaskRetry) -> tasks.Retried:
    for identifier in request.ids:
        engine.change("tasks", identifier, state="pending")
    return tasks.Retried(retried=list(request.ids))


@answers(session.EngineStop)
def _stop(engine: ConsoleEngine, request: session.EngineStop) -> session.Stopping:
    return session.Stopping(mode=request.mode, running=0, waiting=0)
