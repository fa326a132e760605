"""Answers about instances that are talked to, and about approvals."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.records import ChatTurn, InstanceDetail
from engine.contract.records.approvals import ApprovalRow
from engine.contract.requests import approvals, instances
from tests.support.console_engine import NOW, ConsoleEngine, answers
from tests.support.rows import instance_row


def turn(number: int, message: str, text: str, **changes: Any) -> ChatTurn:
    fields: dict[str, Any] = {
        "n": number,
        "at_ms": NOW,
        "message": message,
        "text": text,
        "reason": "stop",
        "tokens_in": 20,
        "tokens_out": 8,
        "context": 28 * number,
    }
    return ChatTurn(**(fields | changes))


def approval_row(number: int = 1, **changes: Any) -> ApprovalRow:
    fields: dict[str, Any] = {
        "id": f"ap-{number}",
        "state": "pending",
        "method": "model.unload",
        "params": {"process": "llama8.0", "mode": "drain"},
        "by": "agent:healing",
        "why": "GPU1 was full 3 times this hour",
        "asked_ms": NOW - 360_000,
        "expires_ms": NOW + 1_440_000,
        "task": "t-10001",
    }
    return ApprovalRow(**(fields | changes))


@answers(instances.InstanceShow)
def _show(engine: ConsoleEngine, request: instances.InstanceShow) -> InstanceDetail:
    row = engine.row("instances", request.id)
    return InstanceDetail(row=row, tokens_in=1_204, tokens_out=388, cost_usd=0.0012, turns=engine.turns.get(row.id, ()))


@answers(instances.InstanceSpawn)
def _spawn(engine: ConsoleEngine, request: instances.InstanceSpawn) -> InstanceDetail:
    row = instance_row(20, pool="", definition=request.definition, state="idle", task=None, done=0, spawned_ms=NOW)
    engine.put("instances", row)
    return InstanceDetail(row=row)


@answers(instances.InstanceChat)
def _chat(engine: ConsoleEngine, request: instances.InstanceChat) -> ChatTurn:
    before = engine.turns.get(request.id, ())
    made = turn(len(before) + 1, request.message, f"You said: {request.message}")
    engine.turns[request.id] = (*before, made)
    engine.change("instances", request.id, done=made.n, context=made.context, context_max=512)
    return made


@answers(instances.InstanceStop)
def _stop(engine: ConsoleEngine, request: instances.InstanceStop) -> None:
    return None


@answers(instances.InstanceRetire)
def _retire(engine: ConsoleEngine, request: instances.InstanceRetire) -> InstanceDetail:
    engine.remove("instances", request.id)
    return InstanceDetail()


@answers(approvals.ApprovalApprove, approvals.ApprovalReject)
def _decide(engine: ConsoleEngine, request: Any) -> ApprovalRow:
    state = "done" if isinstance(request, approvals.ApprovalApprove) else "rejected"
    row: ApprovalRow = msgspec.structs.replace(
        engine.row("approvals", request.id), state=state, decided_by="ana", decided_ms=NOW
    )
    engine.put("approvals", row)
    return row
