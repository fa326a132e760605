"""Calls that wait for a person, with real engines: parked, approved once, rejected, expired."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.client import BlockingClient
from engine.contract.errors import AiwmError, Code
from engine.contract.records import EventRow
from engine.contract.records.approvals import ApprovalRow
from engine.contract.requests.approvals import ApprovalApprove, ApprovalList, ApprovalReject, ApprovalShow
from engine.contract.requests.fleet import QueuePause
from engine.contract.requests.session import ViewRead
from engine.contract.requests.tasks import TaskRun, TaskShow, TaskSubmit
from tests.support.cli import Run
from tests.support.engines import engine, wait_until
from tests.support.house import House


def _parked(house: House, client: BlockingClient) -> tuple[str, ApprovalRow]:
    """A waiting task, and the approval of its cancelling, as a task of `boss` asked for it."""
    client.call(QueuePause(name="rich"))
    victim = client.call(TaskSubmit(queue="rich")).id
    outcome = client.call(
        TaskRun(
            queue="boss", payload={"calls": [{"tool": "task_cancel", "args": {"ids": [victim]}}]}, timeout_ms=30_000
        )
    )
    (said,) = outcome.result["said"]  # type: ignore[index]
    assert said[:3] == ["approval", "policy", False]
    row = client.call(ApprovalList())[-1]
    assert row.id in said[3]
    assert row.by == f"task:{outcome.id}"
    assert (row.task, row.method, row.params["ids"], row.state) == (outcome.id, "task.cancel", [victim], "pending")
    return victim, row


def _state(client: BlockingClient, task: str) -> str:
    return client.call(TaskShow(id=task)).row.state


def test_a_parked_request_survives_a_kill_and_is_made_once_when_approved(
    tmp_path: Path, caller_kind: dict[str, str], home: Path
) -> None:
    with engine(home, environment=caller_kind) as running, running.client() as client:
        House(running, client, tmp_path / "nowhere").build_plain()
        victim, row = _parked(House(running, client, tmp_path), client)
        assert _state(client, victim) == "pending"
        needs = client.call(ViewRead(location=":needs", size=50)).rows
        assert [need["id"] for need in needs if need["state"] == "asks"] == [row.id]
        assert client.call(ViewRead(location=":machine")).rows[0]["asks"] == 1
        running.kill()
    with engine(home, environment=caller_kind) as running, running.client() as client:
        assert [it.id for it in client.call(ApprovalList())] == [row.id]
        done = client.call(ApprovalApprove(id=row.id, reason="go on"))
        assert (done.state, done.decided_by, done.reason) == ("done", "operator", "go on")
        assert done.result["cancelled"] == [victim]
        assert _state(client, victim) == "cancelled"
        assert client.call(ApprovalList()) == []
        assert client.call(ViewRead(location=":machine")).rows[0].get("asks", 0) == 0
        for again in (ApprovalApprove(id=row.id), ApprovalReject(id=row.id)):
            with pytest.raises(AiwmError, match="decided once") as refused:
                client.call(again)
            assert refused.value.code == Code.conflict
        audit = [EventRow(**it) for it in client.call(ViewRead(location=":events type:task.cancel", size=9)).rows]
        assert [event.who for event in audit] == [row.by], "on behalf of whoever asked"


def test_a_rejected_request_is_never_made(house: House, in_house: Run) -> None:
    victim, row = _parked(house, house.client)
    assert row.id in in_house("approval", "list").out
    ran = in_house("approval", "reject", row.id, "--reason", "not now", "--json")
    assert ran.json["data"]["state"] == "rejected"
    assert in_house("approval", "approve", row.id).code == 1
    assert _state(house.client, victim) == "pending"
    shown = house.client.call(ApprovalShow(id=row.id))
    assert (shown.reason, shown.decided_by) == ("not now", "operator")


def test_a_request_that_nobody_decides_on_expires(tmp_path: Path, caller_kind: dict[str, str], home: Path) -> None:
    environment = {**caller_kind, "AIWM_TOOLS__APPROVAL_MS": "1500"}
    with engine(home, environment=environment) as running, running.client() as client:
        House(running, client, tmp_path / "nowhere").build_plain()
        victim, row = _parked(House(running, client, tmp_path), client)
        wait_until(lambda: client.call(ApprovalShow(id=row.id)).state == "expired", "the approval expires")
        with pytest.raises(AiwmError):
            client.call(ApprovalApprove(id=row.id))
        assert _state(client, victim) == "pending"
