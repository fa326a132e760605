"""Rate limits on a real engine: two calls a minute, the third waits with the time at which it may go; a kill -9 gives nothing back."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from engine.client import BlockingClient
from engine.contract.definitions import RateLimits, WorkerDefinition
from engine.contract.errors import AiwmError
from engine.contract.requests.fleet import WorkerReload
from engine.contract.requests.instances import InstanceChat, InstanceSpawn
from engine.contract.requests.limits import LimitsShow
from engine.contract.requests.tasks import TaskExplain, TaskSubmit, TaskWait
from tests.support.cli import in_process
from tests.support.engines import Engine, engine, make_queue


def _define(client: BlockingClient, home: Path, calls: int) -> None:
    file = home / "ai_worker_definitions.json"
    kept = [
        WorkerDefinition(name="nano", model="aiwm-nano"),
        WorkerDefinition(name="echo", kind="template"),
        WorkerDefinition(name="slow", model="aiwm-nano", limits=RateLimits(requests_per_minute=calls)),
    ]
    file.write_bytes(msgspec.json.encode(kept))
    reloaded = client.call(WorkerReload())
    assert reloaded.errors == []


def _ask(client: BlockingClient, question: str) -> str:
    return client.call(TaskSubmit(queue="slow", payload={"prompt": question})).id


def test_the_third_of_two_a_minute_waits_and_goes_on_after(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aiwm = in_process(capsys)
    with engine(home) as running, running.client() as client:
        _define(client, home, 2)
        make_queue(client, "slow", definition="slow", instances=2)
        done = client.call(
            TaskWait(ids=(_ask(client, "What is 2+2?"), _ask(client, "What is 1+1?")), timeout_ms=30_000)
        )
        assert [outcome.state for outcome in done] == ["completed", "completed"]
        third = _ask(client, "What is 3+3?")
        why = client.call(TaskExplain(id=third))
        (gate,) = [gate for gate in why.gates if gate.closed]
        now = time.time() * 1000
        assert gate.name == "rate"
        assert gate.opens_ms is not None
        assert now < gate.opens_ms <= now + 61_000
        limits = client.call(LimitsShow(name="slow"))
        assert (limits.state, limits.requests_per_minute.used, limits.requests_per_minute.limit) == ("limited", 2, 2)
        shown = aiwm("worker", "limits", "slow", "--home", str(home))
        assert "2/2" in shown.out

        # A chat of the same definition would wait as long, or be told at once.
        detail = client.call(InstanceSpawn(definition="slow"))
        assert detail.row is not None
        with pytest.raises(AiwmError, match="2 requests per minute") as caught:
            client.call(InstanceChat(id=detail.row.id, message="hello", wait_ms=0))
        assert caught.value.code == "rate_limited"

        _define(client, home, 20)
        (outcome,) = client.call(TaskWait(ids=(third,), timeout_ms=30_000))
        assert outcome.state == "completed"


def test_what_was_used_is_used_after_a_kill(home: Path) -> None:
    first = Engine(home)
    try:
        with first.client() as client:
            _define(client, home, 2)
            make_queue(client, "slow", definition="slow", instances=1)
            ids = (_ask(client, "What is 2+2?"), _ask(client, "What is 1+1?"))
            client.call(TaskWait(ids=ids, timeout_ms=30_000))
            before = client.call(LimitsShow(name="slow"))
    finally:
        first.kill()
    with engine(home) as second, second.client() as client:
        after = client.call(LimitsShow(name="slow"))
        assert (after.requests_per_minute.used, after.tokens_per_day.used) == (
            before.requests_per_minute.used,
            before.tokens_per_day.used,
        )
        third = _ask(client, "What is 3+3?")
        (outcome,) = client.call(TaskWait(ids=(third,), timeout_ms=300))
        assert outcome.state == "pending"
        assert [gate.name for gate in client.call(TaskExplain(id=third)).gates if gate.closed] == ["rate"]
