"""The jobs of an operator's night, by the shell commands as they are written down, against a real engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.contract.requests.fleet import QueuePause
from engine.contract.requests.operations import OperationShow
from engine.contract.requests.tasks import TaskSubmit, TaskWait
from tests.support.engines import Engine, engine, make_queue, wait_until
from tests.support.shell import shell

SHIPPED = Path(__file__).parents[2] / "engine" / "inference" / "shipped" / "adapters"
FAILED_LAST_NIGHT = "state:failed ended>yesterday adapter:invoice-de@v3"


@pytest.fixture
def running(home: Path) -> Iterator[Engine]:
    with engine(home) as one:
        yield one


def _adapters(home: Path) -> None:
    """An adapter whose third version is damaged and whose fourth is whole."""
    for version in ("v3", "v4"):
        shutil.copytree(SHIPPED / "ticket-labels", home / "adapters" / f"invoice-de@{version}")
    (home / "adapters" / "invoice-de@v3" / "adapter_model.safetensors").write_bytes(b"damaged")


def test_job_1_why_is_nothing_moving(running: Engine, home: Path) -> None:
    assert "nothing is held" in shell(home, "why").out
    with running.client() as client:
        make_queue(client, "etl")
        client.call(QueuePause(name="etl", reason="the disk is full"))
        first = client.call(TaskSubmit(queue="etl")).id
        second = client.call(TaskSubmit(queue="etl", after=(first,))).id
    engine_ = shell(home, "why", "--json", code=1).json["data"]
    assert {gate["name"]: gate["count"] for gate in engine_["gates"] if gate["closed"]} == {"paused": 1, "after": 1}
    queue = shell(home, "why", ":queues etl", "--json", code=1).json["data"]
    (paused,) = [gate for gate in queue["gates"] if gate["name"] == "paused"]
    assert paused["fix"] == "aiwm queue resume etl"
    assert paused["since_ms"] > 0
    task = shell(home, "task", "explain", second, "--json").json["data"]
    assert "after" in [gate["name"] for gate in task["gates"] if gate["closed"]]
    shell(home, *paused["fix"].split()[1:])
    shell(home, "task", "wait", first, second, "--timeout", "30s")
    shell(home, "why")
    shell(home, "why", ":queues etl")
    assert shell(home, "why", ":pools etl", "--json").json["data"]["scope"] == "pool"
    assert shell(home, "why", ":models aiwm-nano", "--json").json["data"]["scope"] == "model"


def test_job_3_requeue_last_nights_failures_with_the_fixed_adapter(running: Engine, home: Path) -> None:
    _adapters(home)
    with running.client() as client:
        payload = {"prompt": "What is 2+3?", "max_tokens": 8, "adapters": [{"name": "invoice-de@v3"}]}
        ids = [client.call(TaskSubmit(queue="demo", payload=payload)).id for _ in range(4)]
        other = client.call(TaskSubmit(queue="demo", payload={"prompt": "x", "adapters": [{"name": "none"}]})).id
        client.call(TaskWait(ids=(*ids, other), timeout_ms=60_000))
        failures = shell(home, "failure", "list", "--json").json["data"]
        assert sorted(row["count"] for row in failures) == [1, 4]
        folded = next(row["id"] for row in failures if row["count"] == 4)
        assert shell(home, "failure", "show", folded, "--json").json["data"]["failed_now"] == 4
        assert shell(home, "task", "list", f"fail:{folded}", "--json").json["total"] == 4

        retry = (
            "task",
            "retry",
            "--where",
            FAILED_LAST_NIGHT,
            "--adapter",
            "invoice-de@v4",
            "--front",
            "--canary",
            "1",
        )
        plan = shell(home, *retry, "--dry-run", "--json").json
        assert (plan["v"], plan["kind"]) == (1, "plan")
        assert (plan["data"]["ids"], plan["data"]["count"]) == (ids, 4)
        assert set(plan["data"]["cost"]) >= {"tokens_in", "tokens_out"}
        done = shell(home, *retry, "--yes", "--json").json["data"]
        assert (done["retried"], done["held"]) == (ids[:1], 3)
        wait_until(lambda: client.call(OperationShow(id=done["operation"])).row.state == "done", "the rest followed")
        shell(home, "task", "wait", *ids, "--timeout", "60s")
        assert shell(home, "view", ":tasks adapter:invoice-de@v4 state:completed", "--json").json["total"] == 4
        assert shell(home, "task", "show", other, "--json").json["data"]["row"]["attempt"] == 1


def test_job_3_is_not_repeated_for_the_rest_when_the_first_fails_again(running: Engine, home: Path) -> None:
    with running.client() as client:
        payload = {"prompt": "x", "adapters": [{"name": "invoice-de@v3"}]}
        ids = [client.call(TaskSubmit(queue="demo", payload=payload)).id for _ in range(3)]
        client.call(TaskWait(ids=tuple(ids), timeout_ms=60_000))
        retry = ("task", "retry", "--where", FAILED_LAST_NIGHT, "--adapter", "invoice-de@v9", "--canary", "1", "--yes")
        operation = shell(home, *retry, "--json").json["data"]["operation"]
        wait_until(lambda: client.call(OperationShow(id=operation)).row.state == "held", "the rest is held")
        assert "stay as they were" in shell(home, "operation", "show", operation).out
        tries = [shell(home, "task", "show", it, "--json").json["data"]["row"]["attempt"] for it in ids]
        assert tries == [2, 1, 1]


def test_job_4_who_used_so_many_tokens(running: Engine, home: Path) -> None:
    shell(home, "task", "run", "demo", "--prompt", "What is 2+3?")
    usage = shell(home, "usage", "--by", "submitter", "--since", "1h", "--json").json["data"]
    (row,) = usage
    assert row["name"] == "operator"
    assert row["tokens_in"] > 0
    assert row["tokens_out"] > 0
    for by in ("definition", "queue", "adapter", "agent", "batch"):
        assert shell(home, "usage", "--by", by, "--since", "1h", "--json").json["kind"] == "usages"
    view = shell(home, "view", ":tasks by:operator sort:-tokens", "--json").json
    assert view["total"] == 1
    shell(home, "usage", "--by", "moon", code=2)


def test_job_6_quiet_the_machine_and_go_on(home: Path) -> None:
    with engine(home) as first:
        drained = shell(home, "engine", "drain", "--reason", "driver", "--wait", "10m", "--json").json["data"]
        assert drained["running"] == []
        task = shell(home, "task", "submit", "echo").out.strip()
        why = shell(home, "task", "explain", task, "--json").json["data"]
        assert "driver" in json.dumps(why)
        first.stop()
    with engine(home):
        assert shell(home, "task", "show", task, "--json").json["data"]["row"]["state"] == "pending"
        shell(home, "engine", "resume")
        shell(home, "task", "wait", task, "--timeout", "30s")


def test_job_9_many_prompts_through_the_model_in_order(running: Engine, home: Path, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"max_tokens": {"default": 8}}, "required": ["prompt"]}
    template = ("template", "create", "invoice", "--definition", "nano", "--payload-schema", json.dumps(schema))
    shell(home, *template)
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"id": n, "prompt": f"What is {n}+{n}?"}) + "\n" for n in range(40)))
    submit = ("task", "submit", "demo", "--file", str(source), "--template", "invoice", "--key", "id")
    shell(home, *submit, "--batch", "b-0412", "--priority", "3")
    shell(home, "batch", "wait", "b-0412", "--out", str(out))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["key"] for row in rows] == [str(n) for n in range(40)]
    assert all(row["result"]["text"] for row in rows)
    assert shell(home, "view", ":tasks batch:b-0412 template:invoice priority:3", "--json").json["total"] == 40


def test_job_10_what_happened_overnight_and_what_did_i_change(running: Engine, home: Path) -> None:
    with running.client() as client:
        make_queue(client, "etl")
        client.call(QueuePause(name="etl"))
        task = client.call(TaskSubmit(queue="etl")).id
        lost = client.call(TaskSubmit(queue="demo", payload={"prompt": "x", "adapters": [{"name": "none"}]})).id
        client.call(TaskWait(ids=(lost,), timeout_ms=60_000))
    cancelled = shell(home, "task", "cancel", task, "--reason", "not mine", "--json").json["data"]
    events = shell(home, "events", "search", "--since", "22:00", "--level", "error,ask,audit", "--json").json["data"]
    assert {event["type"] for event in events} >= {"task.failed", "task.cancel", "queue.pause"}
    assert {event["level"] for event in events} <= {"error", "ask", "audit"}
    (audit,) = [event for event in events if event["about"] == cancelled["operation"]]
    assert "not mine" in audit["text"]
    related = shell(home, "events", "search", "--correlation", cancelled["operation"], "--json").json["data"]
    assert {event["type"] for event in related} == {"task.cancel", "task.cancelled", "operation.done"}
    report = shell(home, "report", "--since", "22:00", "--json").json["data"]
    assert (report["failed"], report["cancelled"]) == (1, 1)
    assert cancelled["operation"] in [line["about"] for line in report["did"]]
    assert [failure["code"] for failure in report["failures"]] == ["adapter_not_found"]
    page = shell(home, "report", "--since", "22:00").out
    assert "failed by cause" in page
    assert "operators did" in page
    shell(home, "undo", cancelled["operation"])
    assert shell(home, "task", "show", task, "--json").json["data"]["row"]["state"] == "pending"
    assert shell(home, "operation", "list", "--json").json["data"][0]["state"] == "undone"
